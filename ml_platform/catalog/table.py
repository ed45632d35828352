"""The lineage as two tables in the lake, which anyone may query with SQL, and what changed since they were published.

    <lake>/catalog/columns    a row a column: node, what is said of it, PII class, the champion's importance
    <lake>/catalog/lineage    a row an edge: source and target, each node and column, and how
    <lake>/catalog/lineage.duckdb   views over both, and `ancestry`: every column with all it is made of, however far

The DuckDB file holds no data and is replaced whole, so who has it open goes on reading what was there.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import polars as pl

from ml_platform.catalog.graph import ROWS, ColumnRef, Lineage
from ml_platform.catalog.pii import strongest
from ml_platform.lake import PartitionedTable, Published

PARTITION = "current"
COLUMNS: dict[str, Any] = {
    **dict.fromkeys(("node", "kind", "column", "dtype", "unit", "description", "pii"), pl.String()),
    "importance": pl.Float64(),
    **dict.fromkeys(("owner", "group", "asset", "code", "checksum"), pl.String()),
    "model_version": pl.Int64(),
}
EDGES: dict[str, Any] = dict.fromkeys(
    ("source_node", "source_column", "target_node", "target_column", "how"), pl.String()
)
ANCESTRY = """
create view ancestry as
with recursive way as (
    select target_node as node, target_column as "column", source_node, source_column, how, 1 as steps
    from lineage where how <> 'key'
    union
    select way.node, way."column", lineage.source_node, lineage.source_column, lineage.how, way.steps + 1
    from way
    join lineage on lineage.target_node = way.source_node and lineage.target_column = way.source_column
    where lineage.how <> 'key'
)
select node, "column", source_node, source_column, min(steps) as steps, bool_or(how = 'unknown') as suspected
from way group by all
"""


@dataclass(frozen=True)
class Change:
    """What became of a column since the lineage was last published. `now`: the new name of one that was renamed, as far
    as its sources tell."""

    what: Literal["dropped", "renamed", "added"]
    node: str
    column: str
    now: str = ""

    def __str__(self) -> str:
        return f"{self.node}.{self.column} was {self.what}{f' to {self.now}' if self.now else ''}"


def column_rows(lineage: Lineage) -> pl.DataFrame:
    """A row a column, in the order data flows. `pii`: the strongest class that its values hold."""
    rows = [
        (
            *(node.id, node.kind, column.name, column.dtype, column.unit, column.description),
            *(strongest(lineage, ColumnRef(node.id, column.name)), column.importance, node.owner, node.group),
            *("/".join(node.asset) if node.asset else None, node.code, node.checksum, node.version),
        )
        for node in lineage.nodes.values()
        for column in node.columns
    ]
    return pl.DataFrame(rows, schema=COLUMNS, orient="row")


def edge_rows(lineage: Lineage) -> pl.DataFrame:
    """A row an edge, sorted. A column `*` is the node's rows."""
    rows = [(*(e.source.node, e.source.column), *(e.target.node, e.target.column), e.how) for e in lineage.edges]
    return pl.DataFrame(rows, schema=EDGES, orient="row")


def publish(lineage: Lineage, lake: Path) -> dict[str, Published]:
    """Swaps both tables into sight, and the views over them. Equal lineage gives equal bytes."""
    folder = lake / "catalog"
    published = {}
    for name, frame in (("columns", column_rows(lineage)), ("lineage", edge_rows(lineage))):
        table = PartitionedTable(folder, name)
        published[name] = table.publish(table.stage(PARTITION, frame))
    _write_views(views_path(lake), published)
    return published


def views_path(lake: Path) -> Path:
    """The DuckDB file with the views."""
    return lake / "catalog" / "lineage.duckdb"


def changes_since(lineage: Lineage, lake: Path) -> list[Change]:
    """What was dropped, renamed or added since the tables were published; nothing when they never were."""
    folder = lake / "catalog"
    columns, edges = PartitionedTable(folder, "columns"), PartitionedTable(folder, "lineage")
    if columns.published(PARTITION) is None or edges.published(PARTITION) is None:
        return []
    before = {ColumnRef(node, name) for node, name in columns.read(PARTITION).select("node", "column").iter_rows()}
    made_of: dict[ColumnRef, set[tuple[str, str, str]]] = {}
    for source, column, node, name, how in edges.read(PARTITION).iter_rows():
        made_of.setdefault(ColumnRef(node, name), set()).add((source, column, how))
    now = {ref for id_ in lineage.nodes for ref in lineage.refs(id_) if ref.column != ROWS}
    return list(_changes(lineage, before, now, made_of))


def _changes(
    lineage: Lineage,
    before: set[ColumnRef],
    now: set[ColumnRef],
    made_of: dict[ColumnRef, set[tuple[str, str, str]]],
) -> Iterable[Change]:
    fresh = sorted(now - before)
    for gone in sorted(before - now):
        sources = made_of.get(gone, set())
        twins = [
            each
            for each in fresh
            if each.node == gone.node
            and sources
            and {(edge.source.node, edge.source.column, edge.how) for edge in lineage.sources(each)} == sources
        ]
        if len(twins) == 1:
            fresh.remove(twins[0])
            yield Change("renamed", gone.node, gone.column, twins[0].column)
        else:
            yield Change("dropped", gone.node, gone.column)
    yield from (Change("added", each.node, each.column) for each in fresh)


def _write_views(path: Path, published: dict[str, Published]) -> None:
    import duckdb

    aside = path.with_suffix(f".{os.getpid()}")
    try:
        with duckdb.connect(str(aside)) as connection:
            for name, table in published.items():
                place = str(table.path).replace("'", "''")
                connection.execute(f"create view {name} as select * from read_parquet('{place}')")
            connection.execute(ANCESTRY)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
