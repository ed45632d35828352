"""Files landed: load them, and bring staging and marts up to date, in one run whatever the number of days."""

from datetime import date

import dagster as dg
from dagster._core.storage.dagster_run import NOT_FINISHED_STATUSES
from dagster._core.storage.tags import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
    SENSOR_NAME_TAG,
)

from assets.partitions import LANDING_DAYS
from assets.raw import RAW_ASSETS
from ml_platform.calendar import DAY, parse_day
from resources import LandingResource
from sensors.common import TICK_SECONDS, request

DAYS = dg.AssetSelection.groups("raw", "staging", "marts")


@dg.sensor(target=DAYS, minimum_interval_seconds=TICK_SECONDS, default_status=dg.DefaultSensorStatus.RUNNING)
def landing(context: dg.SensorEvaluationContext, landing: LandingResource) -> dg.RunRequest | dg.SkipReason:
    """Loads every day that has landed whole and is not loaded: all of them at once, one run at a time."""
    last = landing.folder().landed_through()
    if last is None:
        return dg.SkipReason("nothing has landed yet")
    loaded = _loaded_through(context.instance)
    first = loaded + DAY if loaded else parse_day(LANDING_DAYS.get_first_partition_key() or "")
    if first > last:
        return dg.SkipReason(f"all is loaded through {last}")
    under_way = dg.RunsFilter(tags={SENSOR_NAME_TAG: context.sensor_name}, statuses=NOT_FINISHED_STATUSES)
    if context.instance.get_runs_count(under_way):
        return dg.SkipReason(f"a load is under way; the days through {last} come after it")
    repository = context.repository_def
    assert repository is not None
    keys = sorted(DAYS.resolve(repository.asset_graph))
    span = {ASSET_PARTITION_RANGE_START_TAG: first.isoformat(), ASSET_PARTITION_RANGE_END_TAG: last.isoformat()}
    return request(context.instance, f"land {first}..{last}", keys, cause=f"landed through {last}", tags=span)


def _loaded_through(instance: dg.DagsterInstance) -> date | None:
    """The newest day that every raw table has loaded."""
    newest = [max(instance.get_materialized_partitions(asset.key), default=None) for asset in RAW_ASSETS]
    return parse_day(min(day for day in newest if day)) if all(newest) else None
