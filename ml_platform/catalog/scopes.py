"""The walk over the scopes of one query: a select, a set operation, a table function each say what its columns are made
of in terms of what they read, down to the columns of relations.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlglot import exp

from ml_platform.catalog.graph import ROWS, How

if TYPE_CHECKING:
    from sqlglot.optimizer.scope import Scope

Relation = tuple[str, str]
"""(schema, table), lower case."""


@dataclass(frozen=True, order=True)
class Source:
    """A column (ROWS: the rows) of a relation, and how it is read."""

    relation: Relation
    column: str
    how: How


Sources = frozenset[Source]
NOTHING: Sources = frozenset()


@dataclass(frozen=True)
class Followed:
    """Of each output column, in order, what it is made of; and what decides which rows there are. A column of no source
    is a constant or a parameter. `everything`: the query hands on every column of these relations (a `*` over columns
    that nobody stated)."""

    columns: Mapping[str, Sources]
    rows: Sources
    everything: Sources = NOTHING


class Lost(Exception):
    """Where the way ends, in words."""


class Walk:
    """What the columns of each scope of one query are made of."""

    def __init__(self, scopes: "list[Scope]") -> None:
        self._known: dict[int, Followed] = {}
        self._guessed: dict[int, Followed] = {}
        self._scopes = {id(scope) for scope in scopes}
        self._by_query = {id(scope.expression): scope for scope in scopes}
        self._recursive = _recursive_queries(scopes)

    def of(self, scope: "Scope") -> Followed:
        """The scope's columns. One that reads itself is worked out again until it adds nothing."""
        if id(scope) not in self._scopes:  # what a recursive query's own name stands for within it
            scope = self._recursive[id(scope.expression)]
        key = id(scope)
        if key in self._known:
            return self._known[key]
        if key in self._guessed:
            return self._guessed[key]
        known_before = dict(self._known)
        self._guessed[key] = Followed({}, NOTHING)
        recursive = any(scope is each for each in self._recursive.values())
        while (found := self._look_at(scope)) != self._guessed[key] and recursive:
            self._guessed[key], self._known = found, dict(known_before)
        del self._guessed[key]
        self._known[key] = found
        return found

    def _look_at(self, scope: "Scope") -> Followed:
        query = scope.expression
        if isinstance(query, exp.SetOperation):
            return self._set_operation(scope)
        if isinstance(query, exp.UDTF):
            return self._table_function(scope)
        return self._select(scope)

    def _set_operation(self, scope: "Scope") -> Followed:
        """Columns meet by place. What a difference or an intersection compares with decides which rows there are."""
        left, right = (self.of(arm) for arm in scope.set_operation_scopes)
        compared = _merged(right.columns.values())
        if isinstance(scope.expression, exp.Union):
            arms = [*right.columns.values()]
            columns = {
                name: sources | (arms[place] if place < len(arms) else NOTHING)
                for place, (name, sources) in enumerate(left.columns.items())
            }
            return Followed(columns, left.rows | right.rows, left.everything | right.everything)
        return Followed(left.columns, left.rows | right.rows | _as_keys(compared), left.everything)

    def _table_function(self, scope: "Scope") -> Followed:
        """`unnest`, `lateral`: every column it gives is made of everything it is given."""
        found = self._values(scope, [*scope.expression.args.values()])
        return Followed({name.lower(): found for name in scope.outer_columns}, NOTHING, found)

    def _select(self, scope: "Scope") -> Followed:
        query = scope.expression
        if not isinstance(query, exp.Query):
            raise Lost(f"{type(query).__name__} is no query")
        columns: dict[str, Sources] = {}
        everything = NOTHING
        for place, projection in enumerate(query.selects):
            if projection.is_star:
                everything |= self._star(scope, projection)
                continue
            name = scope.outer_columns[place] if place < len(scope.outer_columns) else projection.alias_or_name
            columns[name.lower()] = columns.get(name.lower(), NOTHING) | self._values(scope, [projection])
        keys = _as_keys(self._values(scope, _deciding(query)))
        if query.args.get("distinct"):
            keys |= _as_keys(_merged(columns.values()))
        return Followed(columns, keys | self._rows_read(scope), everything)

    def _star(self, scope: "Scope", projection: "exp.Expr") -> Sources:
        """A `*` that stayed one: of a relation whose columns nobody stated, or of something that hands all on."""
        asked = projection.table if isinstance(projection, exp.Column) else ""
        names = [asked] if asked else list(scope.selected_sources)
        found = _merged(self._column(scope, name, "") for name in names)
        if not found:
            raise Lost(f"nobody knows the columns of {projection.sql()}")
        return found

    def _rows_read(self, scope: "Scope") -> Sources:
        """The rows of what is read in `from` and `join`."""
        found: set[Source] = set()
        for _, source in scope.selected_sources.values():
            found |= self._rows_of(source)
        return frozenset(found)

    def _rows_of(self, source: "exp.Table | Scope") -> Sources:
        if not isinstance(source, exp.Table):
            return self.of(source).rows
        relation = _relation(source)
        return frozenset({Source(relation, ROWS, "key")}) if relation else NOTHING

    def _values(self, scope: "Scope", parts: "Iterable[object]") -> Sources:
        """Everything these expressions are computed from; `key` for what only orders, groups or partitions them."""
        found: set[Source] = set()
        for expression in _expressions(parts):
            self._add(scope, expression, found, as_keys=False)
        return frozenset(found)

    def _add(self, scope: "Scope", node: "exp.Expr", found: set[Source], as_keys: bool) -> None:
        if isinstance(node, exp.Column):
            sources = self._column(scope, node.table, node.name)
            found |= _as_keys(sources) if as_keys else sources
        elif isinstance(node, exp.Query) and not isinstance(node, exp.Subquery):
            if id(node) not in self._by_query:
                raise Lost(f"{node.sql()[:40]} stands where no query was looked for")
            inner = self.of(self._by_query[id(node)])
            values = _merged(inner.columns.values()) | inner.everything
            found |= (_as_keys(values) if as_keys else values) | _as_keys(inner.rows)
        else:
            if _counts_rows(node):
                rows = _rows_only(self._rows_read(scope))
                found |= _as_keys(rows) if as_keys else rows
            for name, part in node.args.items():
                for child in _expressions([part]):
                    self._add(scope, child, found, as_keys or _is_beside(node, name))

    def _column(self, scope: "Scope", table: str, name: str) -> Sources:
        """What a column of a source of the scope is made of. An empty name: all of the source's columns."""
        source = self._source(scope, table)
        if source is None:  # nobody states whose it is: it may be of any
            read = {each.relation for each in self._rows_read(scope)}
            if not read:
                raise Lost(f"{name} is of nothing that the query reads")
            return frozenset(Source(relation, ROWS, "unknown") for relation in read)
        if isinstance(source, exp.Table):
            relation = _relation(source)
            if relation is None:
                return NOTHING
            known = name and not source.args.get("pivots")
            return frozenset({Source(relation, name.lower() if known else ROWS, "expression" if known else "unknown")})
        inner = self.of(source)
        if not name:
            return _merged(inner.columns.values()) | inner.everything
        return inner.columns.get(name.lower(), inner.everything)

    def _source(self, scope: "Scope", table: str) -> "exp.Table | Scope | None":
        """What a table's name stands for: in the scope, or, within a correlated query, around it."""
        if not table and len(scope.selected_sources) == 1:
            ((_, source),) = scope.selected_sources.values()
            return source
        around: Scope | None = scope
        while around is not None and table not in around.sources:
            around = around.parent
        return around and around.sources[table]


def _recursive_queries(scopes: "list[Scope]") -> "dict[int, Scope]":
    """The whole of each recursive query, by its first arm: sqlglot lets the query's own name mean that arm alone."""
    found: dict[int, Scope] = {}
    for scope in scopes:
        cte = scope.expression.parent
        if isinstance(cte, exp.CTE) and isinstance(scope.expression, exp.SetOperation):
            within = cte.parent
            if isinstance(within, exp.With) and within.recursive:
                found[id(scope.expression.this)] = scope
    return found


def _expressions(parts: "Iterable[object]") -> "Iterator[exp.Expr]":
    for part in parts:
        if isinstance(part, exp.Expr):
            yield part
        elif isinstance(part, list):
            yield from (each for each in part if isinstance(each, exp.Expr))


def _deciding(query: "exp.Expr") -> list[object]:
    """The parts of a select that decide which rows there are."""
    parts = [
        "where",
        "having",
        "qualify",
        "group",
        "distinct",
        "windows",
        *(["order"] if query.args.get("limit") else []),
    ]
    joins = [
        join.args.get(part) for join in query.args.get("joins") or [] for part in ("on", "using", "match_condition")
    ]
    return [*(query.args.get(part) for part in parts), *joins]


def _counts_rows(node: "exp.Expr") -> bool:
    """Whether an aggregate is of rows, not of a column's values."""
    return isinstance(node, exp.AggFunc) and not isinstance(node.parent, exp.WithinGroup) and not node.find(exp.Column)


def _is_beside(node: "exp.Expr", part: str) -> bool:
    """Whether a part of an expression only partitions or orders. In `within group` the order of a quantile is of its
    values."""
    if isinstance(node, exp.Order):
        within = node.parent
        quantile = exp.PercentileCont | exp.PercentileDisc | exp.Mode
        return part == "expressions" and not (isinstance(within, exp.WithinGroup) and isinstance(within.this, quantile))
    return isinstance(node, exp.Window) and part in ("partition_by", "order")


def _relation(table: "exp.Table") -> Relation | None:
    """What a table is called; None for a table function, which is nobody's."""
    return (table.db.lower(), table.name.lower()) if isinstance(table.this, exp.Identifier) else None


def _merged(many: Iterable[Sources]) -> Sources:
    return frozenset().union(*many)


def _as_keys(sources: Iterable[Source]) -> Sources:
    return frozenset(each if each.how == "unknown" else Source(each.relation, each.column, "key") for each in sources)


def _rows_only(sources: Iterable[Source]) -> Sources:
    """Rows that are counted become part of a value."""
    return frozenset(Source(each.relation, ROWS, "expression") for each in sources if each.column == ROWS)
