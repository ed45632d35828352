"""Who stands where: the champion, the challenger on trial beside it, and the former champions in line.

Nothing here is stored: a challenger is whoever passed every gate against the present champion, with a newer cutoff,
and was not retired. So a crash can neither lose a trial nor leave one over.
"""

from collections.abc import Sequence

from ml_platform.registry.ledger import Ledger
from ml_platform.registry.promotion import failed_gates, reigns
from ml_platform.registry.records import ModelVersion


def challenger(ledger: Ledger, model: str, gates: Sequence[str]) -> ModelVersion | None:
    """The version on trial: of those that may replace the champion, the one with the newest cutoff."""
    champion = ledger.champion(model)
    if champion is None:
        return None
    newer = (each for each in ledger.versions(model) if each.cutoff > champion.cutoff)
    newest_first = sorted(newer, key=lambda each: (each.cutoff, each.version), reverse=True)
    return next((each for each in newest_first if _may_replace_the_champion(ledger, each, gates)), None)


def _may_replace_the_champion(ledger: Ledger, version: ModelVersion, gates: Sequence[str]) -> bool:
    """Whether a version, by the ledger alone, is fit to be promoted as things stand and never was."""
    history = ledger.history(version.model)
    if any(each.version == version.version for each in ledger.retirements(version.model)):
        return False
    if any(entry.to_version == version.version for entry in history):
        return False
    verdict = ledger.verdict(version.model, version.version)
    return verdict is not None and not failed_gates(version, verdict, history, gates)


def former_champions(ledger: Ledger, model: str) -> list[ModelVersion]:
    """Those that reigned before the present champion, the latest first."""
    return [ledger.version(model, version) for version in reversed(reigns(ledger.history(model))[:-1])]
