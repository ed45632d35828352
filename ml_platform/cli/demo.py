"""`mlp demo`: the whole path on the year 2017, then what was made. A second time it finds it made and only shows it."""

from typing import Any

from dagster import DagsterInstance, Definitions
from rich.console import Console

from ml_platform.cli import output
from ml_platform.cli.instance import open_instance
from ml_platform.cli.land import land, summary
from ml_platform.cli.models import show_model_tables
from ml_platform.cli.progress import row_count
from ml_platform.cli.run import execute_all, load_definitions, look_at_external_tables, plan, show_plan
from ml_platform.landing.through import known_through
from ml_platform.settings import Settings

LAST_DAY = "2017-12-31"
DURATION = "Execution Duration"
NEXT = """[bold]What to do next[/]
  make ui                                     the graph, at http://127.0.0.1:3000
  mlp models --json                           the champions and their metrics, for a program
  mlp land --until 2018-01-07 && mlp run      a week more lands; only what it changes is made
  mlp history MODEL                           who made which version champion, and why
  mlp features get --help                     features of your own rows, as of their time
  docs/adding-a-model.md                      one more model, in one page"""


def run_demo() -> None:
    """Lands, runs, shows. Raises RunFailed with the first cause; what was made until then stays."""
    settings, terminal = Settings.from_env(), output.console()
    terminal.print(f"[bold]1.[/] The Complete Journey lands, until {LAST_DAY}")
    landed = land(LAST_DAY, None, terminal)
    if landed:
        output.show_rows(summary(landed), title="", as_json=False)
    else:
        terminal.print("  it has landed already")
    terminal.print("[bold]2.[/] The graph is materialised")
    instance, defs = open_instance(settings), load_definitions()
    look_at_external_tables(settings, instance)
    runs = plan(defs, instance, "*", known_through(settings))
    show_plan(runs)
    with output.own_terminal() as live:
        execute_all(defs, instance, runs, live)
    terminal.print("[bold]3.[/] What was made")
    output.show_rows(made_rows(defs, instance), title="Assets", as_json=False)
    _show_models(settings, terminal)
    terminal.print(NEXT)


def made_rows(defs: Definitions, instance: DagsterInstance) -> list[dict[str, Any]]:
    """A row per asset, in the order of the graph: its newest materialisation, and its checks' newest results.

    `seconds` are those of the asset; of the step, where several assets were made by one and none told its own.
    """
    graph = defs.resolve_asset_graph()
    keys = [key for key in graph.toposorted_asset_keys if key in graph.materializable_asset_keys]
    records = {record.asset_entry.asset_key: record.asset_entry for record in instance.get_asset_records(keys)}
    checks = instance.event_log_storage.get_latest_asset_check_execution_by_key(list(graph.asset_check_keys))
    durations: dict[str, dict[str, float]] = {}
    rows = []
    for key in keys:
        record = records[key].last_materialization_record if key in records else None
        results = [check.status.value for check_key, check in checks.items() if check_key.asset_key == key]
        row: dict[str, Any] = {"asset": key.to_user_string(), "rows": None, "seconds": None}
        if record:
            entry = record.event_log_entry
            metadata = record.asset_materialization.metadata if record.asset_materialization else {}
            row["rows"] = row_count(metadata)
            own = metadata.get(DURATION)
            if entry.run_id not in durations:
                durations[entry.run_id] = _step_seconds(instance, entry.run_id)
            seconds = float(str(own.value)) if own else durations[entry.run_id].get(entry.step_key or "")
            row["seconds"] = None if seconds is None else f"{seconds:.1f}"
        row |= {"checks passed": results.count("SUCCEEDED"), "failed": results.count("FAILED")}
        rows.append(row)
    return rows


def _step_seconds(instance: DagsterInstance, run_id: str) -> dict[str, float]:
    steps = instance.get_run_step_stats(run_id)
    return {step.step_key: step.end_time - step.start_time for step in steps if step.start_time and step.end_time}


def _show_models(settings: Settings, terminal: Console) -> None:
    from datetime import date

    from ml_platform.registry.ledger import Ledger
    from ml_platform.registry.views import model_rows

    show_model_tables(model_rows(Ledger(settings.ledger_url), date.today()), terminal)
