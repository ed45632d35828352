"""What happened and is over as soon as it did: refusals, promotions, retirements, rollbacks, an alias moved by hand.

The ledger is read whole at each tick and every entry of it has one key, so each is told once, whoever was down when.
MLflow is looked at seldom (importing it costs seconds): what was seen last is kept in a `Memory`, the sensor's cursor.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import dagster as dg

from assets.common import model_key
from ml_platform.alerts.records import Condition, Kind, Severity
from ml_platform.errors import PlatformError
from ml_platform.registry.records import Entry, RecordedVerdict, Retirement
from ml_platform.training.spec import ModelSpec
from resources import TrackingResource
from sensors.conditions import asset_link

if TYPE_CHECKING:
    from ml_platform.registry.ledger import Ledger

FORMAT_VERSION = 1
TICKS_BETWEEN_LOOKS = 60
VERSIONS_LOOKED_AT = 20  # the newest, for their verdicts: as many trainings may happen while nobody looks


class CursorUnreadable(PlatformError):
    """The sensor's cursor is torn, or was written by another release."""


@dataclass(frozen=True)
class Seen:
    """MLflow's alias of a model when it was looked at last, and how many entries the ledger had then."""

    entries: int
    alias: str | None


@dataclass(frozen=True)
class Memory:
    """What the sensor keeps from tick to tick; without it nothing is lost but the last look at MLflow.

    `ticked_at`, `awake_since`: its last tick, and the first one of the row without a long pause (ISO 8601).
    `ticks_to_look`: after how many ticks MLflow is looked at again. `trouble`: why it could not be, else empty.
    """

    ticked_at: str | None = None
    awake_since: str | None = None
    ticks_to_look: int = 0
    looks: int = 0
    trouble: str = ""
    aliases: Mapping[str, Seen] = field(default_factory=dict)

    @classmethod
    def read(cls, cursor: str | None) -> "Memory":
        """Raises CursorUnreadable."""
        if not cursor:
            return cls()
        try:
            stated = json.loads(cursor)
            version = stated.pop("format_version")
            if version != FORMAT_VERSION:
                raise ValueError(f"format version {version!r}")
            seen = {model: Seen(**each) for model, each in stated.pop("aliases").items()}
            read = cls(**stated, aliases=seen)
            for instant in (read.ticked_at, read.awake_since):
                if instant is not None and datetime.fromisoformat(instant).tzinfo is None:
                    raise ValueError(f"{instant} says no time zone")
            if not all(type(number) is int for number in (read.ticks_to_look, read.looks)):
                raise ValueError("a count is no number")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CursorUnreadable(
                f"it cannot be read ({type(error).__name__}: {error})",
                where="the cursor of the sensor alerts",
                next_step="nothing: it is begun anew, and what was told stays told",
            ) from None
        return read

    def written(self) -> str:
        return json.dumps({"format_version": FORMAT_VERSION, **asdict(self)})


def ledger_events(book: "Ledger", spec: ModelSpec) -> list[Condition]:
    """Everything the ledger says of a model that people are told once, oldest first."""
    verdicts = [book.verdict(spec.name, each.version) for each in book.versions(spec.name)[-VERSIONS_LOOKED_AT:]]
    told = [
        *(_of_entry(spec, entry) for entry in book.history(spec.name)),
        *(_of_retirement(spec, each) for each in book.retirements(spec.name)),
        *(_of_refusal(spec, each) for each in verdicts if each and not all(each.gates.values())),
    ]
    return sorted(told, key=lambda each: each.since)


def look_at_aliases(
    book: "Ledger", specs: Mapping[str, ModelSpec], tracking: TrackingResource, memory: Memory, at: datetime
) -> Iterator[Condition | Memory]:
    """When a look is due: what was moved by hand, each to be told *before* going on, as going on repairs it; at last
    the memory of this look. The alias of a ledger that changed meanwhile may lag behind, which is nobody's doing.
    """
    if memory.ticks_to_look > 0:
        yield replace(memory, ticks_to_look=memory.ticks_to_look - 1)
        return
    seen, trouble = dict(memory.aliases), ""
    try:
        for model, spec in specs.items():
            entries = len(book.history(model))
            if not entries:
                continue
            mlflow = tracking.open()
            before, known = mlflow.alias(model), seen.get(model)
            if known and known.entries == entries and before != known.alias:
                yield _of_alias(spec, f"{model} look {memory.looks} entries {entries}", before, known.alias, at)
            after = mlflow.project(book, model).alias_after
            if known is None and before not in (None, after):
                yield _of_alias(spec, f"{model} at {before} entries {entries}", before, after, at)
            seen[model] = Seen(entries, after)
    except Exception as error:  # MLflow is another's service: whatever it does, the other sources go on
        trouble = f"{type(error).__name__}: {error}"
    wait = TICKS_BETWEEN_LOOKS - 1 if seen or trouble else 0
    yield replace(memory, ticks_to_look=wait, looks=memory.looks + 1, trouble=trouble, aliases=seen)


def _of_entry(spec: ModelSpec, entry: Entry) -> Condition:
    back = entry.action == "rollback"
    came = f"from version {entry.from_version}" if entry.from_version else "as the first champion"
    waived = f"; waived: {', '.join(waiver.gate for waiver in entry.waivers)}" if entry.waivers else ""
    return _event(
        spec,
        f"{spec.name} entry {entry.seq}",
        "rollback" if back else "promotion",
        "page" if back else "info",
        f"{spec.name}: version {entry.to_version} {'is back' if back else 'was promoted'}, {came}",
        "the champion keeps what its evaluation promised" if back else "what serves has passed its gates",
        f"by {entry.who}: {entry.reason}{waived}",
        entry.recorded_at,
        "champion",
    )


def _of_retirement(spec: ModelSpec, retired: Retirement) -> Condition:
    return _event(
        spec,
        f"{spec.name} version {retired.version} retired",
        "promotion",
        "info",
        f"{spec.name}: the trial of version {retired.version} ended, version {retired.champion_version} stays",
        "a challenger is better than the champion on the weeks that both predicted",
        f"by {retired.who}: {retired.reason}",
        retired.recorded_at,
        "champion",
    )


def _of_refusal(spec: ModelSpec, verdict: RecordedVerdict) -> Condition:
    failed = [gate for gate in verdict.body["gates"] if gate.get("passed") is not True]
    return _event(
        spec,
        f"{spec.name} version {verdict.version} verdict {verdict.seq}",
        "gate",
        "info",
        f"{spec.name}: version {verdict.version} is refused by {', '.join(str(gate['name']) for gate in failed)}",
        f"all {len(verdict.gates)} gates are passed",
        "; ".join(map(_of_gate, failed)),
        verdict.recorded_at,
        "evaluation",
    )


def _of_gate(gate: Mapping[str, Any]) -> str:
    figure, threshold = (
        f"{value:.6g}" if isinstance(value, int | float) else "undefined"
        for value in (gate.get("figure"), gate.get("threshold"))
    )
    why = f" ({gate['explanation']})" if gate.get("explanation") else ""
    return f"{gate['name']}: figure {figure}, threshold {threshold}{why}"


def _of_alias(spec: ModelSpec, key: str, found: str | None, ours: str | None, at: datetime) -> Condition:
    return _event(
        spec,
        f"alias {key}",
        "alias",
        "ticket",
        f"{spec.name}: somebody moved the champion in MLflow",
        f"MLflow's alias stands where the ledger says: its version {ours}",
        f"it was at {f'version {found}' if found else 'no version'}, and is put back; what serves did not change",
        at,
        "champion",
    )


def _event(
    spec: ModelSpec,
    key: str,
    kind: Kind,
    severity: Severity,
    title: str,
    promised: str,
    found: str,
    since: datetime,
    stage: str,
) -> Condition:
    asset: dg.AssetKey = model_key(spec, stage)
    return Condition(
        key, kind, severity, spec.owner, asset.to_user_string(), title, promised, found, since, asset_link(asset)
    )
