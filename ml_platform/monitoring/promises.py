"""Promises about data and models, declared as data and measured on the injected clock.

Concept: a promise allows a lag of so many days; a reading is the lag that was found on a business day. Zero is as good
as it can be. What the lag counts, by the kind of promise:

    landed           since the landing day after the newest loaded one was over (so: all that landed is loaded)
    newest_event     since the day of the newest event (yesterday's is 1)
    as_of            since the Monday after the newest published one
    model_age        since the champion's cutoff
    prediction_age   since the Monday of the newest published predictions

Invariants:
- The newest there is decides, whenever it was made: filling in an old partition never turns a stale table green.
- What was never made is unknown, and not broken: nothing was due before the first thing exists.
- What cannot be read is broken, with the cause: a promise that nobody can check is not kept.

Only the standard library is imported, so that declaring a promise beside an asset costs nothing.
"""

import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, fields
from datetime import date
from typing import Literal, get_args

from ml_platform.calendar import DAY, NotADay, parse_day
from ml_platform.errors import ConfigurationError, PlatformError

Kind = Literal["landed", "newest_event", "as_of", "model_age", "prediction_age"]
Severity = Literal["page", "ticket", "info"]
State = Literal["held", "broken", "unknown"]

LONGEST_DAYS = 3660
_DUE_AFTER_DAYS = {"landed": 1, "newest_event": 0, "as_of": 7, "model_age": 0, "prediction_age": 0}
_ASSETS = {
    "landed": r"raw/[a-z][a-z0-9_]*",
    "newest_event": r"raw/[a-z][a-z0-9_]*",
    "as_of": r"[a-z][a-z0-9_]*/[a-z][a-z0-9_]*",
    "model_age": r"models/[a-z][a-z0-9_]*/champion",
    "prediction_age": r"predictions/[a-z][a-z0-9_]*",
}
_PROMISED = {
    "landed": "what lands is loaded within {}",
    "newest_event": "the newest event is at most {} old",
    "as_of": "a Monday is published within {}",
    "model_age": "the champion's cutoff is at most {} old",
    "prediction_age": "the newest predictions are at most {} old",
}
_FOUND = {
    "landed": "loaded through {newest}, {lag} behind",
    "newest_event": "the newest event is of {newest}, {lag} old",
    "as_of": "published through {newest}, the next is {lag} late",
    "model_age": "the champion's cutoff is {newest}, {lag} old",
    "prediction_age": "the newest predictions are of {newest}, {lag} old",
}


@dataclass(frozen=True)
class Terms:
    """What is promised, before it is said of which asset: the words next to a declaration.

    A lag of at most `within_days` days holds. At least `objective` of the last `window_days` days are to be days on
    which it was never seen broken; the rest is the error budget. Raises ConfigurationError for what cannot be promised.
    """

    kind: Kind
    within_days: int
    objective: float = 0.95
    window_days: int = 90
    severity: Severity = "ticket"

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise self._wrong("kind", f"{self.kind!r} is no kind of promise", f"one of: {', '.join(get_args(Kind))}")
        if self.severity not in get_args(Severity):
            raise self._wrong(
                "severity", f"{self.severity!r} is no severity", f"one of: {', '.join(get_args(Severity))}"
            )
        for name, lowest in (("within_days", 0), ("window_days", 1)):
            value = getattr(self, name)
            if type(value) is not int or not lowest <= value <= LONGEST_DAYS:
                raise self._wrong(name, f"{value!r} is not a number of days", f"{lowest} to {LONGEST_DAYS}")
        if not 0 < self.objective <= 1:
            raise self._wrong("objective", f"{self.objective!r} is no share of days", "above 0, at most 1")

    def of(self, asset: str, owner: str) -> "Promise":
        """These terms, promised of an asset by its owner."""
        return Promise(**{each.name: getattr(self, each.name) for each in fields(Terms)}, asset=asset, owner=owner)

    @property
    def budget_days(self) -> float:
        """How many days of the window may be broken."""
        return round(self.window_days * (1 - self.objective), 6)

    @property
    def promised(self) -> str:
        """The promise in a sentence."""
        return _PROMISED[self.kind].format(_days(self.within_days))

    def _wrong(self, field_name: str, what: str, next_step: str) -> ConfigurationError:
        return ConfigurationError(what, where=f"{type(self).__name__}.{field_name}", next_step=next_step)


@dataclass(frozen=True, kw_only=True)
class Promise(Terms):
    """A promise of an asset (`raw/transactions`) that its owner (`team:NAME` or an e-mail address) answers for."""

    asset: str
    owner: str

    def __post_init__(self) -> None:
        super().__post_init__()
        if not re.fullmatch(_ASSETS[self.kind], self.asset):
            raise self._wrong(
                "asset", f"{self.kind} cannot be promised of {self.asset!r}", f"form: {_ASSETS[self.kind]}"
            )
        if not re.fullmatch(r"team:[\w-]+|[^@\s]+@[^@\s]+", self.owner):
            raise self._wrong("owner", f"{self.owner!r} is no owner", "team:NAME or an e-mail address")

    @property
    def name(self) -> str:
        """`raw/transactions landed`: what the book and people know the promise by."""
        return f"{self.asset} {self.kind}"

    @property
    def alert_kind(self) -> Literal["slo", "freshness"]:
        """The kind of alert a broken promise is: stale data, or a model that grew too old."""
        return "slo" if self.kind == "model_age" else "freshness"

    @property
    def runbook(self) -> str:
        """The page for whoever is called, in the repository."""
        return f"docs/runbooks/{self.alert_kind}.md"


@dataclass(frozen=True)
class Reading:
    """What was found of a promise on a business day. `newest` and `lag_days` are None where there is nothing to read.

    `held` is None as long as nothing was ever made. `trouble` says why it could not be read, and then it is broken.
    """

    promise: Promise
    day: date
    newest: date | None
    lag_days: int | None
    held: bool | None
    trouble: str = ""

    @property
    def state(self) -> State:
        return "unknown" if self.held is None else "held" if self.held else "broken"

    @property
    def since(self) -> date | None:
        """The first day on which this lag was too long, seen or not; None unless broken."""
        if self.held is not False:
            return None
        days_too_long = 1 if self.lag_days is None else max(1, self.lag_days - self.promise.within_days)
        return self.day - (days_too_long - 1) * DAY

    @property
    def found(self) -> str:
        """What was found in a sentence, in the measure of `promise.promised`."""
        if self.trouble:
            return f"it cannot be read: {self.trouble}"
        if self.newest is None or self.lag_days is None:
            return "nothing was ever made"
        return _FOUND[self.promise.kind].format(newest=self.newest, lag=_days(self.lag_days))


@dataclass(frozen=True)
class Places:
    """Where the newest of everything is read; none of it needs the warehouse.

    `landed` and `newest_event`: of a raw table, its newest loaded landing day and its newest event's day. `partitions`:
    of an asset, the published partitions by name. `cutoff`: of a model, its champion's. None: there is none yet. Any of
    them may raise PlatformError.
    """

    landed: Callable[[str], date | None]
    newest_event: Callable[[str], date | None]
    partitions: Callable[[str], Collection[str]]
    cutoff: Callable[[str], date | None]


def measure(promise: Promise, places: Places, today: date) -> Reading:
    """How the promise stands on the business day `today`. Never raises for what it finds."""
    try:
        newest = _newest(promise, places, today)
    except PlatformError as error:
        return Reading(promise, today, None, None, False, str(error))
    if newest is None:
        return Reading(promise, today, None, None, None)
    lag = max(0, (today - newest).days - _DUE_AFTER_DAYS[promise.kind])
    return Reading(promise, today, newest, lag, lag <= promise.within_days)


def measure_all(promises: Iterable[Promise], places: Places, today: date) -> list[Reading]:
    """A reading of every promise, in their order."""
    return [measure(promise, places, today) for promise in promises]


def default_promises(model: str, owner: str, max_age_days: int = 182) -> tuple[Promise, ...]:
    """What is promised of every model: a champion that is not too old, and predictions for this week."""
    return (
        Terms("model_age", within_days=max_age_days).of(f"models/{model}/champion", owner),
        Terms("prediction_age", within_days=7).of(f"predictions/{model}", owner),
    )


def _newest(promise: Promise, places: Places, today: date) -> date | None:
    name = promise.asset.split("/")[1]
    if promise.kind == "landed":
        return places.landed(name)
    if promise.kind == "newest_event":
        return places.newest_event(name)
    if promise.kind == "model_age":
        return places.cutoff(name)
    return max((day for day in _readable_days(places.partitions(promise.asset)) if day <= today), default=None)


def _readable_days(names: Iterable[str]) -> Iterable[date]:
    """The days among the names; whatever else lies there is no partition of ours."""
    for name in names:
        try:
            yield parse_day(name)
        except NotADay:
            continue


def _days(number: int) -> str:
    return f"{number} day" if number == 1 else f"{number} days"
