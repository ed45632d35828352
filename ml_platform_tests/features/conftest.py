"""A feature store of two small tables, with three published Mondays."""

from datetime import date
from pathlib import Path

import polars as pl
import pytest

from ml_platform.contracts import AS_OF, Column, FeatureTable
from ml_platform.features.store import FeatureStore

MONDAYS = (date(2017, 6, 5), date(2017, 6, 12), date(2017, 6, 19))
HOUSEHOLD_ID = Column("household_id", "int64", "Household", "id", lower=1, pii="pseudonymous")
HOUSEHOLD = FeatureTable(
    name="household",
    entity=("household_id",),
    columns=(
        HOUSEHOLD_ID,
        AS_OF,
        Column("spend_cents_28d", "int64", "Spend in 28 days", "cents", lower=0),
        Column("recency_days", "int32", "Days since the last trip", "days", lower=1, upper=84, nullable=True),
        Column("weekend_share", "float64", "Share of trips at weekends", "ratio", lower=0, upper=1, nullable=True),
    ),
    description="What a household did",
    owner="team:features",
    relation="feature_models.household_features",
    audit_sql=Path(__file__),
)
PAIR = FeatureTable(
    name="household_category",
    entity=("household_id", "product_category"),
    columns=(
        HOUSEHOLD_ID,
        Column("product_category", "string", "Product category", "name"),
        AS_OF,
        Column("lines_28d", "int32", "Receipt lines in 28 days", "count", lower=0),
    ),
    description="What a household bought of a category",
    owner="team:features",
    relation="feature_models.household_category_features",
    audit_sql=Path(__file__),
)
TABLES = {table.name: table for table in (HOUSEHOLD, PAIR)}


def household_rows(monday: date, households: int = 4) -> pl.DataFrame:
    """[households, HOUSEHOLD's columns]: spend tells which Monday it is of."""
    ids = range(1, households + 1)
    spend = [100 * MONDAYS.index(monday) + household for household in ids]
    rows = {"household_id": ids, "as_of": [monday] * households, "spend_cents_28d": spend}
    return HOUSEHOLD.conform(
        pl.DataFrame({**rows, "recency_days": [3] * households, "weekend_share": [0.5] * households})
    )


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    store = FeatureStore(tmp_path / "lake", TABLES)
    for monday in MONDAYS:
        pairs = pl.DataFrame(
            {
                "household_id": [1, 1, 2],
                "product_category": ["BREAD", "007", "BREAD"],
                "as_of": [monday] * 3,
                "lines_28d": [10 + MONDAYS.index(monday), 20, 30],
            }
        )
        for name, frame in (("household", household_rows(monday)), ("household_category", PAIR.conform(pairs))):
            table = store.table(name)
            table.publish(table.stage(monday.isoformat(), frame))
    return store
