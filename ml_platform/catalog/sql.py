"""Column lineage of one query: which columns of the relations it reads each of its columns is made of, and how.

One walk over the query's scopes, innermost first; what a scope's columns are made of is worked out once and looked up
by whoever reads it, so the cost grows with the text and not with the number of ways through it. Recursive queries are
followed until nothing new is found. What cannot be followed is said: as an `unknown` source of the column, or, for a
query that cannot be read at all, as LineageUnknown.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from sqlglot import exp, parse_one
from sqlglot.errors import SqlglotError
from sqlglot.optimizer import qualify
from sqlglot.optimizer.scope import traverse_scope

from ml_platform.catalog.scopes import Followed, Lost, Relation, Walk
from ml_platform.errors import PlatformError


class LineageUnknown(PlatformError):
    """A query cannot be read, or says nothing that could be followed."""


def follow(sql: str, columns: Mapping[Relation, Iterable[str]], dialect: str) -> Followed:
    """Follows a query, given the columns of the relations it may name. Raises LineageUnknown."""
    schema: dict[str, Any] = {}
    for (namespace, table), names in columns.items():
        stated = dict.fromkeys(names, "text")
        if stated:  # sqlglot takes an empty table for one level less of nesting
            schema.setdefault(namespace, {})[table] = stated
    try:
        tree = parse_one(sql, dialect=dialect)
        if untold := tree.find(exp.Pivot, exp.Columns):
            raise _unknown(sql, f"what {type(untold).__name__} gives depends on data")
        if isinstance(tree, exp.Subquery):
            tree = tree.unnest()
        for table in tree.find_all(exp.Table):
            table.set("catalog", None)
        tree = qualify.qualify(
            tree,
            dialect=dialect,
            schema=schema,
            allow_partial_qualification=True,  # a column that is gone makes itself unknown, not the whole query
            validate_qualify_columns=False,
            quote_identifiers=False,
        )
        scopes = traverse_scope(tree)
        if not scopes:
            raise _unknown(sql, f"{type(tree).__name__} is no query")
        return Walk(scopes).of(scopes[-1])
    except Lost as lost:
        raise _unknown(sql, str(lost)) from None
    except (SqlglotError, RecursionError) as error:
        raise _unknown(sql, f"{type(error).__name__}: {error}") from error


def _unknown(sql: str, why: str) -> LineageUnknown:
    return LineageUnknown(
        f"the SQL cannot be followed: {why}",
        where=" ".join(sql.split())[:80],
        next_step="write it in SQL that sqlglot parses, or report the construct",
    )
