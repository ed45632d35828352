"""The ledger as rows for people and `--json`: plain JSON values, stable names, no decisions."""

from datetime import date
from typing import Any

from ml_platform.registry.ledger import Ledger
from ml_platform.registry.records import Entry


def history_rows(ledger: Ledger, model: str) -> list[dict[str, Any]]:
    """One row per ledger entry, oldest first."""
    return [
        {
            "seq": entry.seq,
            "recorded_at": entry.recorded_at.isoformat(),
            "action": entry.action,
            "from_version": entry.from_version,
            "to_version": entry.to_version,
            "who": entry.who,
            "reason": entry.reason,
            "evidence_digest": entry.evidence_digest,
            "waivers": [waiver.to_json() for waiver in entry.waivers],
        }
        for entry in ledger.history(model)
    ]


def model_rows(ledger: Ledger, today: date) -> list[dict[str, Any]]:
    """One row per model, by name; the champion's fields are None before the first promotion.

    `metrics` are those of the verdict the champion was promoted on; a waiver says whether it has `expired` by `today`.
    """
    return [_model_row(ledger, model, today) for model in ledger.models()]


def _model_row(ledger: Ledger, model: str, today: date) -> dict[str, Any]:
    versions, history = ledger.versions(model), ledger.history(model)
    newest = versions[-1]
    verdict = ledger.verdict(model, newest.version)
    row: dict[str, Any] = {
        "model": model,
        "champion": None,
        "since": None,
        "who": None,
        "cutoff": None,
        "bundle_digest": None,
        "bundle_uri": None,
        "metrics": None,
        "waivers": [],
        "newest_version": newest.version,
        "newest_failed_gates": None
        if verdict is None
        else [gate for gate, passed in verdict.gates.items() if not passed],
        "entries": len(history),
    }
    return row | (_champion_fields(ledger, history, today) if history else {})


def _champion_fields(ledger: Ledger, history: list[Entry], today: date) -> dict[str, Any]:
    entry = history[-1]
    champion = ledger.version(entry.model, entry.to_version)
    # The evidence is the verdict behind the promotion, also after a rollback and after later evaluations.
    evidence = ledger.evidence(entry)
    promoted = next(e for e in reversed(history) if e.action == "promote" and e.to_version == entry.to_version)
    return {
        "champion": champion.version,
        "since": entry.recorded_at.isoformat(),
        "who": entry.who,
        "cutoff": champion.cutoff.isoformat(),
        "bundle_digest": champion.bundle_digest,
        "bundle_uri": champion.bundle_uri,
        "metrics": evidence.body.get("metrics"),
        "waivers": [waiver.to_json() | {"expired": waiver.until < today} for waiver in promoted.waivers],
    }
