"""What people call a thing of the lineage: the ways of writing a name, and what somebody may have meant."""

from collections.abc import Iterable, Mapping

from ml_platform.catalog.graph import ROWS, ColumnRef, Lineage, Node
from ml_platform.errors import PlatformError
from ml_platform.wording import NEAREST, nearest


class UnknownName(PlatformError):
    """No node and no column has this name."""


def find(lineage: Lineage, name: str) -> ColumnRef | Node:
    """What a person calls `raw.transactions.sales_cents`, `features/household.spend_cents_28d`,
    `household:spend_cents_28d`, `models/<model>` or `predictions/<model>`.

    A column of the landed file may be named as one of the raw table. Raises UnknownName with the nearest names.
    """
    ids, words = _ids(lineage), _words(name)
    if words in ids:
        return lineage.nodes[ids[words]]
    node, column = ids.get(words[:-1], ""), words[-1]
    places = [place for place in dict.fromkeys((node, _landed(node))) if place in lineage.nodes]
    for place in places:
        if lineage.nodes[place].column(column) or column == ROWS:
            return ColumnRef(place, column)
    near = _nearest(lineage, words, [column for place in places for column in _columns(lineage, place)])
    raise UnknownName(
        f"{node} has no column {column!r}" if node else f"there is nothing called {name!r}",
        where=name,
        next_step=f"did you mean {', '.join(near)}?"
        if near
        else "name a thing as in raw.transactions.sales_cents, features/household, household:spend_cents_28d, "
        "models/<model>, predictions/<model>; mlp lineage lists them all",
    )


def path_of(name: str) -> str:
    """The path that a name stands for, the same however it is written; a raw table stands for its landed file."""
    return _landed("/".join(_words(name)))


def _words(name: str) -> tuple[str, ...]:
    said = name.strip().strip("/")
    if ":" in said:
        said = f"features/{said.replace(':', '/', 1)}"
    return tuple(said.replace(".", "/").split("/"))


def _landed(path: str) -> str:
    return path.replace("raw/", "landing/", 1) if path.startswith("raw/") else path


def _nearest(lineage: Lineage, words: tuple[str, ...], columns: Iterable[str]) -> list[str]:
    """The nearest names: of the columns of a node that was named; or else of every column called just so, or of all."""
    said = "/".join(words).casefold()
    known = list(columns) or [*lineage.nodes, *(each for node in lineage.nodes for each in _columns(lineage, node))]
    called_so = [name for name in known if name.rpartition(".")[2].casefold() == said]
    paths = {"/".join(_words(name)).casefold(): name for name in dict.fromkeys(known)}
    return list(dict.fromkeys([*called_so, *nearest(said, paths)]))[:NEAREST]


def _columns(lineage: Lineage, node: str) -> list[str]:
    return [str(ref) for ref in lineage.refs(node) if ref.column != ROWS]


def _ids(lineage: Lineage) -> Mapping[tuple[str, ...], str]:
    """A node's id by its words, and by those of its asset's key."""
    ids = {tuple(node.id.split("/")): node.id for node in lineage.nodes.values()}
    return {node.asset: node.id for node in lineage.nodes.values() if node.asset} | ids
