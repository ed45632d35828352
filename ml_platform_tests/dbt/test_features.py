"""The feature models against a recomputation in plain Python, value by value and to the bit."""

import math
import random
from datetime import date, timedelta
from itertools import pairwise
from statistics import median
from typing import Any

import duckdb
import pytest

from ml_platform.calendar import mondays
from ml_platform.settings import REPOSITORY
from ml_platform_tests.dbt.conftest import Product, Project, Version, day, fill_raw, table
from ml_platform_tests.dbt.test_deltas import known

CATEGORIES = ("BREAD", "FISH", "FRUIT", "MILK")
PRODUCTS = (
    *(Product(10 * i, category) for i, category in enumerate(CATEGORIES)),
    *(Product(10 * i + 1, category, brand="Private") for i, category in enumerate(CATEGORIES)),
    Product(90, category=None),
    Product(91, department="FUEL"),
)  # fmt: skip
PRODUCT = {product.product_id: product for product in PRODUCTS}
LAST = day(230)
AS_OFS = mondays(date(2017, 1, 30), LAST)
RESULT = dict[tuple[Any, ...], dict[str, Any]]


def share(numerator: int, denominator: int) -> float | None:
    return numerator / denominator if denominator else None


def trend(now: int, before: int) -> float | None:
    return share(now - before, now + before)


def standard_deviation(values: list[int]) -> float | None:
    n = len(values)
    return math.sqrt((n * sum(v * v for v in values) - sum(values) ** 2) / (n * (n - 1))) if n > 1 else None


def random_versions(seed: int) -> list[Version]:
    """Eight households, seven months: late, corrected, moved to another store and withdrawn lines among them."""
    chance = random.Random(seed)
    versions, basket = [], 0
    for household in range(1, 9):
        for event_day in range(1, 230):
            for _ in range(2 if chance.random() < 0.05 else 1):
                if chance.random() > 0.02 + 0.03 * household:
                    continue
                basket, store = basket + 1, chance.choice((1, 1, 2, 3))
                for product in chance.sample(PRODUCTS, chance.randint(1, 4)):
                    late = chance.randint(1, 7) if chance.random() < 0.2 else 0
                    line = Version(
                        household, basket, product.product_id, event_day, event_day + late,
                        chance.randint(0, 900), store_id=store,
                        retail_disc_cents=chance.randint(0, 90), coupon_disc_cents=chance.choice((0, 0, 50)),
                    )  # fmt: skip
                    versions.append(line)
                    if chance.random() < 0.2:
                        line = line.later(
                            line.landed_day + chance.randint(1, 12), sales_cents=chance.randint(0, 900),
                            store_id=chance.choice((store, 4)), is_withdrawn=chance.random() < 0.5,
                        )  # fmt: skip
                        versions.append(line)
    return versions


CAMPAIGNS = [
    # campaign, household, type, start, end, landed
    (1, 1, "Type A", day(40), day(75), day(39)),
    (1, 2, "Type A", day(40), day(75), day(39)),
    (2, 1, "Type B", day(58), day(90), day(57)),
    (3, 1, "Type C", day(120), day(230), day(119)),
    (4, 99, "Type B", day(100), day(130), day(99)),
    (3, 2, "Type C", day(120), day(230), day(119)),
    (3, 2, "Type C", day(120), day(150), day(140)),  # its end is moved by a later file
]
REDEMPTIONS = [
    # household, campaign, day, landing day
    (1, 1, 45, 45), (1, 1, 46, 52), (1, 1, 46, 52), (1, 2, 60, 60), (2, 1, 70, 70), (1, 3, 150, 157), (3, 1, 60, 61),
]  # fmt: skip
PROMOTIONS = [
    # product, store, display, mailer, week, landed
    (10 * i + j, store, "1" if j else "0", "A" if i % 2 else "0", monday, monday - timedelta(days=1))
    for i in range(len(CATEGORIES))
    for j in (0, 1)
    for store in (1, 2)
    for monday in AS_OFS
]


def redemption_rows() -> list[tuple[Any, ...]]:
    return [
        (household, 1000 + i, campaign, f"{day(event)} 17:00:00", day(event), day(landed))
        for i, (household, campaign, event, landed) in enumerate(REDEMPTIONS)
    ]


@pytest.fixture(scope="module")
def versions() -> list[Version]:
    return random_versions(1)


@pytest.fixture(scope="module")
def shop(project: Project, versions: list[Version]) -> duckdb.DuckDBPyConnection:
    """A warehouse with every model made in one run."""
    connection = duckdb.connect(config={"threads": 2})
    fill_raw(
        connection, versions, PRODUCTS, loaded_through=LAST,
        campaigns=CAMPAIGNS, coupon_redemptions=redemption_rows(), promotions=PROMOTIONS,
    )  # fmt: skip
    project.run(connection, ["staging", "marts", "feature_models"])
    return connection


def before(versions: list[Version], as_of: date, days: int = 84) -> list[Version]:
    """Lines of the days before a Monday, as known on it."""
    start = as_of - timedelta(days=days)
    return [line for line in known(versions, as_of - timedelta(days=1), PRODUCTS) if start <= line.event_date < as_of]


def windows(lines: list[Version], as_of: date) -> dict[str, Any]:
    """What both feature models say of a household's or a pair's lines."""
    found: dict[str, Any] = {}
    for window in (7, 28, 84):
        recent = [line for line in lines if (as_of - line.event_date).days <= window]
        found[f"days_{window}d"] = len({line.event_date for line in recent})
        found[f"lines_{window}d"] = len(recent)
        found[f"spend_cents_{window}d"] = sum(line.sales_cents for line in recent)
    dates = sorted({line.event_date for line in lines})
    gaps = [(later - earlier).days for earlier, later in pairwise(dates)]
    spend, discount = found["spend_cents_84d"], sum(line.retail_disc_cents for line in lines)
    return found | {
        "recency_days": (as_of - dates[-1]).days if dates else None,
        "mean_gap_days": share(sum(gaps), len(gaps)),
        "sd_gap_days": standard_deviation(gaps),
        "discount_share_84d": share(discount, spend + discount),
    }


def household_features(versions: list[Version], as_of: date) -> RESULT:
    result: RESULT = {}
    lines_known, ever = before(versions, as_of), before(versions, as_of, 9999)
    memberships: dict[tuple[int, int], tuple[Any, ...]] = {}
    for campaign, household, kind, start, end, landed in sorted(CAMPAIGNS, key=lambda row: row[-1]):
        if landed < as_of:
            memberships[household, campaign] = (kind[-1].lower(), start, end)
    redeemed = [
        (household, campaign, (as_of - day(event)).days)
        for household, campaign, event, landed in REDEMPTIONS
        if day(event) < as_of and day(landed) < as_of
    ]
    for household in range(1, 100):
        lines = [line for line in lines_known if line.household_id == household]
        offered = {
            campaign: offer
            for (who, campaign), offer in memberships.items()
            if who == household and offer[1] <= as_of and (as_of - offer[2]).days <= 84
        }
        active = {campaign: offer for campaign, offer in offered.items() if offer[2] >= as_of}
        if not lines and not active:
            continue
        row = windows(lines, as_of)
        stores: dict[int, set[int]] = {}
        for line in lines:
            stores.setdefault(line.store_id, set()).add(line.basket_id)
        for window in (7, 28, 84):
            recent = [line for line in lines if (as_of - line.event_date).days <= window]
            row[f"trips_{window}d"] = len({(line.basket_id, line.store_id) for line in recent})
        previous = [line for line in lines if 28 < (as_of - line.event_date).days <= 56]
        mine = [each for each in redeemed if each[0] == household]
        recent = [each for each in mine if each[2] <= 84]
        dates = {line.event_date for line in lines}
        result[household, as_of] = row | {
            "trips_ever": len({(x.basket_id, x.store_id) for x in ever if x.household_id == household}),
            "categories_84d": len({PRODUCT[line.product_id].category for line in lines} - {None}),
            "stores_84d": len(stores),
            "main_store_id": min(stores, key=lambda store: (-len(stores[store]), store)) if stores else None,
            "coupon_lines_share_84d": share(sum(line.coupon_disc_cents > 0 for line in lines), len(lines)),
            "private_brand_share_84d": share(
                sum(PRODUCT[line.product_id].brand == "Private" for line in lines), len(lines)
            ),
            "weekend_share_84d": share(sum(each.weekday() >= 5 for each in dates), len(dates)),
            "spend_trend_28d": trend(row["spend_cents_28d"], sum(line.sales_cents for line in previous)),
            "active_campaigns": len(active),
            **{f"active_campaigns_type_{kind}": sum(o[0] == kind for o in active.values()) for kind in "abc"},
            "days_since_campaign_start": min(((as_of - offer[1]).days for offer in active.values()), default=None),
            "days_to_campaign_end": max(((offer[2] - as_of).days for offer in active.values()), default=None),
            "campaigns_84d": len(offered),
            "redemptions_28d": sum(each[2] <= 28 for each in mine),
            "redemptions_84d": len(recent),
            "redemptions_ever": len(mine),
            "redemptions_active_campaigns_84d": sum(each[1] in active for each in recent),
            "days_since_redemption": min((each[2] for each in recent), default=None),
            "campaign_redemption_share_84d": share(len({e[1] for e in recent} & offered.keys()), len(offered)),
        }
    return result


def household_category_features(versions: list[Version], as_of: date) -> RESULT:
    def by_pair(lines: list[Version]) -> dict[tuple[int, str], list[Version]]:
        pairs: dict[tuple[int, str], list[Version]] = {}
        for line in lines:
            if category := PRODUCT[line.product_id].category:
                pairs.setdefault((line.household_id, category), []).append(line)
        return pairs

    households = household_features(versions, as_of)
    bought, ever = by_pair(before(versions, as_of)), by_pair(before(versions, as_of, 9999))
    result: RESULT = {}
    for (household, category), lines in bought.items():
        row = windows(lines, as_of)
        dates = sorted({line.event_date for line in lines})
        gaps = [(later - earlier).days for earlier, later in pairwise(dates)]
        peers = [line for pair, others in bought.items() if pair[1] == category for line in others]
        now = sum((as_of - line.event_date).days <= 28 for line in peers)
        previous = sum(28 < (as_of - line.event_date).days <= 56 for line in peers)
        matured = by_pair(before(versions, as_of, 119))
        ages = [[(as_of - x.event_date).days for x in xs] for pair, xs in matured.items() if pair[1] == category]
        population = [each for each in ages if max(each) > 35]
        store = households[household, as_of]["main_store_id"]
        promoted = [
            row for row in PROMOTIONS if row[1] == store and row[4] == as_of and PRODUCT[row[0]].category == category
        ]
        result[household, category, as_of] = row | {
            "weeks_bought_84d": len({each.isocalendar()[:2] for each in dates}),
            "days_ever": len({line.event_date for line in ever[household, category]}),
            "bought_28d": int(row["recency_days"] <= 28),
            "last_gap_days": gaps[-1] if gaps else None,
            "median_gap_days": float(median(gaps)) if gaps else None,
            "recency_to_mean_gap_ratio": share(row["recency_days"] * len(gaps), sum(gaps)),
            "coupon_used_84d": int(any(line.coupon_disc_cents for line in lines)),
            "household_spend_share_84d": share(row["spend_cents_84d"], households[household, as_of]["spend_cents_84d"]),
            "category_momentum_28d": trend(now, previous),
            "category_repurchase_rate_28d": share(
                sum(any(7 < age <= 35 for age in each) for each in population), len(population)
            ),
            "mailer_products": sum(row[3] != "0" for row in promoted) if store in (1, 2) else None,
            "display_products": sum(row[2] != "0" for row in promoted) if store in (1, 2) else None,
        }
    return result


def of_monday(connection: duckdb.DuckDBPyConnection, relation: str, key: int, as_of: date) -> RESULT:
    """Rows by their first `key` columns."""
    answer = connection.execute(f"select * from {relation} where as_of = $as_of", {"as_of": as_of})
    names = [column[0] for column in answer.description or ()]
    rows = answer.fetchall()
    found = {row[:key]: dict(zip(names[key:], row[key:], strict=True)) for row in rows}
    assert len(found) == len(rows)
    return found


@pytest.mark.parametrize("as_of", [AS_OFS[3], AS_OFS[14], AS_OFS[-1]], ids=str)
def test_household_features_are_those_of_a_plain_recomputation(
    shop: duckdb.DuckDBPyConnection, versions: list[Version], as_of: date
) -> None:
    assert of_monday(shop, "feature_models.household_features", 2, as_of) == household_features(versions, as_of)


@pytest.mark.parametrize("as_of", [AS_OFS[3], AS_OFS[14], AS_OFS[-1]], ids=str)
def test_household_category_features_are_those_of_a_plain_recomputation(
    shop: duckdb.DuckDBPyConnection, versions: list[Version], as_of: date
) -> None:
    found = of_monday(shop, "feature_models.household_category_features", 3, as_of)
    assert found == household_category_features(versions, as_of)


def test_mondays_run_one_by_one_before_the_rest_landed_give_the_rows_of_the_whole_run(
    project: Project, shop: duckdb.DuckDBPyConnection, versions: list[Version], warehouse: duckdb.DuckDBPyConnection
) -> None:
    as_of = AS_OFS[14]
    eve = as_of - timedelta(days=1)
    fill_raw(
        warehouse, [each for each in versions if each.landed_on < as_of], PRODUCTS, loaded_through=eve,
        campaigns=[row for row in CAMPAIGNS if row[-1] < as_of],
        coupon_redemptions=[row for row in redemption_rows() if row[-1] < as_of],
        promotions=[row for row in PROMOTIONS if row[-1] < as_of],
    )  # fmt: skip
    project.run(warehouse, ["staging", "marts"], (day(0), eve))
    project.run(warehouse, ["feature_models"], as_of=(as_of, as_of))
    for name, key in (("household_features", 2), ("household_category_features", 3)):
        then = of_monday(warehouse, f"feature_models.{name}", key, as_of)
        assert then and then == of_monday(shop, f"feature_models.{name}", key, as_of)


def test_no_monday_is_made_before_its_eve_has_landed(shop: duckdb.DuckDBPyConnection) -> None:
    made = [row[0] for row in table(shop, "(select distinct as_of from feature_models.household_features)")]
    assert made == [as_of for as_of in AS_OFS if as_of <= LAST + timedelta(days=1)]


@pytest.mark.parametrize("cutoff", [AS_OFS[18], LAST], ids=str)
def test_replenishment_labels_are_of_the_next_28_days_as_known_at_the_cutoff(
    shop: duckdb.DuckDBPyConnection, versions: list[Version], cutoff: date
) -> None:
    asked = [AS_OFS[10], AS_OFS[14]]
    sql = (REPOSITORY / "assets/models/labels/category_replenishment.sql").read_text()
    found = set(shop.execute(sql, {"as_ofs": asked, "cutoff": cutoff}).fetchall())
    wanted = set()
    for as_of in asked:
        horizon = before(versions, cutoff, (cutoff - as_of).days)
        after = {
            (line.household_id, PRODUCT[line.product_id].category)
            for line in horizon
            if line.event_date < as_of + timedelta(days=28)
        }
        pairs = {(line.household_id, PRODUCT[line.product_id].category) for line in before(versions, as_of)}
        wanted |= {(*pair, as_of, int(pair in after)) for pair in pairs if pair[1]}
    assert found == wanted


def test_redemption_labels_are_of_the_households_that_have_features(
    shop: duckdb.DuckDBPyConnection,
) -> None:
    asked = [AS_OFS[3], AS_OFS[10], AS_OFS[14]]
    sql = (REPOSITORY / "assets/models/labels/coupon_redemption.sql").read_text()
    late, early = (
        {(who, as_of): label for who, as_of, label in shop.execute(sql, {"as_ofs": asked, "cutoff": cutoff}).fetchall()}
        for cutoff in (LAST, day(156))
    )
    have = shop.execute(
        "select household_id, as_of from feature_models.household_features where as_of in (select unnest($as_ofs))",
        {"as_ofs": asked},
    ).fetchall()
    assert late.keys() == set(have)
    assert {key for key, label in late.items() if label} == {
        (household, as_of)
        for household, _, event, _ in REDEMPTIONS
        for as_of in asked
        if 0 <= (day(event) - as_of).days < 28 and (household, as_of) in late
    }
    # What was redeemed on day 150 landed on day 157.
    assert {key for key, label in late.items() if label} - {key for key, label in early.items() if label} == {
        (1, as_of) for as_of in asked if 0 <= (day(150) - as_of).days < 28
    }
