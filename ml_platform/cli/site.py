"""`mlp catalog`: the catalogue of a home as one HTML page."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from pathlib import Path

from ml_platform.catalog.champions import read_champions
from ml_platform.catalog.graph import Lineage
from ml_platform.catalog.site import Figures, Standing, distributions, drift, page
from ml_platform.cli import output
from ml_platform.clock import Clock
from ml_platform.features.store import FeatureStore
from ml_platform.lake import PartitionedTable, write_atomically
from ml_platform.settings import Settings


def write_catalog(out: Path) -> None:
    """Writes the page; one that was there is replaced whole. Raises LakeWriteFailed."""
    from assets.columns import lineage_now
    from assets.feature_tables import FEATURE_TABLES
    from assets.models import MODELS

    settings = Settings.from_env()
    champions = read_champions(settings.ledger_url, MODELS)
    graph, store = lineage_now(champions), FeatureStore(settings.lake, FEATURE_TABLES)
    today = Clock(settings.home).today()
    figures = Figures(
        distributions(store, FEATURE_TABLES),
        _standings(settings, graph, today),
        {name: drift(PartitionedTable(settings.lake / "drift", name)) for name in MODELS},
        {name: champion.importance for name, champion in champions.items()},
    )
    content = page(graph, figures, f"Catalogue as of {today}").encode()
    write_atomically(out, content, "catalog")
    named = f"{len(graph.nodes)} nodes, {sum(len(node.columns) for node in graph.nodes.values())} columns"
    output.console().print(f"[green]✓[/] {out}: {named}, {len(content) / 1000:,.0f} kB; open it in a browser")


def _standings(settings: Settings, graph: Lineage, today: date) -> Mapping[str, Standing]:
    """The newest partition of what is published in the lake, and every promise as it stands."""
    from assets.slo import read_promises

    found: dict[str, Standing] = {}
    for node in graph.nodes.values():
        folder, _, name = node.id.partition("/")
        if node.kind in ("features", "predictions"):
            table = PartitionedTable(settings.lake / folder, name)
            for newest in table.partitions()[-1:]:
                found[node.id] = Standing(newest, table.require(newest).rows)
    for reading in read_promises(settings, today):
        id_ = reading.promise.asset
        before = found.get(id_, Standing(reading.newest.isoformat() if reading.newest else ""))
        lag = "nothing yet" if reading.lag_days is None else f"{reading.lag_days} of {reading.promise.within_days} days"
        said = f"{reading.promise.name}: {reading.state} ({lag})"
        broken = before.broken or reading.state == "broken"
        found[id_] = replace(before, promises=(*before.promises, said), broken=broken)
    return found
