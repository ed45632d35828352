"""What a query's columns are made of, on SQL written for it: tables s.t (a, b, c) and s.u (a, d)."""

import pytest

from ml_platform.catalog.scopes import Followed
from ml_platform.catalog.sql import LineageUnknown, follow

KNOWN = {("s", "t"): ["a", "b", "c"], ("s", "u"): ["a", "d"]}
MARKS = {"expression": "", "key": "key ", "unknown": "? "}


def followed(sql: str, dialect: str = "duckdb") -> Followed:
    return follow(sql, KNOWN, dialect)


def columns(sql: str, dialect: str = "duckdb") -> dict[str, str]:
    """Each column's sources as words: `t.a, key t.b`."""
    found = followed(sql, dialect).columns.items()
    return {
        name: ", ".join(sorted(f"{MARKS[each.how]}{each.relation[1]}.{each.column}" for each in sources))
        for name, sources in found
    }


def rows(sql: str) -> set[str]:
    return {f"{each.relation[1]}.{each.column}" for each in followed(sql).rows}


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("select a, b + c as x, 1 as one from s.t", {"a": "t.a", "x": "t.b, t.c", "one": ""}),
        ("select t.*, d from s.t left join s.u on t.a = u.a", {"a": "t.a", "b": "t.b", "c": "t.c", "d": "u.d"}),
        ("select * from s.t join s.u using (a)", {"a": "t.a, u.a", "b": "t.b", "c": "t.c", "d": "u.d"}),
        ("select * exclude (a) from s.t", {"b": "t.b", "c": "t.c"}),
        ("select * replace (b + 1 as a) from s.t", {"a": "t.b", "b": "t.b", "c": "t.c"}),
        ("from s.u", {"a": "u.a", "d": "u.d"}),
        ("(select a from s.t)", {"a": "t.a"}),
        ("with x(k) as (select b from s.t) select k + 1 as k2 from x", {"k2": "t.b"}),
        ("with x as (select * from s.t), y as (select * from x) select b, c as z from y", {"b": "t.b", "z": "t.c"}),
        ("select x, x + 1 as y from (select b as x from s.t)", {"x": "t.b", "y": "t.b"}),
        ("select b as q, q + 1 as y from s.t", {"q": "t.b", "y": "t.b"}),
        ("select a from s.t union all select d from s.u", {"a": "t.a, u.d"}),
        ("select a from s.t except select d from s.u", {"a": "t.a"}),
        ("select case when a > 0 then b end as x from s.t", {"x": "t.a, t.b"}),
        ("select (select max(d) from s.u where u.a = t.a) as m from s.t", {"m": "key t.a, key u.*, key u.a, u.d"}),
        ("select v from s.t, unnest([a, b]) as q(v)", {"v": "t.a, t.b"}),
        ("select v from s.t, lateral (select t.b + d as v from s.u) q", {"v": "key u.*, t.b, u.d"}),
        ('select "A" as "Q" from "S"."T"', {"q": "t.a"}),
        ("select range as n from range(10)", {"n": ""}),
    ],
)  # fmt: skip
def test_columns_are_made_of(sql: str, expected: dict[str, str]):
    assert columns(sql) == expected


def test_a_window_partitions_and_orders_without_being_part_of_the_value():
    sql = "select lead(c) over (partition by a order by b) as next, row_number() over (order by b) as n from s.t"
    assert columns(sql) == {"next": "key t.a, key t.b, t.c", "n": "key t.b"}
    assert columns("select sum(b) over w as s from s.t window w as (partition by c)") == {"s": "t.b"}
    assert rows("select sum(b) over w as s from s.t window w as (partition by c)") == {"t.*", "t.c"}


def test_a_list_is_made_of_its_values_and_ordered_by_keys_while_a_quantile_is_of_what_it_orders():
    assert columns("select array_agg(a order by b) as l from s.t") == {"l": "key t.b, t.a"}
    assert columns("select percentile_cont(0.5) within group (order by c) as p from s.t") == {"p": "t.c"}


@pytest.mark.parametrize("count", ["count(*)", "sum(1)", "count()"])
def test_what_is_counted_are_rows(count: str):
    sql = f"with x as (select a, {count} as n from s.t group by a) select n from x"
    assert columns(sql) == {"n": "t.*"}
    assert rows(sql) == {"t.*", "t.a"}


def test_joins_filters_and_groups_decide_which_rows_there_are():
    joined = "select b from s.t join s.u on t.a = u.a where c > 0 and exists (select 1 from s.u as v where v.d = t.b)"
    assert rows(joined) == {"t.*", "u.*", "t.a", "u.a", "t.c", "t.b", "u.d"}
    assert rows("select b from s.t qualify row_number() over (partition by a order by c) = 1") == {"t.*", "t.a", "t.c"}
    assert rows("select a from s.t order by b") == {"t.*"}
    assert rows("select a from s.t order by b limit 3") == {"t.*", "t.b"}
    assert rows("select a from s.t except select d from s.u") == {"t.*", "u.*", "u.d"}


def test_a_recursive_query_is_followed_until_nothing_new_is_found():
    sql = """
        with recursive r as (
            select a, b, 1 as n from s.t union all select r.b, u.d, n + 1 from r join s.u on r.a = u.a where n < 9
        )
        select a, b, n from r
    """
    assert columns(sql) == {"a": "t.a, t.b, u.d", "b": "t.b, u.d", "n": ""}


def test_every_dialect_gives_lower_case_names():
    sql = "select T.A, array_agg(U.D) within group (order by U.A) as L from S.T join S.U on T.A = U.A group by T.A"
    assert columns(sql, "snowflake") == {"a": "t.a", "l": "key u.a, u.d"}


def test_a_star_over_columns_that_nobody_states_hands_on_everything():
    found = followed("select * from s.nobody")
    assert found.columns == {}
    assert [(each.relation, each.column, each.how) for each in found.everything] == [(("s", "nobody"), "*", "unknown")]


def test_a_column_that_may_be_of_several_relations_is_suspected_of_all():
    assert columns("select zz, b from s.nobody join s.t on true") == {"zz": "? nobody.*, ? t.*", "b": "t.b"}


@pytest.mark.parametrize(
    "sql",
    [
        "selec a frm s.t",
        "",
        "insert into s.t values (1)",
        "select * from (pivot s.t on a using sum(b))",
        "select columns('a|b') from s.t",
        "select x.y.z from nothing, (select 1",
    ],
)
def test_what_cannot_be_followed_is_said(sql: str):
    with pytest.raises(LineageUnknown, match="cannot be followed"):
        follow(sql, KNOWN, "duckdb")
