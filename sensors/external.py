"""Raw tables that stand elsewhere: looked at now and then, and what has changed since is recorded.

Each table has a sensor of its own, so that one that cannot be read holds up no other.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import dagster as dg

from assets.partitions import LANDING_DAYS
from assets.raw import EXTERNAL
from ml_platform.clock import Clock
from ml_platform.landing.external import ExternalTable, Look
from ml_platform.landing.loaded import Loaded, newest_words
from ml_platform.settings import Settings
from resources import WarehouseResource

if TYPE_CHECKING:
    from ml_platform.warehouse.base import Warehouse

LOOK_SECONDS = 3600
"""A look wakes the warehouse: docs/snowflake.md says what that costs."""


@dataclass(frozen=True)
class Seen:
    """What a look has found. `mark`: the same at the next look if nothing has changed; then there are no `events`."""

    mark: str
    look: Look
    events: tuple[dg.AssetObservation | dg.AssetMaterialization, ...]


def look_at(
    external: ExternalTable, warehouse: "Warehouse", instance: dg.DagsterInstance, mark: str | None = None
) -> Seen:
    """Takes in what is new since `mark`: an observation, and a materialisation of each day that has become whole.

    Raises WarehouseError, ExternalTableDiffers, ExternalDayChanged.
    """
    from ml_platform.landing.external import glance, take
    from ml_platform.landing.loading import create_raw

    settings = Settings.from_env()
    today = Clock(settings.home).today()
    with warehouse.session(f"look at {external.relation}") as session:
        look = glance(session, external)
        now = f"{today} {look.mark}"
        if now == mark:
            return Seen(now, look, ())
        create_raw(session, {*EXTERNAL, external.table.name})
        loaded = take(session, settings.lake, external, today)
    key = dg.AssetKey(["raw", external.table.name])
    there = instance.get_materialized_partitions(key)
    return Seen(now, look, tuple(_events(key, external, look, loaded, there)))


def _events(
    key: dg.AssetKey, external: ExternalTable, look: Look, loaded: Loaded | None, there: set[str]
) -> Iterator[dg.AssetObservation | dg.AssetMaterialization]:
    known = {
        "relation": external.relation,
        "last_change": dg.MetadataValue.timestamp(look.changed_at.timestamp()) if look.changed_at else "not told",
        "dagster/row_count": look.rows,
        **newest_words(loaded),
    }
    yield dg.AssetObservation(asset_key=key, metadata=known, tags={"dagster/data_version": look.mark})
    for day in LANDING_DAYS.get_partition_keys():
        if loaded and day <= loaded.landed_on.isoformat() and day not in there:
            yield dg.AssetMaterialization(asset_key=key, partition=day, metadata={"relation": external.relation})


def build_external_sensor(external: ExternalTable) -> dg.SensorDefinition:
    """The sensor `external_<table>`: what it finds new makes the sensor `landing` build the days after it."""

    @dg.sensor(
        name=f"external_{external.table.name}",
        description=f"Looks at {external.relation}, and records its last change and the days that are whole.",
        minimum_interval_seconds=LOOK_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def sensor(context: dg.SensorEvaluationContext, warehouse: WarehouseResource) -> dg.SensorResult | dg.SkipReason:
        from ml_platform.warehouse.base import WarehouseBusy

        try:
            seen = look_at(external, warehouse.watched_by(context.sensor_name), context.instance, context.cursor)
        except WarehouseBusy as busy:
            return dg.SkipReason(f"looked at next time: {busy}")
        if not seen.events:
            return dg.SkipReason(f"no change: {external.relation} has {seen.look.rows} rows, newest {seen.look.newest}")
        return dg.SensorResult(asset_events=seen.events, cursor=seen.mark)

    return sensor


EXTERNAL_SENSORS = [build_external_sensor(external) for external in EXTERNAL.values()]
