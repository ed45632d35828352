"""`mlp`: the platform's command line. Each command is a few lines here and a module of its own, imported when called.

Invariants: `mlp --help` imports neither Dagster nor anything heavy; an error a user can cause is a panel that says
what, where and what next, with exit code 1, never a traceback; wherever a table is printed, `--json` prints its rows.
"""

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from ml_platform.cli import output
from ml_platform.cli.catalog import catalog_app
from ml_platform.cli.options import Json, Model
from ml_platform.errors import PlatformError

Reason = Annotated[str, typer.Option(help="Why: kept in the ledger for ever.")]
Who = Annotated[str, typer.Option(help="Who asks: kept in the ledger. Your login name unless told.")]


class _Commands(TyperGroup):
    """Turns the platform's own errors into panels."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except PlatformError as error:
            output.show_error(error)
            raise typer.Exit(1) from None


app = typer.Typer(
    cls=_Commands,
    help="Runs the ML platform: events land, one asset graph carries them to predictions.\n\n"
    "Start with `mlp demo`; look at the graph with `mlp ui`; when something is odd, `mlp doctor`.\n\n"
    "Everything made is kept under ML_PLATFORM_HOME (the repository's `.home` unless set).",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    add_completion=False,
    rich_markup_mode="markdown",
)
features_app = typer.Typer(help="Read feature tables, as of any time.", no_args_is_help=True)
app.add_typer(features_app, name="features")
alerts_app = typer.Typer(help="Show which promises are broken; `ack` takes one on.")
app.add_typer(alerts_app, name="alerts")
app.add_typer(catalog_app)


@app.command()
def land(
    until: Annotated[str, typer.Option(help="Last landing day, YYYY-MM-DD.")],
    since: Annotated[
        str | None, typer.Option("--from", help="First landing day; the first not landed unless told.")
    ] = None,
    json: Json = False,
) -> None:
    """Let the files of the reference data land, day by day, up to a day.

    Landed files never change: landing again is a no-op.
    """
    from ml_platform.cli.land import land_until

    land_until(until, since, json)


@app.command()
def run(
    selection: Annotated[
        str, typer.Argument(help='Dagster\'s selection syntax: `group:raw`, `key:"features/household"+`, …')
    ] = "*",
    partition: Annotated[
        str | None, typer.Option(help="A day or Monday, or FIRST..LAST, instead of what is missing.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Run also what is up to date.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show the plan.")] = False,
    json: Json = False,
) -> None:
    """Materialise what is missing: at most one run for the days, one for the Mondays, one for the models.

    Examples: `mlp run`, `mlp run 'group:raw'`, `mlp run 'key:"features/household"' --partition 2017-11-27`.
    """
    from ml_platform.cli.run import run_selection

    run_selection(selection, partition=partition, force=force, dry_run=dry_run, as_json=json)


@app.command()
def models(json: Json = False) -> None:
    """List the models: each champion, its metrics beside its baselines', and what the newest candidate lacks."""
    from ml_platform.cli.models import show_models

    show_models(json)


@app.command()
def history(model: Model, json: Json = False) -> None:
    """Show every change of a model's champion: who, when, why, and by which waiver."""
    from ml_platform.cli.models import show_history

    show_history(model, json)


@app.command()
def promote(
    model: Model,
    version: Annotated[int, typer.Argument(min=1, help="The version to promote.")],
    reason: Reason,
    waive: Annotated[
        list[str] | None, typer.Option(metavar="GATE", help="Let it past this failed gate; may repeat.")
    ] = None,
    until: Annotated[str | None, typer.Option(help="Last day the waivers hold, YYYY-MM-DD.")] = None,
    who: Who = "",
    json: Json = False,
) -> None:
    """Make a version the champion, if its verdict allows or a waiver lets it past.

    Example: `mlp promote MODEL 3 --reason "holiday data" --waive calibrated --until 2018-02-01`.
    """
    from ml_platform.cli.models import promote_version

    promote_version(model, version, reason=reason, waive=waive or [], until=until, who=who, as_json=json)


@app.command()
def rollback(
    model: Model,
    reason: Reason,
    to: Annotated[
        int | None, typer.Option(min=1, help="An earlier champion's version; the previous one unless told.")
    ] = None,
    who: Who = "",
    json: Json = False,
) -> None:
    """Put the previous champion back. One ledger entry; nothing is deleted."""
    from ml_platform.cli.models import roll_back

    roll_back(model, to, reason=reason, who=who, as_json=json)


@app.command()
def doctor(json: Json = False) -> None:
    """Say what is missing in this environment, and how to mend it."""
    from ml_platform.cli.doctor import examine

    examine(json)


@app.command()
def demo() -> None:
    """Land the year 2017, materialise the whole graph, and show what was made. Safe to repeat."""
    from ml_platform.cli.demo import run_demo

    run_demo()


@app.command()
def ui(port: Annotated[int, typer.Option(help="Port on 127.0.0.1.")] = 3000) -> None:
    """Open Dagster's webserver and daemon over the same instance. Ctrl-C ends both."""
    from ml_platform.cli.ui import serve

    serve(port)


@features_app.command("get")
def features_get(
    labels: Annotated[Path, typer.Option(help="Parquet or CSV: entity columns and a time column.")],
    features: Annotated[str, typer.Option(help="Comma-separated table:column references.")],
    out: Annotated[Path, typer.Option(help="File to write (.parquet or .csv, by its name): labels and features.")],
    ttl_days: Annotated[int, typer.Option(min=1, help="Oldest feature row that still counts, in days.")] = 7,
    label_time: Annotated[
        str, typer.Option(help="The labels' time column: a date, or an instant with a zone.")
    ] = "as_of",
) -> None:
    """Join published features to rows of your own, each as they were known at its time.

    Example: `mlp features get --labels mine.parquet --features household:spend_cents_28d --out joined.parquet`.
    """
    from ml_platform.cli.features import get

    get(labels, features, out, ttl_days=ttl_days, label_time=label_time)


@app.command()
def slo(
    history: Annotated[
        str | None, typer.Option(metavar="PROMISE", help="The days of one promise, by the name in the table.")
    ] = None,
    json: Json = False,
) -> None:
    """List what is promised: how it stands now, what is left of its error budget, who answers for it.

    Example: `mlp slo --history "raw/transactions landed"`.
    """
    from ml_platform.cli.slo import show_slo

    show_slo(history, json)


@app.command()
def lineage(
    what: Annotated[
        str | None,
        typer.Argument(help="A column, table, model or prediction; every one there is unless told."),
    ] = None,
    up: Annotated[bool, typer.Option("--up", help="Only what it is made of.")] = False,
    down: Annotated[bool, typer.Option("--down", help="Only who uses it.")] = False,
    dot: Annotated[bool, typer.Option("--dot", help="Print a Graphviz digraph.")] = False,
    json: Json = False,
) -> None:
    """Show where a column comes from and who uses it, from the landed file to the prediction.

    Examples: `mlp lineage raw.transactions.retail_disc`, `mlp lineage features/household.spend_cents_28d --up`,
    `mlp lineage models/MODEL`.
    """
    from ml_platform.cli.lineage import show_lineage

    show_lineage(what, up=up, down=down, as_json=json, as_dot=dot)


@app.command()
def live(
    speed: Annotated[str, typer.Option(help="Seconds a landed day takes, or `max`.")] = "3",
    headless: Annotated[
        bool, typer.Option("--headless", help="Without server and view, week by week as fast as it goes.")
    ] = False,
    start: Annotated[str | None, typer.Option("--from", help="First land at once what comes before.")] = None,
    until: Annotated[str | None, typer.Option(help="Last landing day; the end of the data unless told.")] = None,
    port: Annotated[int, typer.Option(help="Port of the UI on 127.0.0.1.")] = 3000,
) -> None:
    """Replay the year with every sensor on: land files, move the clock, and let the daemon decide the rest.

    Use a home of its own (`make live` does). Interrupted, it goes on where it stopped; it ends with the story.
    """
    from ml_platform.cli.live import run_live

    run_live(speed, headless=headless, start=start, until=until, port=port)


@app.command()
def story(
    everything: Annotated[bool, typer.Option("--all", help="Calm Mondays and kept promises too.")] = False,
    json: Json = False,
) -> None:
    """Tell what happened: drift, trainings, verdicts, promotions, rollbacks, alerts, each with day and cause."""
    from ml_platform.cli.story import show_story

    show_story(json, everything)


@app.command()
def hindsight(
    model: Annotated[str | None, typer.Argument(help="The model's name; every model unless told.")] = None,
    json: Json = False,
) -> None:
    """Judge a replayed year: what the platform did, beside never, weekly and ideally retraining.

    It makes up for the trainings that weekly retraining would have done, so the first time takes long.
    Example: `mlp hindsight coupon_redemption`.
    """
    from ml_platform.cli.hindsight import show_hindsight

    show_hindsight(model, json)


@alerts_app.callback(invoke_without_command=True)
def alerts(
    context: typer.Context,
    everything: Annotated[bool, typer.Option("--all", help="Also what is over, newest first.")] = False,
    json: Json = False,
) -> None:
    """Show which promises are broken: since when, how badly, who owns them. `ack` takes one on."""
    if context.invoked_subcommand is None:
        from ml_platform.cli.alerts import show_alerts

        show_alerts(everything, json)


@alerts_app.command("ack")
def alerts_ack(
    id: Annotated[int, typer.Argument(min=1, help="The alert's number, as `mlp alerts` lists it.")],
    who: Annotated[str, typer.Option(help="Who looks after it. Your login name unless told.")] = "",
    json: Json = False,
) -> None:
    """Say that you look after an alert. It stays open until its promise holds again.

    Example: `mlp alerts ack 7`.
    """
    from ml_platform.cli.alerts import acknowledge

    acknowledge(id, who, json)
