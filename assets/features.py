"""Feature tables: dbt's feature models, checked against their contract and published to the lake, week by week."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import dagster as dg

from assets.automation import when_inputs_are_new
from assets.columns import lineage_now, show_columns
from assets.common import feature_key, table_of
from assets.feature_tables import FEATURE_TABLES
from assets.freshness import BY_WEEK
from assets.partitions import AS_OF_MONDAYS, ONE_RUN
from ml_platform.calendar import mondays, parse_monday
from ml_platform.contracts import FeatureTable
from resources import LakeResource, WarehouseResource

if TYPE_CHECKING:
    from ml_platform.features.publish import Week

SHOWN_FAILURES = 50


def build_feature_asset(table: FeatureTable) -> dg.AssetsDefinition:
    """The asset `features/<table>`: one published partition an as-of Monday, two blocking checks."""
    key = feature_key(table.name)

    @dg.asset(
        key=key,
        description=table.description,
        deps=[table.relation.split(".")],
        owners=[table.owner],
        group_name="features",
        kinds={"polars", "parquet", "pandera"},
        tags={"stage": "features"},
        metadata={"ttl_days": table.ttl_days},
        partitions_def=AS_OF_MONDAYS,
        automation_condition=when_inputs_are_new(backfill=True),
        backfill_policy=ONE_RUN,
        pool="warehouse",
        freshness_policy=BY_WEEK,
        check_specs=[
            dg.AssetCheckSpec("contract", asset=key, blocking=True, description="dtype, bounds, nulls, keys (Pandera)"),
            dg.AssetCheckSpec(
                "point_in_time",
                asset=key,
                blocking=True,
                description="a sample, recomputed from raw lines by another query as known at as_of, is equal",
            ),
        ],
    )
    def feature_table(
        context: dg.AssetExecutionContext, warehouse: WarehouseResource, lake: LakeResource
    ) -> Iterator[dg.AssetCheckResult | dg.MaterializeResult]:
        from ml_platform.features.publish import publish_weeks

        keys, store = context.partition_key_range, lake.features(FEATURE_TABLES)
        days = mondays(parse_monday(keys.start), parse_monday(keys.end))
        with warehouse.open(context).session(f"publish {table.name}") as session:
            weeks = publish_weeks(session, store, table, days)
            cost = session.cost()
        yield _contract_result(key, weeks)
        yield _audit_result(key, weeks)
        kept_aside = [week.as_of.isoformat() for week in weeks if week.published is None]
        if kept_aside:
            raise dg.Failure(f"{table.name}: kept aside and not published: {', '.join(kept_aside)}; see the checks")
        show_columns(context, lineage_now(), key, constraints=_constraints(table))
        yield dg.MaterializeResult(
            metadata={
                "dagster/row_count": sum(week.rows for week in weeks),
                "partitions": len(weeks),
                **cost,
                "newest": table_of(
                    [
                        {"as_of": week.as_of, "rows": week.rows, "digest": week.published.digest}
                        for week in weeks[-5:]
                        if week.published
                    ]
                ),
            }
        )

    return feature_table


def _constraints(table: FeatureTable) -> dict[str, dg.TableColumnConstraints]:
    """Nullability and bounds of each column, as the contract states them."""
    return {
        column.name: dg.TableColumnConstraints(nullable=column.nullable, other=list(column.bounds))
        for column in table.columns
    }


def _contract_result(key: dg.AssetKey, weeks: "list[Week]") -> dg.AssetCheckResult:
    cases = [case | {"as_of": week.as_of} for week in weeks for case in week.failures.to_dicts()]
    return dg.AssetCheckResult(
        check_name="contract",
        asset_key=key,
        passed=not cases,
        metadata={"failing_values": len(cases), "failing_rows": table_of(cases[:SHOWN_FAILURES])},
    )


def _audit_result(key: dg.AssetKey, weeks: "list[Week]") -> dg.AssetCheckResult:
    leaks = [row for week in weeks for row in week.audit.mismatches.head(SHOWN_FAILURES).to_dicts()]
    return dg.AssetCheckResult(
        check_name="point_in_time",
        asset_key=key,
        passed=all(week.audit.passed for week in weeks),
        metadata={
            "values_recomputed": sum(week.audit.compared for week in weeks),
            "mismatches": table_of(leaks[:SHOWN_FAILURES]),
        },
    )


FEATURE_ASSETS = [build_feature_asset(table) for table in FEATURE_TABLES.values()]
