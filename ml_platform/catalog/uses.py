"""Who uses a thing: the features, models and predictions that are made of it, however far down."""

from collections.abc import Sequence
from typing import Any

from ml_platform.catalog.graph import Kind, Lineage

SHOWN: Sequence[Kind] = ("features", "model", "embeddings", "predictions")


def used_by(lineage: Lineage, node: str) -> list[dict[str, Any]]:
    """A row a user, in the order data flows: how many of its columns hold something of the node (none: it only joins,
    filters or groups by it), and, where champions are known, whose version that is and how much of what it has learnt
    rests on them."""
    made: dict[str, set[str]] = {}
    for edge in lineage.downstream(*lineage.refs(node)):
        made.setdefault(edge.target.node, set()).add(edge.target.column)
    users = [each for each in lineage.below([node]) if each != node and lineage.nodes[each].kind in SHOWN]
    champions_known = any(each.version is not None for each in lineage.nodes.values())
    return [_use(lineage, user, made.get(user, set()), champions_known) for user in users]


def _use(lineage: Lineage, user: str, columns: set[str], champions_known: bool) -> dict[str, Any]:
    node = lineage.nodes[user]
    touched = [column for column in node.columns if column.name in columns]
    row = {"used_by": user, "kind": node.kind, "owner": node.owner, "columns": f"{len(touched)} of {len(node.columns)}"}
    if not champions_known:
        return row
    shares = [column.importance for column in touched if column.importance is not None]
    version = "–" if node.version is None else f"v{node.version}"
    return {**row, "champion": version, "importance": f"{sum(shares):.1%}" if shares else "–"}
