"""`catalog/lineage`: the lineage of the deployment as tables anyone may query, and on every asset a picture of it.

Made anew when a champion changes: what serves, and how much its inputs matter, is part of it. Pictures and uses are
observations of the assets that they are of: each asset shows them of today, however long ago it was made.
"""

from typing import TYPE_CHECKING

import dagster as dg

from assets.automation import when_deps_are_new
from assets.columns import lineage_now, seen
from assets.common import model_key, table_of
from assets.models import MODELS
from ml_platform.settings import Settings
from resources import LakeResource

if TYPE_CHECKING:
    from ml_platform.catalog.graph import Lineage

KEY = dg.AssetKey(["catalog", "lineage"])
CHECK = "every_column_followed"
WHEN_A_CHAMPION_CHANGES = when_deps_are_new("a champion is new")


@dg.asset(
    key=KEY,
    description="Every column from the landed file to the prediction, what it is made of, and who uses it.",
    deps=[model_key(spec, "champion") for spec in MODELS.values()],
    owners=["team:data-platform"],
    group_name="catalog",
    kinds={"parquet", "duckdb"},
    tags={"stage": "catalog"},
    automation_condition=WHEN_A_CHAMPION_CHANGES,
    check_specs=[dg.AssetCheckSpec(CHECK, asset=KEY, description="The SQL of every column could be followed")],
)
def lineage(context: dg.AssetExecutionContext, lake: LakeResource) -> dg.MaterializeResult:
    from ml_platform.catalog.champions import read_champions
    from ml_platform.catalog.table import changes_since, publish, views_path

    champions = read_champions(Settings.from_env().ledger_url, MODELS)
    graph = lineage_now(champions)
    changes = changes_since(graph, lake.root())
    published = publish(graph, lake.root())
    for node in graph.nodes.values():
        if node.asset:
            context.log_event(dg.AssetObservation(dg.AssetKey(node.asset), metadata=seen(graph, node.id)))
    share, followed = graph.resolved(), _followed(graph)
    return dg.MaterializeResult(
        data_version=dg.DataVersion(published["columns"].digest + published["lineage"].digest),
        metadata={
            "nodes": len(graph.nodes),
            "columns": published["columns"].rows,
            "edges": published["lineage"].rows,
            "columns_followed": share.share,
            "changed": table_of([{"change": str(change)} for change in changes]),
            "champions": {name: champion.version for name, champion in champions.items()},
            "views": dg.MetadataValue.path(str(views_path(lake.root()))),
        },
        check_results=[followed],
    )


def _followed(graph: "Lineage") -> dg.AssetCheckResult:
    """Whether the SQL of every column could be followed; which could not."""
    suspected, share = graph.suspected(), graph.resolved()
    return dg.AssetCheckResult(
        check_name=CHECK,
        passed=not suspected,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{share.followed} of {share.columns} columns made by SQL are followed to their sources",
        metadata={"suspected": table_of([{"column": str(ref)} for ref in suspected])},
    )


CATALOG_ASSETS = [lineage]
