"""The SQL between raw tables and features: dbt's models as assets, its tests as checks.

Two invocations carry the whole project: staging and marts by landing day, feature models by as-of Monday. What dbt
knows of a model (columns, units, tests, owner) is shown where Dagster shows such things; rows and column lineage are
added when dbt has let go of the warehouse.
"""

from collections.abc import Iterator, Mapping
from datetime import date
from typing import Any

import dagster as dg
from dagster_dbt import DagsterDbtTranslator, DagsterDbtTranslatorSettings, DbtProject, dbt_assets

from assets.automation import when_inputs_are_new
from assets.columns import SCHEMA, lineage_now, show_columns
from assets.freshness import BY_DAY, BY_WEEK
from assets.partitions import AS_OF_MONDAYS, LANDING_DAYS, ONE_RUN, WEEK_BEFORE
from ml_platform.calendar import parse_day, parse_monday
from ml_platform.warehouse.base import Session, quote
from resources import WarehouseResource
from resources.dbt import PROJECT, Dbt, manifest_path

MANIFEST = manifest_path()
DAILY = "staging marts"
WEEKLY = "feature_models"


class Translator(DagsterDbtTranslator):
    """Keys are [schema, model]; the folder is the group and says how often; the models' `meta` names the owner."""

    def get_asset_spec(self, manifest: Mapping[str, Any], unique_id: str, project: DbtProject | None) -> dg.AssetSpec:
        spec = super().get_asset_spec(manifest, unique_id, project)
        # Of two schemas Dagster shows the definition's, and that of a materialisation says more (see `assets.columns`).
        spec = spec.replace_attributes(metadata={k: v for k, v in spec.metadata.items() if k != SCHEMA})
        return dg.apply_freshness_policy(spec, BY_WEEK if spec.group_name == WEEKLY else BY_DAY)

    def get_asset_key(self, dbt_resource_props: Mapping[str, Any]) -> dg.AssetKey:
        if dbt_resource_props["resource_type"] == "source":
            return dg.AssetKey(["raw", dbt_resource_props["name"]])
        return dg.AssetKey([dbt_resource_props["fqn"][1], dbt_resource_props["name"]])

    def get_group_name(self, dbt_resource_props: Mapping[str, Any]) -> str | None:
        return dbt_resource_props["fqn"][1]

    def get_owners(self, dbt_resource_props: Mapping[str, Any]) -> list[str]:
        return [dbt_resource_props.get("meta", {}).get("owner", "team:data-platform")]

    def get_tags(self, dbt_resource_props: Mapping[str, Any]) -> dict[str, str]:
        return {"stage": dbt_resource_props["fqn"][1]}

    def get_automation_condition(self, dbt_resource_props: Mapping[str, Any]) -> dg.AutomationCondition | None:
        return when_inputs_are_new(backfill=True) if dbt_resource_props["fqn"][1] == WEEKLY else None

    def get_partition_mapping(
        self, dbt_resource_props: Mapping[str, Any], dbt_parent_resource_props: Mapping[str, Any]
    ) -> dg.PartitionMapping | None:
        weekly = dbt_resource_props["fqn"][1] == WEEKLY
        parent_weekly = dbt_parent_resource_props["fqn"][1] == WEEKLY
        return WEEK_BEFORE if weekly and not parent_weekly else None


TRANSLATOR = Translator(DagsterDbtTranslatorSettings(enable_code_references=True))


@dbt_assets(
    manifest=MANIFEST,
    project=PROJECT,
    name="sql_marts",
    select=DAILY,
    dagster_dbt_translator=TRANSLATOR,
    partitions_def=LANDING_DAYS,
    backfill_policy=ONE_RUN,
    pool="warehouse",
)
def sql_marts(context: dg.AssetExecutionContext, dbt: Dbt, warehouse: WarehouseResource) -> Iterator[Any]:
    """Staging and marts of the landing days of this run."""
    keys = context.partition_key_range
    days = {"landed_from": parse_day(keys.start), "landed_to": parse_day(keys.end)}
    yield from _build(context, dbt, warehouse, days)


@dbt_assets(
    manifest=MANIFEST,
    project=PROJECT,
    name="sql_features",
    select=WEEKLY,
    dagster_dbt_translator=TRANSLATOR,
    partitions_def=AS_OF_MONDAYS,
    backfill_policy=ONE_RUN,
    pool="warehouse",
)
def sql_features(context: dg.AssetExecutionContext, dbt: Dbt, warehouse: WarehouseResource) -> Iterator[Any]:
    """Feature models of the as-of Mondays of this run."""
    keys = context.partition_key_range
    mondays = {"as_of_from": parse_monday(keys.start), "as_of_to": parse_monday(keys.end)}
    yield from _build(context, dbt, warehouse, mondays)


def _build(
    context: dg.AssetExecutionContext, dbt: Dbt, warehouse: WarehouseResource, variables: Mapping[str, date]
) -> Iterator[Any]:
    """One dbt build under the warehouse lock; its events follow with rows and column lineage, failed build or not."""
    place = warehouse.open(context)
    with place.lock(f"dbt build {context.op.name}"):
        built = dbt.build(context, TRANSLATOR, variables)
    events = [
        each
        for said in built.events
        for each in said.to_default_asset_events(MANIFEST, TRANSLATOR, context, project=PROJECT)
    ]
    outputs = [event for event in events if isinstance(event, dg.Output)]
    keys = {event.output_name: context.asset_key_for_output(event.output_name) for event in outputs}
    with place.session("count rows of dbt models") as session:
        rows = {key: _rows(session, ".".join(key.path)) for key in keys.values()}
    if outputs:
        show_columns(context, lineage_now(built=built.manifest), *keys.values())
    for event in events:
        if not isinstance(event, dg.Output):
            yield event
            continue
        key = keys[event.output_name]
        yield event.with_metadata({**event.metadata, "dagster/row_count": rows[key]})
    if built.failure:
        raise dg.Failure(f"dbt failed: {built.failure}")


def _rows(session: Session, relation: str) -> int:
    return session.read(f"select count(*) as n from {quote(relation)}")["n"][0]


SQL_ASSETS = [sql_marts, sql_features]
