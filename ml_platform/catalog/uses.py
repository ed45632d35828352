"""Who uses a thing: the features, models and predictions that are made of it, however far down."""

from collections.abc import Sequence
from typing import Any

from ml_platform.catalog.graph import Kind, Lineage

SHOWN: Sequence[Kind] = ("features", "model", "embeddings", "predictions")


def used_by(lineage: Lineage, node: str) -> list[dict[str, Any]]:
    """A row a user, in the order data flows: its columns that hold something of the node, the champion's version, and
    how much of what the model has learnt rests on them. A user without columns only joins, filters or groups by it."""
    made: dict[str, set[str]] = {}
    for edge in lineage.downstream(*lineage.refs(node)):
        made.setdefault(edge.target.node, set()).add(edge.target.column)
    return [
        _use(lineage, user, made.get(user, set())) for user in lineage.below([node]) if _is_shown(lineage, user, node)
    ]


def _is_shown(lineage: Lineage, user: str, node: str) -> bool:
    return user != node and lineage.nodes[user].kind in SHOWN


def _use(lineage: Lineage, user: str, columns: set[str]) -> dict[str, Any]:
    node = lineage.nodes[user]
    touched = [column for column in node.columns if column.name in columns]
    shares = [column.importance for column in touched if column.importance is not None]
    return {
        "used_by": user,
        "kind": node.kind,
        "champion": node.version,
        "columns": len(touched),
        "of": len(node.columns),
        "importance": round(sum(shares), 4) if shares else None,
        "owner": node.owner,
    }
