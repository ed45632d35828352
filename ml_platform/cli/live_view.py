"""The terminal view of `mlp live`: clock, landed days, freshness, drift, champions, and alerts as they happen."""

from typing import Any

from rich.console import Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from ml_platform.clock import Clock
from ml_platform.errors import PlatformError
from ml_platform.landing.through import known_through
from ml_platform.settings import Settings
from ml_platform.training.spec import ModelSpec

SHOWN_ALERTS = 8
COLOURS = {"calm": "green", "drifted": "red", "data_bug": "yellow", "held": "green", "broken": "red", "unknown": "dim"}


def view(settings: Settings) -> Group:
    """What there is now. Reads published files, the ledger and the book of alerts; holds nothing up."""
    from assets.slo import read_promises

    clock = Clock(settings.home)
    today = clock.today()
    landed = known_through(settings)
    try:
        readings = read_promises(settings, today)
    except PlatformError as error:
        return Group(Panel(str(error), border_style="red"))
    states = [reading.state for reading in readings]
    promises = Text.assemble(
        *((f"{states.count(state)} {state}  ", COLOURS[state]) for state in ("held", "broken", "unknown"))
    )
    head = Table.grid(padding=(0, 3))
    head.add_row("[bold]clock", f"{today:%A} {today}", "[bold]landed through", str(landed or "–"))
    head.add_row("[bold]promises", promises)
    return Group(Panel(head, title="ML Platform", title_align="left"), _models(settings), _alerts(settings))


def _models(settings: Settings) -> Table:
    from assets.models import MODELS
    from ml_platform.lake import PartitionedTable
    from ml_platform.monitoring.weekly import drift_records, performance_records
    from ml_platform.registry.challengers import challenger
    from ml_platform.registry.ledger import Ledger

    book = Ledger(settings.ledger_url)
    table = Table(title="Models", title_justify="left", box=None, pad_edge=False, header_style="dim")
    for name in ("model", "champion", "on trial", "drift", "turned out"):
        table.add_column(name, overflow="fold")
    for name, spec in MODELS.items():
        champion, rival = book.champion(name), challenger(book, name, spec.gate_names)
        drifts = drift_records(PartitionedTable(settings.lake / "drift", name))
        judged = performance_records(PartitionedTable(settings.lake / "performance", name))
        table.add_row(
            name,
            f"v{champion.version} of {champion.cutoff}" if champion else "–",
            f"v{rival.version} since {rival.cutoff}" if rival else "–",
            _drift(drifts[-1]) if drifts else "–",
            _turned_out(spec, judged[-1]) if judged and judged[-1].rows else "–",
        )
    return table


def _drift(record: Any) -> Text:
    return Text(
        f"{record.verdict} {record.as_of} (score PSI {record.figures.get('score_psi', 0):.2f})",
        style=COLOURS.get(record.verdict, ""),
    )


def _turned_out(spec: ModelSpec, record: Any) -> Text:
    from ml_platform.evaluation.gates import METRIC_WORDS
    from ml_platform.tasks import task_of

    metric = task_of(spec).HEADLINE
    found = record.figures.get(f"champion_{metric}")
    said = f"{METRIC_WORDS[metric]} {found:.4f}" if found is not None else "not defined"
    return Text(f"as of {record.as_of}: {said}", style="red" if record.breached else "green")


def _alerts(settings: Settings) -> Table:
    from ml_platform.alerts.book import AlertBook

    table = Table(title="Alerts", title_justify="left", box=None, pad_edge=False, show_header=False)
    for alert in AlertBook(settings.alerts_url).alerts(limit=SHOWN_ALERTS):
        colour = (
            {"page": "red", "ticket": "yellow", "info": "dim"}[alert.severity] if alert.state != "resolved" else "dim"
        )
        table.add_row(f"{alert.opened_at:%Y-%m-%d}", alert.severity, alert.state, Text(alert.title, style=colour))
    return table
