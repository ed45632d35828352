"""The deltas: whatever lands when, and however the days are run, they add up to what was known on each day."""

from collections.abc import Iterable
from datetime import date
from itertools import pairwise

import duckdb
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ml_platform_tests.dbt.conftest import Product, Project, Version, day, fill_raw, table

DELTAS = (
    "staging.stg_transactions",
    "marts.line_changes",
    "marts.basket_changes",
    "marts.basket_contents",
    "marts.household_day_deltas",
    "marts.household_category_day_deltas",
    "marts.household_category_totals",
)
PRODUCTS = (
    Product(1),
    Product(2),
    Product(3, category="FISH"),
    Product(4, category=None),
    Product(5, department="FUEL"),
)
LAST_LANDING = 12


@st.composite
def histories(draw: st.DrawFn) -> list[Version]:
    """Lines of a few baskets, landing on time or late, corrected, withdrawn, even withdrawn and corrected again."""
    versions = []
    for basket, household, event_day in ((1, 1, 1), (2, 1, 1), (3, 1, 4), (4, 2, 4)):
        for product in draw(st.sets(st.integers(1, len(PRODUCTS)), max_size=3)):
            landings = draw(st.sets(st.integers(event_day, LAST_LANDING), min_size=1, max_size=3))
            for landed in sorted(landings):
                versions.append(
                    Version(
                        household, basket, product, event_day, landed,
                        sales_cents=draw(st.integers(0, 5)),
                        store_id=draw(st.integers(1, 2)),
                        is_withdrawn=draw(st.booleans()),
                        coupon_disc_cents=draw(st.integers(0, 1)),
                    )
                )  # fmt: skip
    return versions


def known(versions: Iterable[Version], on: date, products: Iterable[Product] = PRODUCTS) -> list[Version]:
    """The merchandise lines known at the end of a landing day."""
    newest: dict[tuple[int, int, int], Version] = {}
    for version in sorted(versions, key=lambda each: each.landed_on):
        if version.landed_on <= on:
            newest[version.key] = version
    goods = {product.product_id for product in products if product.department != "FUEL"}
    return [each for each in newest.values() if not each.is_withdrawn and each.product_id in goods]


def warehouse_of(versions: list[Version]) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(config={"threads": 1})
    fill_raw(connection, versions, PRODUCTS)
    return connection


def summed(connection: duckdb.DuckDBPyConnection, sql: str, on: date) -> set[tuple]:
    return set(connection.execute(sql, {"on": on}).fetchall())


@settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(versions=histories())
def test_deltas_that_landed_up_to_a_day_add_up_to_what_was_known_then(
    project: Project, versions: list[Version]
) -> None:
    category = {product.product_id: product.category for product in PRODUCTS}
    with warehouse_of(versions) as connection:
        project.run(connection, ["staging", "marts"])
        for on in map(day, range(1, LAST_LANDING + 1)):
            lines = known(versions, on)
            assert summed(
                connection,
                """
                select household_id, basket_id, product_id, sum(sign * sales_cents) from marts.line_changes
                where landed_on <= $on group by all having sum(sign) <> 0
                """,
                on,
            ) == {(*line.key, line.sales_cents) for line in lines}
            assert summed(
                connection,
                """
                select household_id, basket_id, unnest(products)
                from (
                    select * from marts.basket_contents where landed_on <= $on
                    qualify row_number() over (partition by household_id, basket_id order by landed_on desc) = 1
                )
                """,
                on,
            ) == {line.key for line in lines}
            days = {(line.household_id, line.event_date) for line in lines}
            assert summed(
                connection,
                """
                select household_id, event_date, sum(lines_delta), sum(spend_cents_delta), sum(baskets_delta)
                from marts.household_day_deltas where landed_on <= $on group by all having sum(lines_delta) <> 0
                """,
                on,
            ) == {
                (
                    *each,
                    sum(1 for line in lines if (line.household_id, line.event_date) == each),
                    sum(line.sales_cents for line in lines if (line.household_id, line.event_date) == each),
                    len({
                        (line.basket_id, line.store_id)
                        for line in lines
                        if (line.household_id, line.event_date) == each
                    }),
                )
                for each in days
            }  # fmt: skip
            bought = {
                (line.household_id, category[line.product_id], line.event_date)
                for line in lines
                if category[line.product_id]
            }
            assert (
                summed(
                    connection,
                    """
                select household_id, product_category, event_date from marts.household_category_day_deltas
                where landed_on <= $on group by all having sum(days_delta) = 1 and sum(lines_delta) > 0
                """,
                    on,
                )
                == bought
            )
            assert summed(
                connection,
                """
                from (
                    select household_id, product_category, days_ever from marts.household_category_totals
                    where landed_on <= $on
                    qualify row_number() over (partition by household_id, product_category order by landed_on desc) = 1
                ) where days_ever <> 0
                """,
                on,
            ) == {
                (*pair, sum(1 for each in bought if each[:2] == pair)) for pair in {each[:2] for each in bought}
            }  # fmt: skip


@settings(max_examples=6, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(versions=histories(), cuts=st.sets(st.integers(1, LAST_LANDING - 1), min_size=1, max_size=5), data=st.data())
def test_days_run_in_any_ranges_and_run_again_give_the_tables_of_one_run(
    project: Project, versions: list[Version], cuts: set[int], data: st.DataObject
) -> None:
    ranges = [(day(before + 1), day(until)) for before, until in pairwise((0, *sorted(cuts), LAST_LANDING))]
    with warehouse_of(versions) as at_once, warehouse_of(versions) as in_parts:
        project.run(at_once, ["staging", "marts"], (day(1), day(LAST_LANDING)))
        for landed in [*ranges, data.draw(st.sampled_from(ranges), label="run again")]:
            project.run(in_parts, ["staging", "marts"], landed)
        for relation in DELTAS:
            assert table(in_parts, relation) == table(at_once, relation), relation


def test_a_day_that_has_no_rows_any_more_is_cleared(project: Project) -> None:
    line = Version(1, 1, 1, event_day=1, landed_day=1, sales_cents=5)
    with warehouse_of([line, line.later(2, sales_cents=6)]) as connection:
        project.run(connection, ["staging", "marts"])
        connection.execute("delete from raw.transactions where landed_on = $day", {"day": day(2)})
        project.run(connection, ["staging", "marts"], (day(2), day(2)))
        assert connection.execute("select distinct landed_on from marts.line_changes").fetchall() == [(day(1),)]


def test_a_version_keeps_the_category_that_its_product_had_when_it_landed(project: Project) -> None:
    line = Version(1, 1, 1, event_day=1, landed_day=1, sales_cents=5)
    with warehouse_of([line, line.later(5, sales_cents=6)]) as connection:
        connection.execute(
            "insert into raw.products select * replace ('FISH' as product_category, $day::date as landed_on) "
            "from raw.products where product_id = 1",
            {"day": day(3)},
        )
        project.run(connection, ["staging", "marts"])
        changes = connection.execute(
            "select product_category, landed_on, lines_delta from marts.household_category_day_deltas order by all"
        ).fetchall()
    assert changes == [("FISH", day(5), 1), ("FRUIT", day(1), 1), ("FRUIT", day(5), -1)]


def test_a_redemption_told_twice_counts_once_on_the_day_it_was_first_told(
    project: Project, warehouse: duckdb.DuckDBPyConnection
) -> None:
    told = [(1, 77, 8, f"{day(2)} 17:00:00", day(2), day(landed)) for landed in (3, 6)]
    fill_raw(warehouse, [], PRODUCTS, coupon_redemptions=told)
    for landed in (day(1), day(5)), (day(6), day(6)):
        project.run(warehouse, ["staging", "marts"], landed)
    assert table(warehouse, "marts.redemption_day_deltas") == [(1, 8, day(2), day(3), 1)]


def test_a_product_promoted_in_two_places_counts_once(project: Project, warehouse: duckdb.DuckDBPyConnection) -> None:
    monday = day(2)
    places = [(1, 9, "3", "0"), (1, 9, "5", "A"), (2, 9, "0", "A"), (3, 9, "0", "D"), (4, 9, "1", "0")]
    fill_raw(warehouse, [], PRODUCTS, promotions=[(*place, monday, day(1)) for place in places])
    project.run(warehouse, ["staging", "marts"])
    assert table(warehouse, "marts.category_promotions") == [
        (9, "FISH", monday, day(1), 1, 0),
        (9, "FRUIT", monday, day(1), 2, 1),
    ]
