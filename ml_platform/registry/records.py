"""What the ledger holds: versions, verdicts, entries and waivers, as frozen records, and its typed errors.

Only the standard library is imported, so that the graph can name these types at no cost.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import date, datetime
from typing import Any, Literal

from ml_platform.errors import PlatformError

Action = Literal["promote", "rollback"]


@dataclass(frozen=True)
class ModelVersion:
    """One trained artifact of a model. `version` counts from 1 per model; one bundle digest is one version.

    `run_id` is the Dagster run that trained it, `tracking_run_id` that attempt's MLflow run.
    """

    model: str
    version: int
    bundle_digest: str
    bundle_uri: str
    cutoff: date
    training_set_digest: str
    spec_digest: str
    run_id: str
    tracking_run_id: str | None
    registered_at: datetime


@dataclass(frozen=True)
class RecordedVerdict:
    """What an evaluation said of a version. `seq` counts from 1 per version; the newest one counts.

    `champion_version` is the champion the version was judged against, None where there was none. `body` is the
    verdict's own JSON; read of it are `artifact_digest`, `champion_digest`, `gates` (`[{name, passed, …}]`), `metrics`.
    """

    model: str
    version: int
    seq: int
    digest: str
    champion_version: int | None
    body: Mapping[str, Any]
    recorded_at: datetime

    @property
    def artifact_digest(self) -> str:
        return self.body["artifact_digest"]

    @property
    def gates(self) -> dict[str, bool]:
        """Gate name to whether it passed, in the order of the verdict."""
        return {gate["name"]: gate["passed"] is True for gate in self.body["gates"]}


@dataclass(frozen=True)
class Waiver:
    """A named person lets a version past one failed gate, for a reason, until a day (inclusive)."""

    gate: str
    person: str
    reason: str
    until: date

    def to_json(self) -> dict[str, str]:
        return {**asdict(self), "until": self.until.isoformat()}

    @classmethod
    def from_json(cls, stated: Mapping[str, str]) -> "Waiver":
        return cls(stated["gate"], stated["person"], stated["reason"], date.fromisoformat(stated["until"]))


@dataclass(frozen=True)
class Entry:
    """One change of champion. `seq` counts from 1 per model, without gaps; the newest entry names the champion."""

    model: str
    seq: int
    action: Action
    from_version: int | None
    to_version: int
    who: str
    reason: str
    evidence_digest: str
    waivers: tuple[Waiver, ...]
    recorded_at: datetime


@dataclass(frozen=True)
class Retirement:
    """A challenger that its trial turned down. `evidence` is the trial's paired result against that champion."""

    model: str
    version: int
    champion_version: int
    who: str
    reason: str
    evidence: Mapping[str, Any]
    recorded_at: datetime


def canonical_json(value: object) -> str:
    """The one spelling of a JSON value that digests are taken of. Raises ValueError for NaN and infinities."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


class LedgerUnavailable(PlatformError):
    """The ledger's database cannot be opened, read or written."""


class LedgerTooNew(PlatformError):
    """The ledger was written by a newer release; reading it with this one could misread it."""


class UnknownVersion(PlatformError):
    """The model has no such version."""


class VerdictRejected(PlatformError):
    """The verdict cannot be recorded: it lacks what a verdict says, or speaks of another artifact."""


class PromotionConflict(PlatformError):
    """Someone else changed the champion first. `winner` is the entry that stands in the place asked for."""

    def __init__(self, winner: Entry) -> None:
        self.winner = winner
        super().__init__(
            f"{winner.who} changed the champion of {winner.model} first: "
            f"{winner.action} to version {winner.to_version} at {winner.recorded_at:%Y-%m-%d %H:%M:%S} UTC",
            where=f"ledger entry {winner.model}/{winner.seq}",
            next_step=f"read `mlp history {winner.model}`, and ask again if the change is still wanted",
        )


class PromotionRefused(PlatformError):
    """The version may not become champion. `gates` are the failed gates that no valid waiver covers."""

    def __init__(self, what: str, *, where: object, next_step: str, gates: tuple[str, ...] = ()) -> None:
        self.gates = gates
        super().__init__(what, where=where, next_step=next_step)


class RollbackRefused(PlatformError):
    """There is no earlier champion to go back to, or the named version never was one."""
