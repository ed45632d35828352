"""`mlp alerts`: which promises are broken, who looks after them; `mlp alerts ack` takes one on."""

import getpass
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from ml_platform.alerts.book import AlertBook
from ml_platform.alerts.outbox import Outbox
from ml_platform.alerts.records import SEVERITIES, Alert, alert_row
from ml_platform.cli import output
from ml_platform.settings import Settings

NEWEST = 200  # shown of those that are over


def show_alerts(everything: bool, as_json: bool) -> None:
    """What is open, the worst first (with `everything`: what is over too, the newest first); then the sinks down."""
    book = _book()
    alerts = book.alerts(open_only=not everything, limit=NEWEST if everything else None)
    if not everything:
        alerts.sort(key=lambda alert: (SEVERITIES.index(alert.severity), -alert.id))
    if as_json:
        output.show_json([alert_row(alert) for alert in alerts])
        return
    if not alerts:
        said = "No alert was ever raised." if everything else "No promise is broken. What was: mlp alerts --all"
        output.console().print(said)
    else:
        title = f"The newest {len(alerts)} alerts" if everything else f"{len(alerts)} broken promises"
        output.show_rows([_line(alert) for alert in alerts], title=title, as_json=False)
    for line in _silent(book.outbox):
        output.console().print(line, markup=False)


def acknowledge(number: int, who: str, as_json: bool) -> None:
    """Notes who looks after an alert, and shows it. Raises UnknownAlert, NothingToAcknowledge."""
    alert = _book().ack(number, who or getpass.getuser(), datetime.now(UTC))
    if as_json:
        output.show_json([alert_row(alert)])
        return
    output.show_rows([_line(alert)], title=f"{alert.acked_by} looks after it", as_json=False)
    output.console().print(f"What to do: {alert.runbook}")


def _book() -> AlertBook:
    return AlertBook(Settings.from_env().alerts_url)


def _silent(outbox: Outbox) -> Iterator[str]:
    """The sinks that did not take all they were sent: an alert that reached nobody is seen here at least."""
    for sink, state in outbox.states().items():
        if state.cause:
            waiting, again = outbox.count(sink), f"{state.next_attempt_at:%Y-%m-%d %H:%M:%S} UTC"
            yield f"{sink} is down: {state.cause}. {waiting} wait for it; it is tried again after {again}."


def _line(alert: Alert) -> dict[str, Any]:
    found = f" ({alert.found}; promised: {alert.promised})" if alert.found and alert.promised else ""
    return {
        "id": alert.id,
        "state": f"{alert.state}, acked by {alert.acked_by}" if alert.acked_by else alert.state,
        "severity": alert.severity,
        "since": f"{alert.since:%Y-%m-%d %H:%M}",
        "owner": alert.owner,
        "asset": alert.asset,
        "what": alert.title + found,
    }
