"""What is made by itself because its inputs are new, as the assets declare: feature models → features → predictions →
drift and performance."""

import dagster as dg

from sensors.common import REACTION, TICK_SECONDS, WEEKLY

weekly = dg.AutomationConditionSensorDefinition(
    WEEKLY,
    target=dg.AssetSelection.all(),
    minimum_interval_seconds=TICK_SECONDS,
    default_status=dg.DefaultSensorStatus.RUNNING,
    use_user_code_server=True,
    run_tags={REACTION: WEEKLY},
)
