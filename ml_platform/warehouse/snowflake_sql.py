"""The platform's SQL in Snowflake's words.

Invariants: a statement is parsed, never patched as text, so a name in a string or a comment is no name; values become
`?` and stay out of the text; every relation gets the prefix of its schema here and nowhere else, but not one that is
named with its database. Snowflake keeps unquoted names in capitals, and so do dbt's models there: quoted names are put
into capitals too, so all of them meet.
"""

import json
from collections.abc import Mapping
from datetime import date, datetime
from functools import lru_cache

from sqlglot import Expr, exp, parse_one
from sqlglot.errors import SqlglotError

from ml_platform.warehouse.base import WarehouseError, quote

UNPREFIXED = {"information_schema"}
ELEMENT_TYPES = {bool: "boolean", int: "number(38, 0)", float: "double", str: "varchar"}
_MARK = "\x01"


def name(relation: str, prefix: str) -> str:
    """`schema.table` as Snowflake knows it, quoted. Raises WarehouseError for what is no identifier."""
    schema, _, table = relation.rpartition(".")
    return quote(f"{prefix}{schema}.{table}").upper()


def translate(sql: str, params: Mapping[str, object], prefix: str) -> tuple[str, list[object]]:
    """The statement for Snowflake, and what is bound to its `?`, in order.

    Raises WarehouseError for SQL that cannot be parsed and for a value that is named but not given.
    """
    lists = {name: _element_type(value) for name, value in params.items() if isinstance(value, list)}
    text, names = _translated(sql, prefix, frozenset(lists.items()))
    missing = [name for name in names if name not in params]
    if missing:
        raise WarehouseError(
            f"no value is given for ${missing[0]}", where=short(sql), next_step="bind every name of the statement"
        )
    return text, [_bound(params[name]) for name in names]


@lru_cache(512)
def _translated(sql: str, prefix: str, lists: frozenset[tuple[str, str]]) -> tuple[str, list[str]]:
    try:
        tree = parse_one(sql, dialect="duckdb")
    except SqlglotError as error:
        said = str(error).splitlines()[0]
        raise WarehouseError(said, where=short(sql), next_step="correct the statement") from error
    tree = tree.transform(_unnested, dict(lists)).transform(_in_place, prefix)
    parts = tree.sql(dialect="snowflake", comments=False).split(_MARK)
    return "?".join(parts[0::2]), parts[1::2]


def _unnested(node: Expr, lists: Mapping[str, str]) -> Expr:
    """`select unnest($list) as x`, for a list that is bound as a JSON text."""
    if not isinstance(node, exp.Select) or len(node.expressions) != 1:
        return node
    selected = node.expressions[0]
    unnest = selected.unalias()
    if not isinstance(unnest, exp.Explode | exp.Unnest):
        return node
    bound = unnest.find(exp.Placeholder)
    if bound is None or bound.name not in lists:
        return node
    alias = quote(selected.alias or "value").upper()
    flat = f"select value::{lists[bound.name]} as {alias} from table(flatten(input => parse_json(null)))"
    tree = parse_one(flat, dialect="snowflake")
    for parsed in tree.find_all(exp.ParseJSON):
        parsed.set("this", bound.copy())
    return tree


def _in_place(node: Expr, prefix: str) -> Expr:
    if isinstance(node, exp.Placeholder):
        return exp.Var(this=f"{_MARK}{node.name}{_MARK}")
    if isinstance(node, exp.Identifier) and node.quoted:
        return exp.to_identifier(node.name.upper(), quoted=True)
    if isinstance(node, exp.AtTimeZone) and isinstance(node.this.unnest(), exp.AtTimeZone):
        # A time without a zone is said to be in one, and wanted in another.
        inner = node.this.unnest()
        instant = inner.this.transform(_in_place, prefix)
        return exp.ConvertTimezone(source_tz=inner.args["zone"], target_tz=node.args["zone"], timestamp=instant)
    if isinstance(node, exp.Table) and node.db and not node.catalog and node.db.lower() not in UNPREFIXED:
        schema = exp.to_identifier(f"{prefix}{node.db}".upper(), quoted=True)
        node.set("db", schema)
    return node


def _element_type(values: list[object]) -> str:
    first = next((each for each in values if each is not None), "")
    if isinstance(first, datetime):
        return "timestamp_ntz"
    return "date" if isinstance(first, date) else ELEMENT_TYPES[type(first)]


def _bound(value: object) -> object:
    if isinstance(value, datetime):  # the connector asks which of Snowflake's timestamps it is to be
        return ("TIMESTAMP_TZ" if value.tzinfo else "TIMESTAMP_NTZ", value)
    return json.dumps(value, default=str, ensure_ascii=False) if isinstance(value, list) else value


def short(sql: str) -> str:
    """A statement in one line, as errors show it."""
    return " ".join(sql.split())[:200]
