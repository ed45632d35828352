"""What the ledger and the champions' bundles say of the models in use: version and importance of each input."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ml_platform.errors import PlatformError


@dataclass(frozen=True)
class Champion:
    """The version that serves. `importance`: the share of each feature (`table:column`) in what all take off the loss,
    from 0 to 1; one that takes nothing off has 0."""

    version: int
    importance: Mapping[str, float] = field(default_factory=dict)


def read_champions(ledger_url: str, models: Iterable[str]) -> dict[str, Champion]:
    """The champion of each of these models that has one. A bundle that cannot be opened leaves the importance out."""
    from ml_platform.registry.bundles import open_bundle
    from ml_platform.registry.ledger import Ledger

    book, found = Ledger(ledger_url), {}
    for model in models:
        version = book.champion(model)
        if version is None:
            continue
        try:
            gains = open_bundle(Path(version.bundle_uri)).importance
        except PlatformError:
            gains = {}
        whole = sum(max(gain, 0.0) for gain in gains.values())
        shares = {name: max(gain, 0.0) / whole for name, gain in gains.items()} if whole else {}
        found[model] = Champion(version.version, shares)
    return found
