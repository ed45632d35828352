"""The book of promises: how each stood on every day, and what is left of its error budget.

Concept: a promise and a business day have one row. The budget is the number of days of the window on which the promise
may be seen broken; a day on which nobody looked is neither good nor bad.

Invariants:
- A day is good only if the promise was never seen broken on it: the first broken reading of a day stays, a held one
  gives way to it. So recording the same readings again, or in another order within their kind, changes nothing.
- Readings are recorded in one transaction: a process killed at any moment leaves all of them or none.
- Unknown readings leave no row: before the first thing exists, no day is counted.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import sqlalchemy as sa

from ml_platform.calendar import DAY
from ml_platform.database import Database, Holding, Migration
from ml_platform.errors import PlatformError
from ml_platform.killpoints import kill_point
from ml_platform.monitoring.promises import Promise, Reading


class PromisesUnavailable(PlatformError):
    """The book of promises cannot be opened, read or written."""


class PromisesTooNew(PlatformError):
    """The book of promises was written by a newer release; reading it with this one could misread it."""


HOLDING = Holding(
    name="the book of promises",
    variable="ML_PLATFORM_ALERTS_URL",  # it shares the database of the book of alerts, in tables of its own
    versions="slo_schema_version",
    writer_lock=0x6D6C706E,  # the ledger's and two
    unavailable=PromisesUnavailable,
    too_new=PromisesTooNew,
)


def _first(_: str) -> list[str]:
    return [
        """create table slo_days (
            promise text not null, day text not null, held integer not null check (held in (0, 1)),
            newest text, lag_days integer, trouble text not null, recorded_at text not null,
            primary key (promise, day))""",
        "create index slo_days_by_day on slo_days (day)",
    ]


MIGRATIONS: tuple[Migration, ...] = (Migration(1, _first),)
_RECORD = sa.text(
    """
    insert into slo_days (promise, day, held, newest, lag_days, trouble, recorded_at)
    values (:promise, :day, :held, :newest, :lag_days, :trouble, :recorded_at)
    on conflict (promise, day) do update
    set held = 0, newest = excluded.newest, lag_days = excluded.lag_days, trouble = excluded.trouble,
        recorded_at = excluded.recorded_at
    where slo_days.held = 1 and excluded.held = 0
    """
)


@dataclass(frozen=True)
class Standing:
    """How a promise stands. `history`: a reading a day of the window on which someone looked, oldest first, today's
    included. `since`: the first day of the present break, None while it is not broken."""

    reading: Reading
    history: tuple[Reading, ...]
    since: date | None

    @property
    def promise(self) -> Promise:
        return self.reading.promise

    @property
    def days_seen(self) -> int:
        return len(self.history)

    @property
    def days_broken(self) -> int:
        return sum(each.held is False for each in self.history)

    @property
    def budget_days(self) -> float:
        return self.promise.budget_days

    @property
    def budget_left(self) -> float:
        """Days of the window that may still be broken; below zero, the objective is missed."""
        return round(self.budget_days - self.days_broken, 6)

    def row(self) -> dict[str, Any]:
        """For a table or JSON; days of the calendar as text."""
        reading, promise = self.reading, self.promise
        return {
            "promise": promise.name,
            "state": reading.state,
            "newest": _text(reading.newest),
            "lag_days": reading.lag_days,
            "within_days": promise.within_days,
            "budget_left": self.budget_left,
            "budget_days": self.budget_days,
            "days_broken": self.days_broken,
            "days_seen": self.days_seen,
            "since": _text(self.since),
            "severity": promise.severity,
            "owner": promise.owner,
            "promised": promise.promised,
            "found": reading.found,
            "runbook": promise.runbook,
        }


class SloBook:
    """Opens the book at a SQLAlchemy URL (`sqlite:///path` or `postgresql+psycopg2://…`), made or migrated as needed.

    Raises PromisesTooNew, PromisesUnavailable, or ConfigurationError for a URL or driver that cannot serve. `clock`
    says when a reading was written down; its day is its own.
    """

    def __init__(self, url: str, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._database = Database(url, HOLDING)
        self.where = self._database.where
        self._clock = clock
        self._database.migrate(MIGRATIONS, clock())

    def record(self, readings: Sequence[Reading]) -> None:
        """Keeps what is known of each promise's day; the same again changes nothing."""
        now = self._clock().isoformat()
        rows = [_row(each) | {"recorded_at": now} for each in readings if each.held is not None]
        if not rows:
            return
        with self._database.writing() as connection:
            connection.execute(_RECORD, rows)
            kill_point("slo.recording")
        kill_point("slo.recorded")

    def standing(self, reading: Reading) -> Standing:
        """How the promise of this reading stands, counted as if the reading had been recorded. Records nothing."""
        return self.standings([reading])[0]

    def standings(self, readings: Sequence[Reading]) -> list[Standing]:
        """As `standing`, for all of them in one look, in their order."""
        if not readings:
            return []
        first = min(each.day - (each.promise.window_days - 1) * DAY for each in readings)
        chosen = sa.text("select * from slo_days where day >= :first and day <= :last order by day")
        days = {"first": first.isoformat(), "last": max(each.day for each in readings).isoformat()}
        kept: dict[str, list[sa.Row]] = {}
        with self._database.reading() as connection:
            for row in connection.execute(chosen, days):
                kept.setdefault(row.promise, []).append(row)
        return [_standing(each, kept.get(each.promise.name, [])) for each in readings]


def _standing(reading: Reading, rows: Sequence[sa.Row]) -> Standing:
    first = reading.day - (reading.promise.window_days - 1) * DAY
    recorded = [_reading(reading.promise, row) for row in rows]
    before = [each for each in recorded if first <= each.day < reading.day]
    today = next((each for each in recorded if each.day == reading.day), reading)
    if today.held and reading.held is False:
        today = reading
    history = before if today.held is None else [*before, today]
    return Standing(reading, tuple(history), _since(reading, before))


def _since(reading: Reading, before: Sequence[Reading]) -> date | None:
    """The lag says how long this break lasts at least; the days before say whether it had begun with a longer one."""
    since = reading.since
    if since is None:
        return None
    for each in reversed(before):
        if each.held or each.since is None:
            break
        since = min(since, each.since)
    return since


def _row(reading: Reading) -> dict[str, Any]:
    return {
        "promise": reading.promise.name,
        "day": reading.day.isoformat(),
        "held": int(bool(reading.held)),
        "newest": _text(reading.newest),
        "lag_days": reading.lag_days,
        "trouble": reading.trouble,
    }


def _reading(promise: Promise, row: sa.Row) -> Reading:
    newest = row.newest and date.fromisoformat(row.newest)
    return Reading(promise, date.fromisoformat(row.day), newest, row.lag_days, bool(row.held), row.trouble)


def _text(day: date | None) -> str | None:
    return None if day is None else day.isoformat()
