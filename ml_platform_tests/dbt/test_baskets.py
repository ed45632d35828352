"""The feature models and the label of the next basket against a recomputation in plain Python, to the bit."""

import math
from collections import Counter, defaultdict
from datetime import date, timedelta
from itertools import chain

import duckdb
import pytest

from ml_platform.settings import REPOSITORY
from ml_platform_tests.dbt.conftest import Project, Version, day, fill_raw
from ml_platform_tests.dbt.test_deltas import known
from ml_platform_tests.dbt.test_features import (
    AS_OFS,
    LAST,
    PRODUCT,
    PRODUCTS,
    RESULT,
    of_monday,
    random_versions,
    share,
)

ASKED = (AS_OFS[3], AS_OFS[14], AS_OFS[-1])
Basket = tuple[date, int, list[int]]


@pytest.fixture(scope="module")
def versions() -> list[Version]:
    return random_versions(2)


@pytest.fixture(scope="module")
def shop(project: Project, versions: list[Version]) -> duckdb.DuckDBPyConnection:
    """A warehouse with every model made in one run."""
    connection = duckdb.connect(config={"threads": 2})
    fill_raw(connection, versions, PRODUCTS, loaded_through=LAST)
    project.run(connection, ["staging", "marts", "feature_models"])
    return connection


def baskets(versions: list[Version], on: date) -> dict[int, list[Basket]]:
    """Every household's baskets as known before a day, oldest first: day, basket, products."""
    held: dict[tuple[int, date, int], list[int]] = defaultdict(list)
    for line in known(versions, on - timedelta(days=1), PRODUCTS):
        held[line.household_id, line.event_date, line.basket_id].append(line.product_id)
    found: dict[int, list[Basket]] = defaultdict(list)
    for (household, event_date, basket), products in sorted(held.items()):
        found[household].append((event_date, basket, sorted(products)))
    return found


def household_baskets(versions: list[Version], as_of: date) -> RESULT:
    result: RESULT = {}
    for household, every in baskets(versions, as_of).items():
        last = every[-60:]
        products = list(chain.from_iterable(held for _, _, held in last))
        result[household, as_of] = {
            "products": products,
            "basket_sizes": [len(held) for _, _, held in last],
            "days_ago": [(as_of - event_date).days for event_date, _, _ in last],
            "baskets": len(last),
            "days_since_basket": (as_of - last[-1][0]).days,
            "mean_gap_days": share((last[-1][0] - last[0][0]).days, len(last) - 1),
            "mean_basket_size": len(products) / len(last),
            "distinct_products": len(set(products)),
        }
    return result


def product_features(versions: list[Version], as_of: date) -> RESULT:
    lines = known(versions, as_of - timedelta(days=1), PRODUCTS)
    result: RESULT = {}
    for product, count in Counter(line.product_id for line in lines).items():
        if count < 10:
            continue
        ages: dict[int, list[int]] = defaultdict(list)
        for line in lines:
            if line.product_id == product:
                ages[line.household_id].append((as_of - line.event_date).days)
        every = list(chain.from_iterable(ages.values()))
        recent = [[age for age in each if age <= 84] for each in ages.values() if min(each) <= 84]
        repeats = [each for each in recent if len(each) > 1]
        gaps = [math.floor((max(each) - min(each)) * 1_000_000 / (len(each) - 1)) for each in repeats]
        result[product, as_of] = {
            "category": PRODUCT[product].category or "unknown",
            "lines_84d": sum(map(len, recent)),
            "buyers_84d": len(recent),
            "repeat_share_84d": share(len(repeats), len(recent)),
            "mean_gap_days_84d": share(sum(gaps), len(gaps) * 1_000_000),
            "lines_28d": sum(age <= 28 for age in every),
            "recency_days": min(every),
        }
    return result


@pytest.mark.parametrize("as_of", ASKED, ids=str)
def test_household_baskets_are_those_of_a_plain_recomputation(
    shop: duckdb.DuckDBPyConnection, versions: list[Version], as_of: date
) -> None:
    found = of_monday(shop, "feature_models.household_baskets", 2, as_of)
    assert found == household_baskets(versions, as_of)
    assert as_of != ASKED[-1] or max(row["baskets"] for row in found.values()) == 60


@pytest.mark.parametrize("as_of", ASKED, ids=str)
def test_product_features_are_those_of_a_plain_recomputation(
    shop: duckdb.DuckDBPyConnection, versions: list[Version], as_of: date
) -> None:
    found = of_monday(shop, "feature_models.product_features", 2, as_of)
    assert found == product_features(versions, as_of)
    assert found or as_of == ASKED[0]


def test_a_product_whose_last_day_is_withdrawn_later_was_sold_on_it_until_then(
    project: Project, warehouse: duckdb.DuckDBPyConnection
) -> None:
    lines = [Version(household, household, 0, 20, 20, 100) for household in range(1, 11)]
    last = Version(1, 99, 0, 30, 30, 100)
    fill_raw(warehouse, [*lines, last, last.later(40, is_withdrawn=True)], PRODUCTS, loaded_through=LAST)
    project.run(warehouse, ["staging", "marts", "feature_models"])
    rows = warehouse.execute(
        "select as_of, recency_days, lines_84d from feature_models.product_features order by as_of limit 3"
    ).fetchall()
    # Day 30 is a Monday's own: it counts from the next on, and no longer from the one after day 40.
    assert rows == [(day(30), 10, 10), (day(37), 7, 11), (day(44), 24, 10)]


def test_mondays_run_one_by_one_before_the_rest_landed_give_the_rows_of_the_whole_run(
    project: Project, shop: duckdb.DuckDBPyConnection, versions: list[Version], warehouse: duckdb.DuckDBPyConnection
) -> None:
    as_of = ASKED[1]
    eve = as_of - timedelta(days=1)
    fill_raw(warehouse, [each for each in versions if each.landed_on < as_of], PRODUCTS, loaded_through=eve)
    project.run(warehouse, ["staging", "marts"], (day(0), eve))
    project.run(warehouse, ["feature_models"], as_of=(as_of, as_of))
    for name in ("household_baskets", "product_features"):
        then = of_monday(warehouse, f"feature_models.{name}", 2, as_of)
        assert then and then == of_monday(shop, f"feature_models.{name}", 2, as_of)


@pytest.mark.parametrize("cutoff", [AS_OFS[18], LAST], ids=str)
def test_labels_are_the_first_basket_of_the_next_14_days_as_known_at_the_cutoff(
    shop: duckdb.DuckDBPyConnection, versions: list[Version], cutoff: date
) -> None:
    asked = [AS_OFS[2], AS_OFS[14], AS_OFS[16]]
    sql = (REPOSITORY / "assets/models/labels/next_basket.sql").read_text()
    found = shop.execute(sql, {"as_ofs": asked, "cutoff": cutoff}).fetchall()
    wanted = [
        (household, as_of, coming[0])
        for as_of in asked
        for household, every in baskets(versions, cutoff).items()
        if household in baskets(versions, as_of)
        and (coming := [held for event_date, _, held in every if 0 <= (event_date - as_of).days < 14])
    ]
    assert wanted and sorted(found) == sorted(wanted)
