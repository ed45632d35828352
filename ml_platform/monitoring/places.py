"""Where promises are read in this deployment: notes and pointers in the lake, and the ledger. Never the warehouse."""

from collections.abc import Collection
from datetime import date
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from ml_platform.landing.loaded import read_loaded
from ml_platform.monitoring.promises import Places

if TYPE_CHECKING:
    from upath import UPath

    from ml_platform.registry.ledger import Ledger


def places_in(lake: "UPath | Path", ledger_url: str) -> Places:
    """Reads what is there at each call; the ledger is opened when a model is first asked for."""

    @cache
    def ledger() -> "Ledger":
        from ml_platform.registry.ledger import Ledger

        return Ledger(ledger_url)

    def landed(table: str) -> date | None:
        found = read_loaded(lake, table)
        return found and found.landed_on

    def newest_event(table: str) -> date | None:
        found = read_loaded(lake, table)
        return found and found.event

    def partitions(asset: str) -> Collection[str]:
        from ml_platform.lake import PartitionedTable

        kind, name = asset.split("/")
        return PartitionedTable(lake / kind, name).partitions()

    def cutoff(model: str) -> date | None:
        champion = ledger().champion(model)
        return champion and champion.cutoff

    return Places(landed, newest_event, partitions, cutoff)
