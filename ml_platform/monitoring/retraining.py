"""When a model is trained again: a cause, and nothing that holds it back.

A pure reading of the ledger, the Mondays' records and the clock: the same day gives the same answer however often it
is asked, and a day that was slept through loses nothing, for its records are still there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Literal

from ml_platform.calendar import WEEK, last_monday
from ml_platform.errors import ConfigurationError
from ml_platform.monitoring.succession import broken_weeks
from ml_platform.monitoring.weekly import DriftRecord, PerformanceRecord, matured_monday
from ml_platform.registry.records import ModelVersion
from ml_platform.training.spec import ModelSpec

Cause = Literal["first", "drift", "decay", "age"]


@dataclass(frozen=True)
class Training:
    """What to do about training on this Monday. `cause` None: there is no reason to. `held`: what holds it back."""

    cutoff: date
    cause: Cause | None
    reason: str
    held: str | None = None

    @property
    def due(self) -> bool:
        return self.cause is not None and self.held is None


def decide_training(
    spec: ModelSpec,
    today: date,
    versions: Sequence[ModelVersion],
    champion: ModelVersion | None,
    rival: ModelVersion | None,
    drifts: Sequence[DriftRecord],
    performance: Sequence[PerformanceRecord],
) -> Training:
    """Whether the model is trained on the Monday of `today`, and why, or why not."""
    cutoff = last_monday(today)
    trained = max((version.cutoff for version in versions), default=None)
    if champion is None:
        return _first(spec, cutoff, trained)
    cause, reason = _cause(spec, cutoff, champion, versions, drifts, performance)
    if cause is None:
        return Training(cutoff, None, reason)
    assert trained is not None  # a champion is a version
    return Training(cutoff, cause, reason, _held(spec, cutoff, trained, versions, rival, drifts))


def _first(spec: ModelSpec, cutoff: date, trained: date | None) -> Training:
    """Without a champion: as soon as enough Mondays have matured, and again only after a pause."""
    policy = spec.retraining
    try:
        learned = [day for day, role in spec.split.roles(cutoff, spec.label).items() if role == "train"]
    except ConfigurationError as too_early:
        return Training(cutoff, None, too_early.what)
    if len(learned) < policy.first_train_mondays:
        short = f"{len(learned)} training Mondays have matured, a first model needs {policy.first_train_mondays}"
        return Training(cutoff, None, short)
    held = None
    if trained is not None and cutoff < trained + timedelta(days=policy.cooldown_days):
        held = f"the last one was on {trained}, the cooldown is {policy.cooldown_days} days"
    return Training(cutoff, "first", f"there is no champion; {len(learned)} training Mondays have matured", held)


def _cause(
    spec: ModelSpec,
    cutoff: date,
    champion: ModelVersion,
    versions: Sequence[ModelVersion],
    drifts: Sequence[DriftRecord],
    performance: Sequence[PerformanceRecord],
) -> tuple[Cause | None, str]:
    """The strongest reason there is. Results weigh more than inputs, and inputs more than age."""
    policy = spec.retraining
    broken = broken_weeks(performance, champion.version)
    if len(broken) >= policy.decayed_weeks:
        return "decay", f"{len(broken)} matured Mondays in a row below promise: {broken[-1].breached[0]}"
    recent = [record for record in sorted(drifts, key=lambda each: each.as_of) if record.as_of <= cutoff]
    newest = recent[-policy.drifted_weeks :]
    if len(newest) == policy.drifted_weeks and all(record.verdict == "drifted" for record in newest):
        if _armed(spec, recent, versions):
            return "drift", newest[-1].cause
        return None, f"drifted still, since a training on drift: {policy.calm_weeks} calm Mondays re-arm it"
    if (cutoff - champion.cutoff).days > policy.max_age_days:
        return "age", f"the champion's cutoff is {champion.cutoff}, {(cutoff - champion.cutoff).days} days ago"
    return None, "calm, as promised, and not too old"


def _armed(spec: ModelSpec, recent: Sequence[DriftRecord], versions: Sequence[ModelVersion]) -> bool:
    """Hysteresis: after a training on a drifted Monday, drift counts again once it was calm, or for a new champion."""
    cutoffs = {version.cutoff for version in versions}
    answered = [record for record in recent[:-1] if record.verdict == "drifted" and record.as_of in cutoffs]
    if not answered or answered[-1].version != recent[-1].version:
        return True
    calm = 0
    for record in recent:
        if record.as_of > answered[-1].as_of:
            calm = calm + 1 if record.verdict == "calm" else 0
            if calm >= spec.retraining.calm_weeks:
                return True
    return False


def _held(
    spec: ModelSpec,
    cutoff: date,
    trained: date,
    versions: Sequence[ModelVersion],
    rival: ModelVersion | None,
    drifts: Sequence[DriftRecord],
) -> str | None:
    """What holds a training back; None: nothing."""
    policy = spec.retraining
    today = next((record for record in drifts if record.as_of == cutoff), None)
    if today is None:
        return f"inputs are stale: the Monday {cutoff} was not measured yet"
    if today.verdict in ("data_bug", "empty"):
        return f"a data bug, not drift: {today.cause}"
    if rival is not None:
        return f"version {rival.version} is on trial since {rival.cutoff}"
    learned = (matured_monday(spec, cutoff) - matured_monday(spec, trained)) // WEEK
    if learned < policy.new_mondays:
        return f"nothing to learn: labels of {learned} Mondays have matured since {trained}, of {policy.new_mondays}"
    if cutoff < trained + timedelta(days=policy.cooldown_days):
        return f"the last training was on {trained}, the cooldown is {policy.cooldown_days} days"
    if sum(cutoff - WEEK < version.cutoff <= cutoff for version in versions) >= policy.weekly_budget:
        return f"the week's budget of {policy.weekly_budget} trainings is spent"
    return None
