"""Files landed, or a table elsewhere has a new day: load, and bring staging and marts up to date, in one run whatever
the number of days."""

from collections.abc import Sequence
from datetime import date

import dagster as dg
from dagster._core.storage.dagster_run import NOT_FINISHED_STATUSES
from dagster._core.storage.tags import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
    SENSOR_NAME_TAG,
)

from assets.partitions import LANDING_DAYS
from ml_platform.calendar import DAY, parse_day
from ml_platform.landing.through import known_through
from ml_platform.settings import Settings
from sensors.common import TICK_SECONDS, request

DAYS = dg.AssetSelection.groups("raw", "staging", "marts").materializable()


@dg.sensor(target=DAYS, minimum_interval_seconds=TICK_SECONDS, default_status=dg.DefaultSensorStatus.RUNNING)
def landing(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """Loads and builds every day that is known whole and not built: all of them at once, one run at a time."""
    last = known_through(Settings.from_env())
    if last is None:
        return dg.SkipReason("nothing has landed yet")
    repository = context.repository_def
    assert repository is not None
    keys = sorted(DAYS.resolve(repository.asset_graph))
    built = _built_through(context.instance, keys)
    first = built + DAY if built else parse_day(LANDING_DAYS.get_first_partition_key() or "")
    if first > last:
        return dg.SkipReason(f"all is built through {last}")
    under_way = dg.RunsFilter(tags={SENSOR_NAME_TAG: context.sensor_name}, statuses=NOT_FINISHED_STATUSES)
    if context.instance.get_runs_count(under_way):
        return dg.SkipReason(f"a load is under way; the days through {last} come after it")
    span = {ASSET_PARTITION_RANGE_START_TAG: first.isoformat(), ASSET_PARTITION_RANGE_END_TAG: last.isoformat()}
    return request(context.instance, f"land {first}..{last}", keys, cause=f"landed through {last}", tags=span)


def _built_through(instance: dg.DagsterInstance, keys: Sequence[dg.AssetKey]) -> date | None:
    """The newest day that every one of them has."""
    newest = [max(instance.get_materialized_partitions(key), default=None) for key in keys]
    return parse_day(min(day for day in newest if day)) if all(newest) else None
