"""Publishing against real raw lines, many of them late or corrected, and relations that know too much or too little."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest

from assets.feature_tables import FEATURE_TABLES
from ml_platform.calendar import DAY, WEEK
from ml_platform.contracts import ContractViolation, FeatureTable
from ml_platform.features.publish import NotYetLanded, publish_weeks
from ml_platform.features.store import FeatureStore
from ml_platform.landing.files import LandingFolder
from ml_platform.landing.loading import create_raw, load_all
from ml_platform.landing.replay import ReplayRates, replay
from ml_platform.landing.tables import RAW_TABLES
from ml_platform.warehouse.base import Session
from ml_platform.warehouse.duckdb import DuckDBWarehouse

MONDAY = date(2017, 2, 6)
LANDED_THROUGH = MONDAY + WEEK - DAY
READ = ("transactions", "products", "coupon_redemptions")


def audited_part(table: FeatureTable) -> FeatureTable:
    """The table with only its key and the columns that its audit recomputes."""
    query = table.audit_sql.read_text()
    columns = [column for column in table.columns if column.name in table.key or column.name in query]
    return replace(table, columns=tuple(columns))


TABLES = {name: audited_part(table) for name, table in FEATURE_TABLES.items()}


MOVING = {
    "household": {"spend_cents_28d", "recency_days"},
    "household_category": {"spend_cents_28d", "recency_days"},
    "household_baskets": {"products", "days_ago"},
    "product": {"lines_28d", "recency_days"},
}
"""Columns in which a week more or less shows."""


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """Raw tables of sixty households, with a tenth of the lines late and a twentieth of them corrected."""
    home = tmp_path_factory.mktemp("publish")
    folder = LandingFolder(home / "landing")
    replay(folder, LANDED_THROUGH, rates=ReplayRates(late_share=0.1, correction_share=0.05), households=60)
    with DuckDBWarehouse(home / "warehouse.duckdb").session("test") as session:
        create_raw(session)
        for name in READ:
            load_all(session, RAW_TABLES[name], folder.deliveries(name, date(2016, 12, 31), LANDED_THROUGH))
        session.execute("create schema feature_models")
        yield session


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return FeatureStore(tmp_path / "lake", TABLES)


def relation_of(session: Session, table: FeatureTable, query: str, seen_on: date, folder: Path) -> pl.DataFrame:
    """Fills the table's relation with what the query knows on `seen_on`, under the name of MONDAY."""
    everyone = session.read(f"select distinct {table.entity[0]} as id from raw.transactions")["id"].to_list()
    rows = session.read(query, {"as_of": seen_on, "entities": everyone}).with_columns(as_of=MONDAY)
    rows = rows.with_columns(
        pl.col(column.name).fill_null(0) for column in table.values if not (column.nullable or column.is_list)
    )
    fill(session, table, rows, folder)
    return rows


def fill(session: Session, table: FeatureTable, rows: pl.DataFrame, folder: Path) -> None:
    rows.write_parquet(folder / "rows.parquet")
    session.execute(f"create or replace table {table.relation} as from read_parquet('{folder / 'rows.parquet'}')")


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_features_that_know_what_had_landed_are_published(
    session: Session, store: FeatureStore, table: FeatureTable, tmp_path: Path
) -> None:
    rows = relation_of(session, table, table.audit_sql.read_text(), MONDAY, tmp_path)
    week = publish_weeks(session, store, table, [MONDAY])[0]
    assert week.audit.passed
    assert week.audit.compared >= rows.height
    assert week.published is not None
    assert week.published.metadata == {"landed_before": "2017-02-06"}
    assert store.table(table.name).read("2017-02-06").height == rows.height


@pytest.mark.parametrize("shift", [WEEK, -WEEK, DAY], ids=["a week late", "a week early", "a day late"])
@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_features_of_another_week_under_this_mondays_name_are_kept_aside(
    session: Session, store: FeatureStore, table: FeatureTable, shift: timedelta, tmp_path: Path
) -> None:
    query = table.audit_sql.read_text()
    relation_of(session, table, query, MONDAY, tmp_path)
    before = publish_weeks(session, store, table, [MONDAY])[0].published
    relation_of(session, table, query, MONDAY + shift, tmp_path)
    week = publish_weeks(session, store, table, [MONDAY])[0]
    assert week.published is None
    assert MOVING[table.name] <= set(week.audit.mismatches["column"])
    assert store.table(table.name).published("2017-02-06") == before
    assert len(list((store.table(table.name).folder / "quarantine" / "2017-02-06").glob("*.json"))) == 1


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_rows_that_happened_before_but_landed_later_are_a_leak_too(
    session: Session, store: FeatureStore, table: FeatureTable, tmp_path: Path
) -> None:
    query = table.audit_sql.read_text().replace("landed_on < $as_of", "landed_on < $as_of + 7")
    relation_of(session, table, query, MONDAY, tmp_path)
    week = publish_weeks(session, store, table, [MONDAY])[0]
    assert week.published is None
    assert MOVING[table.name] & set(week.audit.mismatches["column"])


def test_a_row_nobody_bought_anything_for_must_say_nothing(
    session: Session, store: FeatureStore, tmp_path: Path
) -> None:
    table = TABLES["household"]
    rows = relation_of(session, table, table.audit_sql.read_text(), MONDAY, tmp_path)
    quiet = dict.fromkeys(rows.columns, 0) | {"household_id": 10**9, "as_of": MONDAY, "recency_days": None}
    for spend, published in ((0, True), (100, False)):
        more = pl.DataFrame([quiet | {"spend_cents_28d": spend}]).cast(rows.schema)  # type: ignore[arg-type]
        fill(session, table, pl.concat([rows, more]), tmp_path)
        assert (publish_weeks(session, store, table, [MONDAY])[0].published is not None) == published


def test_a_category_that_is_left_out_is_found(session: Session, store: FeatureStore, tmp_path: Path) -> None:
    table = TABLES["household_category"]
    rows = relation_of(session, table, table.audit_sql.read_text(), MONDAY, tmp_path)
    fill(session, table, rows.sort("household_id", "product_category")[1:], tmp_path)
    week = publish_weeks(session, store, table, [MONDAY])[0]
    assert week.published is None
    assert week.audit.mismatches["published"].to_list() == [None] * week.audit.mismatches.height


def test_rows_that_break_the_contract_are_kept_aside_and_shown(
    session: Session, store: FeatureStore, tmp_path: Path
) -> None:
    table = TABLES["household"]
    rows = relation_of(session, table, table.audit_sql.read_text(), MONDAY, tmp_path)
    fill(session, table, rows.with_columns(recency_days=pl.col("recency_days") + 1000), tmp_path)
    week = publish_weeks(session, store, table, [MONDAY])[0]
    assert week.published is None
    assert week.failures["column"].unique().to_list() == ["recency_days"]
    assert store.table("household").partitions() == []


def test_a_relation_without_a_declared_column_is_refused(session: Session, store: FeatureStore, tmp_path: Path) -> None:
    table = TABLES["household"]
    rows = relation_of(session, table, table.audit_sql.read_text(), MONDAY, tmp_path)
    fill(session, table, rows.with_columns(recency_days=pl.lit("soon")), tmp_path)
    with pytest.raises(ContractViolation, match="declared type"):
        publish_weeks(session, store, table, [MONDAY])[0]


def test_a_monday_whose_days_have_not_all_landed_is_not_published(session: Session, store: FeatureStore) -> None:
    with pytest.raises(NotYetLanded) as caught:
        publish_weeks(session, store, TABLES["household"], [MONDAY + 2 * WEEK])[0]
    assert "2017-02-13" in caught.value.where
    assert "--until 2017-02-19" in caught.value.next_step
