"""The story of a deployment: every drift verdict, training, verdict, promotion, retirement, rollback and alert.

Read from what was kept (the Mondays' records, the ledger, the book of alerts), so it can be told at any time, again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from ml_platform.alerts.records import Alert
from ml_platform.calendar import business_date
from ml_platform.monitoring.weekly import DriftRecord, PerformanceRecord
from ml_platform.registry.ledger import Ledger

_PLACE = {name: place for place, name in enumerate(("drift", "performance", "training", "verdict", "ledger", "alert"))}


@dataclass(frozen=True)
class Happening:
    """One thing that happened. `as_of`: the business day; `model` None: of no one model."""

    as_of: date
    model: str | None
    event: str
    cause: str
    figures: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "as_of": self.as_of.isoformat(), "figures": dict(self.figures)}


def tell(
    ledger: Ledger,
    drifts: Mapping[str, Sequence[DriftRecord]],
    performance: Mapping[str, Sequence[PerformanceRecord]],
    causes: Mapping[tuple[str, date], str],
    alerts: Sequence[Alert],
) -> list[Happening]:
    """Everything, by day; on a day in the order of cause and effect. `causes`: why a cutoff was trained, by model."""
    found: list[tuple[date, int, Happening]] = []

    def add(kind: str, happening: Happening) -> None:
        found.append((happening.as_of, _PLACE[kind], happening))

    for model, records in drifts.items():
        for record in records:
            add("drift", Happening(record.as_of, model, record.verdict, record.cause, record.figures))
    for model, judged in performance.items():
        for week in (week for week in judged if week.rows):
            event = "promise broken" if week.breached else "as promised"
            said = "; ".join(week.breached) or f"as of {week.as_of}"
            add("performance", Happening(week.judged_on, model, event, said, week.figures))
    for model in ledger.models():
        for kind, happening in _of_ledger(ledger, model, causes):
            add(kind, happening)
    for alert in alerts:
        day = business_date(alert.opened_at)
        add(
            "alert",
            Happening(day, None, f"alert ({alert.severity})", f"{alert.title}: {alert.found}", {"id": alert.id}),
        )
    return [happening for _, _, happening in sorted(found, key=lambda each: each[:2])]


def _of_ledger(ledger: Ledger, model: str, causes: Mapping[tuple[str, date], str]) -> list[tuple[str, Happening]]:
    """Trainings, their verdicts, and what became of them."""
    told: list[tuple[str, Happening]] = []
    for version in ledger.versions(model):
        why = causes.get((model, version.cutoff), "asked for")
        told.append(("training", Happening(version.cutoff, model, "trained", why, {"version": version.version})))
        verdict = ledger.verdict(model, version.version)
        if verdict:
            failed = [gate for gate, passed in verdict.gates.items() if not passed]
            event, said = ("refused", ", ".join(failed)) if failed else ("passed its gates", "every gate")
            told.append(("verdict", Happening(version.cutoff, model, event, said, {"version": version.version})))
    for entry in ledger.history(model):
        figures = {"from": entry.from_version, "to": entry.to_version}
        event = {"promote": "promoted", "rollback": "rolled back"}[entry.action]
        told.append(("ledger", Happening(business_date(entry.recorded_at), model, event, entry.reason, figures)))
    for gone in ledger.retirements(model):
        figures = {"version": gone.version, **gone.evidence}
        told.append(("ledger", Happening(business_date(gone.recorded_at), model, "retired", gone.reason, figures)))
    return told
