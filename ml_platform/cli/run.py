"""`mlp run`: reads what is there, plans, shows the plan, executes it."""

import warnings
from datetime import date

from dagster import (
    AssetKey,
    AssetSelection,
    BetaWarning,
    DagsterInstance,
    Definitions,
    PreviewWarning,
    SupersessionWarning,
    TimeWindowPartitionsDefinition,
)
from rich.console import Console

from ml_platform.cli import output
from ml_platform.cli.execute import execute
from ml_platform.cli.instance import open_instance
from ml_platform.cli.plan import AssetState, NothingToRun, PlannedRun, plan_runs
from ml_platform.landing.through import known_through
from ml_platform.settings import Settings


def run_selection(selection: str, *, partition: str | None, force: bool, dry_run: bool, as_json: bool) -> None:
    """Plans `selection` and executes what is due. Raises NothingToRun or RunFailed."""
    settings = Settings.from_env()
    instance, defs = open_instance(settings), load_definitions()
    look_at_external_tables(settings, instance)
    runs = plan(defs, instance, selection, known_through(settings), partition=partition, force=force)
    show_plan(runs, as_json)
    if not dry_run:
        with output.own_terminal() as terminal:
            execute_all(defs, instance, runs, terminal if not as_json else Console(stderr=True, quiet=True))


def load_definitions() -> Definitions:
    """The graph. Dagster says of some features that they are young: known, and not said again to who runs `mlp`."""
    for category in (BetaWarning, PreviewWarning, SupersessionWarning):
        warnings.filterwarnings("ignore", category=category)
    from ml_platform.definitions import defs

    return defs


def look_at_external_tables(settings: Settings, instance: DagsterInstance) -> None:
    """As their sensors do, for a home whose daemon does not run. Raises what `sensors.external.look_at` raises."""
    from assets.raw import EXTERNAL
    from ml_platform.warehouse import open_warehouse
    from sensors.external import look_at

    for external in EXTERNAL.values():
        for event in look_at(external, open_warehouse(settings, {"command": "mlp run"}), instance).events:
            instance.report_runless_asset_event(event)


def plan(
    defs: Definitions,
    instance: DagsterInstance,
    selection: str,
    landed: date | None,
    *,
    partition: str | None = None,
    force: bool = False,
) -> list[PlannedRun]:
    """The runs for a selection, in order, due or not."""
    return plan_runs(states(defs, instance, selection), landed, partition=partition, force=force)


def states(defs: Definitions, instance: DagsterInstance, selection: str) -> list[AssetState]:
    """The selected assets as planning sees them, by key. Raises NothingToRun for what is not a selection."""
    graph = defs.resolve_asset_graph()
    try:
        keys = AssetSelection.from_string(selection).resolve(graph)
    except Exception as error:  # Dagster raises several kinds here, one of them Exception's own
        raise NothingToRun(
            f"{selection!r} is not a selection of assets: {error}",
            where="mlp run",
            next_step="""write e.g. 'group:raw' or 'key:"features/household"+' (with what follows it)""",
        ) from error
    return [_state(graph, instance, key) for key in sorted(keys & graph.materializable_asset_keys)]


def _state(graph, instance: DagsterInstance, key: AssetKey) -> AssetState:  # type: ignore[no-untyped-def]
    node = graph.get(key)
    name, upstream = key.to_user_string(), {parent.to_user_string() for parent in node.parent_keys}
    if node.partitions_def is None:
        made = {"made"} if instance.get_latest_materialization_event(key) else set()
        return AssetState(name, "none", made, upstream)
    assert isinstance(node.partitions_def, TimeWindowPartitionsDefinition), f"{name}: only days and Mondays are planned"
    daily = node.partitions_def.schedule_type is not None and node.partitions_def.schedule_type.name == "DAILY"
    return AssetState(name, "daily" if daily else "weekly", instance.get_materialized_partitions(key), upstream)


def show_plan(runs: list[PlannedRun], as_json: bool = False, to: Console | None = None) -> None:
    """The plan as a table; a plan with nothing due says so."""
    output.show_rows([run.row() for run in runs], title="Plan", as_json=as_json, to=to)


def execute_all(defs: Definitions, instance: DagsterInstance, runs: list[PlannedRun], terminal: Console) -> list[str]:
    """Executes the due runs in order and stops at the first that fails. Returns their ids."""
    return [execute(defs, instance, run, terminal) for run in runs if run.due]
