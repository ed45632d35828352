"""Column lineage of a SQL model: which source columns each of its columns is made of.

Read from the compiled SQL by sqlglot, given the columns of every relation it may name. What cannot be resolved raises;
it is never silently missing.
"""

from collections.abc import Mapping
from typing import Any

from ml_platform.errors import PlatformError

Relation = tuple[str, str]
"""(schema, table), lower case."""


class LineageUnknown(PlatformError):
    """A model's SQL cannot be followed to its sources."""


def column_lineage(
    sql: str, columns: Mapping[Relation, Mapping[str, str]], dialect: str
) -> dict[str, list[tuple[Relation, str]]]:
    """Maps each output column to its sorted source columns. `columns`: {(schema, table): {column: SQL type}}."""
    from sqlglot import exp, parse_one
    from sqlglot.errors import SqlglotError
    from sqlglot.lineage import lineage
    from sqlglot.optimizer import build_scope, qualify

    schema: dict[str, Any] = {}
    for (namespace, table), types in columns.items():
        if not types:
            continue  # sqlglot takes an empty table for one level less of nesting
        schema.setdefault(namespace, {})[table] = dict(types)
    try:
        tree = parse_one(sql, dialect=dialect)
        for table in tree.find_all(exp.Table):
            table.set("catalog", None)
        tree = qualify.qualify(tree, dialect=dialect, schema=schema, validate_qualify_columns=False, identify=False)
        scope = build_scope(tree)
        sources: dict[str, list[tuple[Relation, str]]] = {}
        for column, root in lineage(None, tree, schema, dialect=dialect, scope=scope, trim_selects=False).items():
            found = set()
            for node in root.walk():
                if isinstance(node.source, exp.Table) and not node.downstream:
                    relation = (node.source.db.lower(), node.source.name.lower())
                    found.add((relation, node.name.split(".")[-1].strip('"').lower()))
            sources[column.lower()] = sorted(found)
    except SqlglotError as error:
        raise LineageUnknown(
            f"the compiled SQL cannot be followed: {error}",
            where=sql[:80].replace("\n", " "),
            next_step="write the model in SQL that sqlglot parses, or report the construct",
        ) from error
    return sources
