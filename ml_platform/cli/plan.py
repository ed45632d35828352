"""Which runs are due: a pure function of what has landed and what is there already.

A run may not mix partition definitions, so there are at most three, in this order: the landing days, the Mondays of
features, and the newest Monday of the models' life cycle with what has no partitions. A Monday is ready when every day
before it has landed.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal

from ml_platform.calendar import CLOSING_DAY, DAY, FIRST_AS_OF, LAST_AS_OF, OPENING_DAY, days, mondays, parse_day
from ml_platform.errors import PlatformError

Cadence = Literal["daily", "weekly", "none"]
LIFECYCLE = ("models", "predictions", "monitoring")
"""First parts of the keys of assets made for the newest Monday only; older ones stay as they were made."""


class NothingToRun(PlatformError):
    """The plan asked for cannot hold: nothing landed, nothing selected, or no such partition."""


@dataclass(frozen=True)
class AssetState:
    """An asset as planning sees it: `made` are its materialised partition keys, `upstream` the keys it reads."""

    key: str
    cadence: Cadence
    made: Collection[str] = ()
    upstream: Collection[str] = ()

    @property
    def in_lifecycle(self) -> bool:
        return self.cadence == "none" or self.key.split("/")[0] in LIFECYCLE


@dataclass(frozen=True)
class PlannedRun:
    """One run over the partitions first..last (both None without partitions). No assets: nothing is due, see `why`."""

    name: str
    assets: tuple[str, ...]
    first: str | None
    last: str | None
    why: str

    @property
    def due(self) -> bool:
        return bool(self.assets)

    def row(self) -> dict[str, Any]:
        """For a table or JSON."""
        span = self.first if self.first == self.last else f"{self.first} … {self.last}"
        return {"run": self.name, "assets": len(self.assets), "partitions": span, "why": self.why}


def plan_runs(
    assets: Sequence[AssetState], landed_through: date | None, *, partition: str | None = None, force: bool = False
) -> list[PlannedRun]:
    """The runs for these assets, due or not, in order. Raises NothingToRun, or NotADay for a malformed partition."""
    if not assets:
        raise NothingToRun("the selection names no asset", where="mlp run", next_step="see `mlp run --help`")
    if landed_through is None:
        raise NothingToRun(
            "nothing has landed yet",
            where="landing",
            next_step="mlp land --until 2017-12-31, or wait until each external table has a whole day",
        )
    first, last = _span(partition) if partition else (OPENING_DAY, CLOSING_DAY)
    last_day = min(landed_through, last)
    all_days = [day.isoformat() for day in days(max(first, OPENING_DAY), last_day)]
    ready = min(landed_through + DAY, LAST_AS_OF, last)
    all_mondays = [day.isoformat() for day in mondays(max(first, FIRST_AS_OF), ready)]
    force = force or partition is not None
    groups = (
        ("days", [a for a in assets if a.cadence == "daily"], all_days),
        ("features", [a for a in assets if a.cadence == "weekly" and not a.in_lifecycle], all_mondays),
    )
    runs = [_range(name, members, keys, force) for name, members, keys in groups if members]
    lifecycle = [a for a in assets if a.in_lifecycle]
    if lifecycle:
        runs.append(_lifecycle(lifecycle, all_mondays[-1:], force))
    if partition and not any(run.due for run in runs):
        raise NothingToRun(
            f"no selected asset has the partition {partition}",
            where="mlp run --partition",
            next_step=f"days have landed until {landed_through}; features and models go by Mondays from {FIRST_AS_OF}",
        )
    return runs


def _span(partition: str) -> tuple[date, date]:
    first, _, last = partition.partition("..")
    return parse_day(first), parse_day(last or first)


def _range(name: str, members: list[AssetState], keys: list[str], force: bool) -> PlannedRun:
    """Who lacks a partition, and who reads them, from the first that is missing to the last: contiguous, so one run."""
    missing = keys if force else [key for key in keys if any(key not in member.made for member in members)]
    if not missing:
        why = f"up to date through {keys[-1]}" if keys else "no partition is ready"
        return PlannedRun(name, (), None, None, why)
    why = "asked for" if force else f"{len(missing)} of {len(keys)} missing"
    due = {a.key for a in members if force or any(key not in a.made for key in missing)}
    return PlannedRun(name, tuple(sorted(_with_readers(due, members))), missing[0], keys[-1], why)


def _with_readers(due: set[str], members: list[AssetState]) -> set[str]:
    """The due assets and, of the members, all that read them, however far down."""
    due = set(due)
    while more := {a.key for a in members if a.key not in due and due.intersection(a.upstream)}:
        due |= more
    return due


def _lifecycle(members: list[AssetState], newest: list[str], force: bool) -> PlannedRun:
    """What the newest Monday lacks, and everything after it. What has no partitions goes with what is beside it."""
    if not newest and any(a.cadence == "weekly" for a in members):
        return PlannedRun("models", (), None, None, "no Monday is ready")
    weekly = [a for a in members if a.cadence == "weekly"]
    if force or not weekly:
        due = {a.key for a in members if force or not a.made}
    else:
        due = {a.key for a in weekly if newest[0] not in a.made}
        due |= {
            a.key for a in members if a.cadence == "none" and any(a.key in w.upstream for w in weekly if w.key in due)
        }
        due = _with_readers(due, members)
    monday = newest[0] if weekly else None
    if not due:
        return PlannedRun("models", (), None, None, f"up to date for {monday}" if monday else "up to date")
    return PlannedRun("models", tuple(sorted(due)), monday, monday, "asked for" if force else "newest Monday")
