"""The lineage of a deployment: what there is, its columns, and which column is made of which.

A `Node` is a table-like thing with columns. Its id is a path in words: `landing/transactions` (the landed file),
`raw/transactions`, `staging/stg_transactions`, `marts/line_changes`, `feature_models/household_features`,
`features/household`, `labels/<model>`, `models/<model>/training_set`, `models/<model>` (its columns are its inputs),
`models/<model>/embeddings`, `predictions/<model>`. `Node.asset` is its key in the asset graph; None where the graph has
no such asset (a landed file, a label's SQL).

An `Edge` leads from the column that is read to the column that is made. `how`:
  expression   the value is computed from the source's value
  key          the source decides which rows meet (join, filter, grouping, window) and is no part of the value
  unknown      nobody can tell: the SQL could not be followed, so everything of the source is suspected
The pseudo-column `*` (ROWS) stands for the rows of a node: they come from the rows of what it reads, keys lead to them,
and what is counted is computed from them. A source `*` with `how="unknown"` means every column of that node.

Invariants: the graph has no edge to or from a node or column that is not in it; a column without an edge is a constant,
a parameter, or of a landed file; what could not be followed has an `unknown` edge, never none. Such an edge from a
node's own rows says that the node reads what nobody declares; otherwise no edge stays within a node.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from ml_platform.contracts.pii import Pii

Kind = Literal[
    "landing", "raw", "staging", "marts", "feature_models", "features", "labels", "training_set", "model",
    "embeddings", "predictions", "sql",
]  # fmt: skip
"""`sql`: a dbt model of a folder that is none of this platform's stages."""
How = Literal["expression", "key", "unknown"]
ROWS = "*"
VALUES: tuple[How, ...] = ("expression", "unknown")
"""What a value may come from: the edges that PII follows, and that a tree shows unless told otherwise."""


@dataclass(frozen=True, order=True)
class ColumnRef:
    """A column of a node; `column` is ROWS for the node's rows."""

    node: str
    column: str

    def __str__(self) -> str:
        return f"{self.node}.{self.column}"


@dataclass(frozen=True)
class Column:
    """`unit` and `dtype` are empty where nobody states them. `pii`: the class declared of it, None where none is; what
    it inherits is `Lineage.pii_paths`. `importance`: of a model's input, the champion's; None without a champion, or
    where the champion does not read it."""

    name: str
    dtype: str = ""
    description: str = ""
    unit: str = ""
    pii: Pii | None = None
    importance: float | None = None


@dataclass(frozen=True)
class Node:
    """`code`: file of the repository (`path` or `path:line`) that declares it. `checksum`: of the text that makes it,
    so that two checkouts can be compared. `version`: of a model and its predictions, the champion's."""

    id: str
    kind: Kind
    columns: tuple[Column, ...]
    description: str = ""
    owner: str = ""
    group: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    code: str = ""
    checksum: str = ""
    asset: tuple[str, ...] | None = None
    version: int | None = None

    def column(self, name: str) -> Column | None:
        """The column of that name, None where there is none."""
        return next((column for column in self.columns if column.name == name), None)


@dataclass(frozen=True, order=True)
class Edge:
    source: ColumnRef
    target: ColumnRef
    how: How


@dataclass(frozen=True)
class Resolved:
    """How much of the SQL could be followed: columns of SQL models, and those of them without an unknown edge."""

    columns: int
    followed: int

    @property
    def share(self) -> float:
        return self.followed / self.columns if self.columns else 1.0


@dataclass(frozen=True)
class Lineage:
    """The whole graph: `nodes` by id in the order data flows, `edges` sorted. Made by `ml_platform.catalog.build`."""

    nodes: Mapping[str, Node]
    edges: tuple[Edge, ...]

    # ------------------------------------------------------------------ columns

    def sources(self, ref: ColumnRef) -> Sequence[Edge]:
        """The edges into a column, sorted by source."""
        return self._into.get(ref, ())

    def uses(self, ref: ColumnRef) -> Sequence[Edge]:
        """The edges out of a column, sorted by target; an unknown one out of its node's rows may be out of it too."""
        rows = () if ref.column == ROWS else self._out_of.get(ColumnRef(ref.node, ROWS), ())
        suspicions = [Edge(ref, edge.target, edge.how) for edge in rows if edge.how == "unknown"]
        return [*self._out_of.get(ref, ()), *suspicions]

    def upstream(self, *starts: ColumnRef, through: Sequence[How] = VALUES) -> list[Edge]:
        """Every edge on a way to one of these columns, nearest first."""
        return list(_walk(starts, self.sources, lambda edge: edge.source, through))

    def downstream(self, *starts: ColumnRef, through: Sequence[How] = VALUES) -> list[Edge]:
        """Every edge on a way from one of these columns, nearest first."""
        return list(_walk(starts, self.uses, lambda edge: edge.target, through))

    def refs(self, node: str) -> list[ColumnRef]:
        """The columns of a node, and its rows."""
        return [*(ColumnRef(node, column.name) for column in self.nodes[node].columns), ColumnRef(node, ROWS)]

    # -------------------------------------------------------------------- nodes

    def parents(self, node: str) -> list[str]:
        """The nodes that a node reads, sorted."""
        return sorted(self._node_parents.get(node, ()))

    def children(self, node: str) -> list[str]:
        """The nodes that read a node, sorted."""
        return sorted(self._node_children.get(node, ()))

    def below(self, nodes: Iterable[str]) -> list[str]:
        """These nodes and every node that reads them, however far down, in the order data flows."""
        return self._reached(nodes, self.children)

    def above(self, nodes: Iterable[str]) -> list[str]:
        """These nodes and every node that they read, however far up, in the order data flows."""
        return self._reached(nodes, self.parents)

    def _reached(self, nodes: Iterable[str], onward: Callable[[str], Iterable[str]]) -> list[str]:
        seen = set(nodes)
        waiting = deque(seen)
        while waiting:
            fresh = set(onward(waiting.popleft())) - seen
            seen |= fresh
            waiting.extend(fresh)
        return [node for node in self.nodes if node in seen]

    # ---------------------------------------------------------------------- PII

    def pii_paths(self, ref: ColumnRef) -> dict[Pii, list[Edge]]:
        """The PII classes a value holds, its own and those of what it is computed from, `none` left out: of each class
        a shortest way from where it is declared to `ref` (no edges: it is declared here).

        Classes flow along values, not along keys; of an unknown source every column is suspected.
        """
        found: dict[Pii, list[Edge]] = {}
        ways: dict[ColumnRef, list[Edge]] = {ref: []}
        waiting = deque([ref])
        while waiting:
            at = waiting.popleft()
            declared = self._declared_pii(at)
            if declared and declared != "none":
                found.setdefault(declared, ways[at])
            for edge in self.sources(at):
                suspects = self.refs(edge.source.node) if edge.how == "unknown" else [edge.source]
                for source in suspects if edge.how in VALUES else ():
                    if source not in ways:
                        ways[source] = [Edge(source, edge.target, edge.how), *ways[at]]
                        waiting.append(source)
        return found

    # ------------------------------------------------------------------ figures

    def resolved(self) -> Resolved:
        """How many of the columns made by SQL could be followed to their sources."""
        made = [ref for node in self.nodes.values() if node.kind in SQL_KINDS for ref in self.refs(node.id)]
        followed = [ref for ref in made if all(edge.how != "unknown" for edge in self.sources(ref))]
        return Resolved(len(made), len(followed))

    def suspected(self) -> list[ColumnRef]:
        """The columns whose sources nobody can tell, sorted."""
        return sorted({edge.target for edge in self.edges if edge.how == "unknown"})

    # ------------------------------------------------------------------ indexes

    @cached_property
    def _into(self) -> dict[ColumnRef, list[Edge]]:
        return _grouped(self.edges, lambda edge: edge.target)

    @cached_property
    def _out_of(self) -> dict[ColumnRef, list[Edge]]:
        return _grouped(self.edges, lambda edge: edge.source)

    @cached_property
    def _node_parents(self) -> dict[str, set[str]]:
        return _pairs((edge.target.node, edge.source.node) for edge in self.edges)

    @cached_property
    def _node_children(self) -> dict[str, set[str]]:
        return _pairs((edge.source.node, edge.target.node) for edge in self.edges)

    def _declared_pii(self, ref: ColumnRef) -> Pii | None:
        column = self.nodes[ref.node].column(ref.column)
        return column and column.pii


SQL_KINDS: tuple[Kind, ...] = ("staging", "marts", "feature_models", "labels", "sql")


def _walk(
    starts: Iterable[ColumnRef],
    edges_at: Callable[[ColumnRef], Sequence[Edge]],
    far_end: Callable[[Edge], ColumnRef],
    through: Sequence[How],
) -> Iterator[Edge]:
    seen, waiting = set(starts), deque(starts)
    while waiting:
        for edge in edges_at(waiting.popleft()):
            if edge.how in through:
                yield edge
                if far_end(edge) not in seen:
                    seen.add(far_end(edge))
                    waiting.append(far_end(edge))


def _grouped(edges: Iterable[Edge], by: Callable[[Edge], ColumnRef]) -> dict[ColumnRef, list[Edge]]:
    found: dict[ColumnRef, list[Edge]] = {}
    for edge in edges:
        found.setdefault(by(edge), []).append(edge)
    return found


def _pairs(pairs: Iterable[tuple[str, str]]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for key, value in pairs:
        if key != value:
            found.setdefault(key, set()).add(value)
    return found
