"""A thing's ancestry or its uses as a tree, as rows, and as Graphviz text: what `mlp lineage` shows of the graph."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ml_platform.catalog.graph import ROWS, VALUES, ColumnRef, Edge, How, Lineage, Node
from ml_platform.wording import printable

Step = tuple[str, str | None]
"""A node and a column of it; None: the node as a whole."""


@dataclass(frozen=True)
class Branch:
    """A step of a tree. `how`: of the edge that leads here, None at the root and between nodes. `seen`: what lies
    beyond stands where the step comes nearest to the root."""

    step: Step
    how: How | None
    beyond: tuple["Branch", ...]
    seen: bool = False

    @property
    def name(self) -> str:
        node, column = self.step
        return node if column is None else f"{node}.{column}"

    def to_json(self) -> dict[str, Any]:
        """The tree as plain values."""
        node, column = self.step
        said = {"node": node, "column": column, "how": self.how, "shown_elsewhere": self.seen}
        return {**said, "beyond": [each.to_json() for each in self.beyond]}


def tree(lineage: Lineage, what: ColumnRef | Node, *, up: bool) -> Branch:
    """Everything that a thing is made of (`up`) or that is made of it; a step is opened once, nearest to the root."""
    root: Step = (what.id, None) if isinstance(what, Node) else (what.node, what.column)
    depths: dict[Step, int] = {root: 0}
    level = [root]
    while level:
        level = [far for near in level for far, _ in _onward(lineage, near, up) if far not in depths]
        depths |= dict.fromkeys(level, max(depths.values()) + 1)
    opened: set[Step] = set()

    def grow(step: Step, how: How | None, depth: int) -> Branch:
        onward = _onward(lineage, step, up)
        if step in opened or depth > depths[step]:
            return Branch(step, how, (), seen=bool(onward))
        opened.add(step)
        return Branch(step, how, tuple(grow(far, by, depth + 1) for far, by in onward))

    return grow(root, None, 0)


def dot(lineage: Lineage, what: ColumnRef | Node, *, up: bool, down: bool) -> str:
    """The same as a Graphviz digraph, data flowing from left to right. Names are quoted, whatever they hold."""
    found: dict[tuple[Step, Step, How | None], None] = {}

    def add(branch: Branch, towards: bool) -> None:
        for each in branch.beyond:
            pair = (each.step, branch.step) if towards else (branch.step, each.step)
            found[(*pair, each.how)] = None
            add(each, towards)

    for towards, wanted in ((True, up), (False, down)):
        if wanted:
            add(tree(lineage, what, up=towards), towards)
    lines = [
        f"  {_quoted(source)} -> {_quoted(target)}{' [style=dashed, color=red]' if how == 'unknown' else ''};"
        for source, target, how in found
    ]
    return "\n".join(["digraph lineage {", "  rankdir=LR; node [shape=box];", *lines, "}"])


def keys_of(lineage: Lineage, node: str) -> list[ColumnRef]:
    """The columns that decide which rows a node has: joined, filtered or grouped by."""
    edges: Iterable[Edge] = lineage.sources(ColumnRef(node, ROWS))
    return [edge.source for edge in edges if edge.how == "key" and edge.source.column != ROWS]


def _onward(lineage: Lineage, step: Step, up: bool) -> Sequence[tuple[Step, How | None]]:
    node, column = step
    if column is None:
        return [((each, None), None) for each in (lineage.parents(node) if up else lineage.children(node))]
    ref = ColumnRef(node, column)
    edges = lineage.sources(ref) if up else lineage.uses(ref)
    found: list[tuple[Step, How | None]] = []
    for edge in edges:
        if edge.how in VALUES:
            end = edge.source if up else edge.target
            found.append(((end.node, end.column), edge.how))
    return found


def _quoted(step: Step) -> str:
    node, column = step
    name = printable(node if column is None else f"{node}.{column}")
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
