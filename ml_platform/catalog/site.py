"""The catalogue as one HTML page: every node and column, the lineage between them, and the features with their figures.

Invariants: the page is one file that asks nothing of any network (its own policy forbids it) and works from a file;
whatever a name or a description holds, it is text: the data stand in a script element as JSON that cannot end it, and
the page's code makes text nodes only. The same lineage and figures give the same bytes.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from html import escape
from pathlib import Path
from typing import Any

import polars as pl

from ml_platform.catalog.graph import ROWS, ColumnRef, Lineage, Node
from ml_platform.catalog.pii import strongest
from ml_platform.contracts import FeatureTable
from ml_platform.features.store import FeatureStore
from ml_platform.lake import PartitionedTable

BARS = 20
TAIL = 0.01
"""Share of the rows at either end that a distribution's picture leaves out: one odd value would flatten all others."""
LONGEST_LABEL = 24


@dataclass(frozen=True)
class Distribution:
    """How a column's values are spread on a Monday. `bars`: rows a bin, of words the commonest values first; `labels`:
    what the first and the last bin begin and end with, of words every bar's; `nulls`: share of the rows."""

    bars: tuple[int, ...]
    labels: tuple[str, ...]
    nulls: float


@dataclass(frozen=True)
class Drifted:
    """A feature's shift on the newest Monday, in the eyes of one model."""

    psi: float
    noise: float


@dataclass(frozen=True)
class Standing:
    """How a node stands: its newest partition or version's cutoff, its rows, and its promises in words."""

    newest: str = ""
    rows: int | None = None
    promises: tuple[str, ...] = ()
    broken: bool = False


@dataclass(frozen=True)
class Figures:
    """What is known of the data: of columns (`features/household.spend_cents_28d`), of nodes, and of each model's
    inputs by feature reference (`household:spend_cents_28d`)."""

    distributions: Mapping[str, Distribution] = field(default_factory=dict)
    standings: Mapping[str, Standing] = field(default_factory=dict)
    drift: Mapping[str, Mapping[str, Drifted]] = field(default_factory=dict)
    importance: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


def page(lineage: Lineage, figures: Figures, title: str) -> str:
    """The whole page."""
    data = json.dumps(_data(lineage, figures), separators=(",", ":"), ensure_ascii=False)
    for sign in "<>&\u2028\u2029":  # no end of the script element, whatever a name holds
        data = data.replace(sign, f"\\u{ord(sign):04x}")
    template = Path(__file__).with_name("site.html").read_text(encoding="utf-8")
    head, rest = template.split("{{title}}")
    before, after = rest.split("{{data}}")
    return f"{head}{escape(title)}{before}{data}{after}"


def distributions(store: FeatureStore, tables: Mapping[str, FeatureTable]) -> dict[str, Distribution]:
    """Of every value of every feature table's newest Monday."""
    found = {}
    for name, table in tables.items():
        published = store.table(name).partitions()
        if published:
            rows = store.table(name).read(published[-1])
            for column in table.values:
                found[f"features/{name}.{column.name}"] = distribution(rows[column.name])
    return found


def drift(table: PartitionedTable) -> dict[str, Drifted]:
    """A model's drift on its newest Monday, by feature."""
    published = table.partitions()
    rows = table.read(published[-1]).iter_rows(named=True) if published else ()
    return {row["column"]: Drifted(row["psi"], row["noise"]) for row in rows}


def distribution(values: pl.Series) -> Distribution:
    """Of a list its length counts; numbers fall into bins of equal width, words and flags stand alone."""
    nulls = values.null_count() / len(values) if len(values) else 0.0
    known = values.drop_nulls()
    if known.dtype == pl.List:
        known = known.list.len()
    if not known.dtype.is_numeric():
        counted = known.cast(pl.String).value_counts(name="rows")
        top = counted.sort("rows", known.name, descending=[True, False]).head(BARS)
        return Distribution(tuple(top["rows"]), tuple(word[:LONGEST_LABEL] for word in top[known.name]), nulls)
    if known.is_empty():
        return Distribution((), (), nulls)
    numbers = known.cast(pl.Float64)
    low, high = (numbers.quantile(q, "nearest") for q in (TAIL, 1 - TAIL))
    assert low is not None and high is not None  # there is a value
    bins = BARS if high > low else 1
    place = ((numbers.clip(low, high) - low) / ((high - low) or 1.0) * bins).cast(pl.Int64).clip(0, bins - 1)
    counts = dict(place.value_counts(name="rows").iter_rows())
    return Distribution(tuple(counts.get(bin_, 0) for bin_ in range(bins)), (f"{low:.6g}", f"{high:.6g}"), nulls)


def _data(lineage: Lineage, figures: Figures) -> dict[str, Any]:
    """What the page's code reads: nodes by place, edges as (node, column, node, column, how) of places."""
    places = {id_: place for place, id_ in enumerate(lineage.nodes)}
    columns = {id_: {column.name: at for at, column in enumerate(node.columns)} for id_, node in lineage.nodes.items()}
    hows = ("expression", "key", "unknown")

    def end(ref: ColumnRef) -> tuple[int, int]:
        return places[ref.node], -1 if ref.column == ROWS else columns[ref.node][ref.column]

    share = lineage.resolved()
    return {
        "resolved": [share.followed, share.columns],
        "nodes": [_node(lineage, node, figures) for node in lineage.nodes.values()],
        "edges": [(*end(edge.source), *end(edge.target), hows.index(edge.how)) for edge in lineage.edges],
    }


def _node(lineage: Lineage, node: Node, figures: Figures) -> dict[str, Any]:
    stated = {name: getattr(node, name) for name in ("id", "kind", "description", "owner", "code", "version")}
    standing = figures.standings.get(node.id)
    return {
        **stated,
        "standing": asdict(standing) if standing else None,
        "columns": [_column(lineage, ColumnRef(node.id, column.name), figures) for column in node.columns],
    }


def _column(lineage: Lineage, ref: ColumnRef, figures: Figures) -> dict[str, Any]:
    node = lineage.nodes[ref.node]
    column = node.column(ref.column)
    assert column is not None  # it was listed by the node
    spread = figures.distributions.get(str(ref))
    said = {"name": column.name, "type": column.dtype, "unit": column.unit, "said": column.description}
    return {
        **said,
        "pii": strongest(lineage, ref),
        "importance": column.importance,
        "spread": asdict(spread) if spread else None,
        "models": _models(ref, figures) if node.kind == "features" else [],
    }


def _models(ref: ColumnRef, figures: Figures) -> Sequence[dict[str, Any]]:
    """What each model that reads a feature says of it."""
    reference = f"{ref.node.partition('/')[2]}:{ref.column}"
    found = []
    for model in sorted({*figures.importance, *figures.drift}):
        share, shift = figures.importance.get(model, {}).get(reference), figures.drift.get(model, {}).get(reference)
        if share is not None or shift is not None:
            moved = {"psi": shift.psi, "noise": shift.noise} if shift else {"psi": None, "noise": None}
            found.append({"model": model, "importance": share, **moved})
    return found
