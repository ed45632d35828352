"""The two partitionings of the graph, in the shops' time zone: landing days, and as-of Mondays.

A Monday's key names the seven days *after* it, while what is said as of that Monday reads landing days *before* it:
that offset is the mapping `WEEK_BEFORE`.
"""

import warnings

import dagster as dg

from ml_platform.calendar import BUSINESS_TIMEZONE, CLOSING_DAY, DAY, FIRST_AS_OF, LAST_AS_OF, OPENING_DAY, WEEK

# Said at every load otherwise, a hundred lines of it: the lock file pins the version whose beta parts are used.
warnings.filterwarnings("ignore", category=dg.BetaWarning)

LANDING_DAYS = dg.DailyPartitionsDefinition(
    start_date=OPENING_DAY.isoformat(), end_date=(CLOSING_DAY + DAY).isoformat(), timezone=BUSINESS_TIMEZONE
)
AS_OF_MONDAYS = dg.WeeklyPartitionsDefinition(
    start_date=FIRST_AS_OF.isoformat(),
    end_date=(LAST_AS_OF + WEEK).isoformat(),
    day_offset=1,
    timezone=BUSINESS_TIMEZONE,
)
WEEK_BEFORE = dg.TimeWindowPartitionMapping(start_offset=-1, end_offset=-1)
"""As of Monday K depends on the landing days of the week before K."""
HISTORY = dg.TimeWindowPartitionMapping(start_offset=-52, end_offset=0, allow_nonexistent_upstream_partitions=True)
"""A cutoff's training set depends on every earlier Monday, up to a year back."""


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


ONE_RUN = dg.BackfillPolicy.single_run()
