"""Landed files become raw tables: one asset a table, one partition a landing day, one transaction a delivery.

What the warehouse has already is no asset that is made here: it is watched (`landing.external`, `sensors.external`).
"""

from typing import TypedDict

import dagster as dg

from assets.columns import lineage_now, show_columns
from assets.freshness import BY_DAY
from assets.partitions import LANDING_DAYS, ONE_RUN
from ml_platform.calendar import parse_day
from ml_platform.landing.external import ExternalTable, read_external_tables
from ml_platform.landing.tables import RAW_TABLES, RawTable
from ml_platform.settings import Settings
from ml_platform.warehouse.base import quote
from resources import LakeResource, LandingResource, WarehouseResource


class _Shown(TypedDict):
    owners: list[str]
    group_name: str
    kinds: set[str]
    tags: dict[str, str]
    partitions_def: dg.PartitionsDefinition
    freshness_policy: dg.FreshnessPolicy
    metadata: dict[str, str]


def build_raw_asset(table: RawTable) -> dg.AssetsDefinition:
    """The asset `raw/<table>`: loads the deliveries of its landing days, each exactly once."""

    @dg.asset(
        key=["raw", table.name],
        description=table.description,
        backfill_policy=ONE_RUN,
        pool="warehouse",
        **_shown(table, table.relation, "parquet"),
    )
    def raw_table(
        context: dg.AssetExecutionContext, landing: LandingResource, warehouse: WarehouseResource, lake: LakeResource
    ) -> dg.MaterializeResult:
        from ml_platform.landing.loaded import newest_words, note_loaded
        from ml_platform.landing.loading import create_raw, demand_every_day, load_all

        keys = context.partition_key_range
        first, last = parse_day(keys.start), parse_day(keys.end)
        deliveries = landing.folder().deliveries(table.name, first, last)
        demand_every_day(table, deliveries, first, last)
        with warehouse.open(context).session(f"load {table.relation}") as session:
            create_raw(session, EXTERNAL)
            outcomes = load_all(session, table, deliveries)
            noted = note_loaded(session, lake.root(), table)
            rows = session.read(f"select count(*) as n from {quote(table.relation)}")["n"][0]
            cost = session.cost()
        loaded = [outcome for outcome in outcomes if outcome.loaded]
        # Before the first build only a compilation would know the SQL, and a landed file is not kept waiting for one.
        show_columns(context, lineage_now(with_sql=False), context.asset_key, users=False)
        return dg.MaterializeResult(
            metadata={
                "dagster/row_count": rows,
                **cost,
                "rows_loaded": sum(outcome.rows for outcome in loaded),
                "deliveries_loaded": len(loaded),
                "deliveries_already_there": len(outcomes) - len(loaded),
                "closed_days": sum(delivery.closed for delivery in deliveries),
                **newest_words(noted),
            }
        )

    return raw_table


def build_external_asset(external: ExternalTable) -> dg.AssetSpec:
    """The asset `raw/<table>` of a table that stands elsewhere: a day of it is there when a look has found it whole."""
    table = external.table
    described = f"{table.description} Read where it stands, in {external.relation}."
    return dg.AssetSpec(key=["raw", table.name], description=described, **_shown(table, external.relation, "table"))


def _shown(table: RawTable, relation: str, kind: str) -> _Shown:
    """What every raw table is, wherever its rows are."""
    return {
        "owners": [table.owner],
        "group_name": "raw",
        "kinds": {kind, Settings.from_env().warehouse},
        "tags": {"stage": "raw"},
        "partitions_def": LANDING_DAYS,
        "freshness_policy": BY_DAY,
        "metadata": {"dagster/table_name": relation, "key": ", ".join(table.key), "cadence": table.cadence},
    }


EXTERNAL = read_external_tables(Settings.from_env().external_tables)
RAW_ASSETS = [
    build_external_asset(EXTERNAL[name]) if name in EXTERNAL else build_raw_asset(table)
    for name, table in RAW_TABLES.items()
]
