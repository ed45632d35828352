"""The two partitionings of the graph, in the shops' time zone: landing days, and as-of Mondays.

A Monday's key names the seven days *after* it, while what is said as of that Monday reads landing days *before* it:
that offset is the mapping `WEEK_BEFORE`.
"""

import dagster as dg

from ml_platform.calendar import BUSINESS_TIMEZONE, CLOSING_DAY, DAY, FIRST_AS_OF, LAST_AS_OF, OPENING_DAY, WEEK

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


def when_inputs_are_new(ignore: dg.AssetSelection | None = None) -> dg.AutomationCondition:
    """A Monday is made once all it reads is there and something of that is new; the wall clock has no say, so a
    replayed year is made like a real one. `ignore`: inputs whose news alone is no reason."""
    news = dg.AutomationCondition.any_deps_updated()
    made_of_news = (news.ignore(ignore) if ignore else news).since_last_handled()
    waiting = dg.AutomationCondition.any_deps_missing() | dg.AutomationCondition.any_deps_in_progress()
    return (made_of_news & ~waiting & ~dg.AutomationCondition.in_progress()).with_label("inputs are new and complete")


ONE_RUN = dg.BackfillPolicy.single_run()
