"""When an asset is made by itself: conditions that the injected clock alone may date.

Dagster's own time conditions (`in_latest_time_window`, `on_cron`) go by the wall clock, and a replayed year would never
be made by them.
"""

import dagster as dg

from ml_platform.calendar import last_monday
from ml_platform.clock import Clock
from ml_platform.settings import Settings


class OfThisMonday(dg.AutomationCondition):
    """True for the Monday of the clock: what speaks of the present is not made later for a day that is over."""

    @property
    def name(self) -> str:
        return "of the clock's Monday"

    def evaluate(self, context: dg.AutomationContext) -> dg.AutomationResult:
        monday = last_monday(Clock(Settings.from_env().home).today()).isoformat()
        return dg.AutomationResult(context, context.candidate_subset.compute_intersection_with_partition_keys({monday}))


def when_deps_are_new(said: str, ignore: dg.AssetSelection | None = None) -> dg.AutomationCondition:
    """Once something it is made of is new and nothing is under way, whatever else is missing. `ignore`: dependencies
    whose news is no reason; `said`: the condition in words."""
    new = dg.AutomationCondition.any_deps_updated()
    return (
        (new.ignore(ignore) if ignore else new).since_last_handled()
        & ~dg.AutomationCondition.any_deps_in_progress()
        & ~dg.AutomationCondition.in_progress()
    ).with_label(said)


def when_inputs_are_new(ignore: dg.AssetSelection | None = None, *, backfill: bool = False) -> dg.AutomationCondition:
    """A Monday is made once all it reads is there and something of that is new; the wall clock has no say, so a
    replayed year is made like a real one.

    `ignore`: inputs whose news alone is no reason. `backfill`: make also what is missing though its inputs are old.
    """
    new = dg.AutomationCondition.any_deps_updated()
    reason = (new.ignore(ignore) if ignore else new).since_last_handled()
    # What nothing materialises (the loader's own table of loads) is never missing.
    incomplete = dg.AutomationCondition.any_deps_missing().allow(dg.AssetSelection.all().materializable())
    if backfill:
        handled = dg.AutomationCondition.newly_requested() | dg.AutomationCondition.newly_updated()
        reason |= (dg.AutomationCondition.missing() & ~incomplete).newly_true().since(handled)
    busy = dg.AutomationCondition.any_deps_in_progress() | dg.AutomationCondition.in_progress()
    return (reason & ~incomplete & ~busy).with_label("inputs are new and complete")
