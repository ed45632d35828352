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
ONE_RUN = dg.BackfillPolicy.single_run()
