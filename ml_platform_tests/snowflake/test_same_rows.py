"""Every relation that dbt builds, row by row on both engines, after runs that overlap and rows that come late.

`pytest -n 0 ml_platform_tests/snowflake/test_same_rows.py` compares. Where docs/snowflake.md has another
table than the one measured, it says the new one.
"""

import json
import random
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import duckdb
import polars as pl
import pytest

from ml_platform.calendar import OPENING_DAY
from ml_platform.landing.loading import create_raw
from ml_platform.landing.tables import RAW_TABLES
from ml_platform.settings import REPOSITORY
from ml_platform.snowflake_account import SnowflakeAccount
from ml_platform.warehouse.base import Arrival, Column
from ml_platform.warehouse.snowflake import SnowflakeWarehouse
from ml_platform_tests.dbt.conftest import Product, Project, Version, day, fill_raw, invoke, manifest, project
from ml_platform_tests.snowflake.compare import Compared, as_markdown, compare

__all__ = ["manifest", "project"]

PAGE = REPOSITORY / "docs" / "snowflake.md"
PREFIX = "same_rows_"
LAST_DAY = 70
MONDAYS = [date(2017, 1, 30) + timedelta(weeks=each) for each in range(6)]
RAW = {
    **{
        name: {**{each.name: each.type for each in table.columns}, "landed_on": "date"}
        for name, table in RAW_TABLES.items()
    },
    "loads": {
        "table_name": "varchar", "landed_on": "date", "sha256": "varchar", "row_count": "bigint",
        "loaded_at": "timestamp",
    },
}  # fmt: skip
EVERYTHING = ("staging", "marts", "feature_models")
RUNS = (
    (EVERYTHING, (OPENING_DAY, day(44)), (MONDAYS[0], MONDAYS[3])),
    (EVERYTHING[:2], (day(45), day(58)), (MONDAYS[3], MONDAYS[3])),
    (EVERYTHING, (day(52), day(LAST_DAY)), (MONDAYS[3], MONDAYS[5])),  # a week landed again, a Monday said again
)
PRODUCTS = [
    Product(1), Product(2), Product(3, category="FISH"), Product(4, category="FISH", brand="Private"),
    Product(5, category=None), Product(6, category="SOUP"), Product(7, department="FUEL"), Product(8, category="Käse"),
]  # fmt: skip


def versions() -> list[Version]:
    """Lines of a few hundred baskets, a third of them late by up to a week, corrected, withdrawn, or all of it."""
    chance, found = random.Random(5), []
    for basket in range(300):
        household, event_day, store = chance.randint(1, 12), chance.randint(1, LAST_DAY - 8), chance.randint(1, 3)
        for product in chance.sample(PRODUCTS, chance.randint(1, 4)):
            landed = event_day + (chance.randint(1, 7) if chance.random() < 0.2 else 0)
            line = Version(
                household, basket, product.product_id, event_day, landed, chance.randint(0, 9999), store,
                retail_disc_cents=chance.randint(0, 99), coupon_disc_cents=chance.choice((0, 0, 50)),
            )  # fmt: skip
            found.append(line)
            if chance.random() < 0.15:
                landed += chance.randint(1, 6)
                found.append(line.later(landed, sales_cents=chance.randint(0, 9999)))
            if chance.random() < 0.1:
                found.append(line.later(landed + chance.randint(1, 6), is_withdrawn=True))
    return [each for each in found if each.landed_day <= LAST_DAY]


def others() -> dict[str, list[tuple]]:
    """Rows of the other raw tables, as `fill_raw` takes them."""
    mondays = [day(1 + 7 * week) for week in range(10)]
    weeks = [(product.product_id, store, monday) for product in PRODUCTS for store in (1, 2) for monday in mondays]
    told = [(household, 7 + household % 2, 20 + household, late) for household in range(1, 9) for late in (0, 4)]
    return {
        "promotions": [
            (
                product,
                store,
                "A" if product % 3 else "0",
                "0" if store == 1 else "D",
                monday,
                monday - timedelta(days=1),
            )
            for product, store, monday in weeks
        ],
        "campaigns": [(7, each, "Type A", day(20), day(50), day(19)) for each in range(1, 10)]
        + [(8, each, "Type C", day(30), day(66), day(29 + each % 2)) for each in range(4, 13)],
        "coupon_redemptions": [
            (household, 100 + household, campaign, f"{day(on)} 17:00:00", day(on), day(on + late))
            for household, campaign, on, late in told
        ],
        "coupons": [(100 + product.product_id, product.product_id, 7, day(19)) for product in PRODUCTS],
        "demographics": [(1, "35-44", "50-74K", None, "Married", "2", "2 Adults", "0", OPENING_DAY)],
    }


def frame(connection: duckdb.DuckDBPyConnection, relation: str) -> pl.DataFrame:
    found = pl.from_arrow(connection.sql(f"select * from {relation}").to_arrow_table())
    assert isinstance(found, pl.DataFrame)
    return found


@pytest.fixture(scope="module")
def on_duckdb(project: Project) -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(config={"threads": 1}) as connection:
        fill_raw(connection, versions(), PRODUCTS, loaded_through=day(LAST_DAY), **others())
        for folders, landed, as_of in RUNS:
            project.run(connection, folders, landed, as_of)
        yield connection


@pytest.fixture(scope="module")
def on_snowflake(emulator: dict[str, str]) -> SnowflakeWarehouse:
    return SnowflakeWarehouse(SnowflakeAccount.from_env({**emulator, "ML_PLATFORM_SCHEMA_PREFIX": PREFIX}))


@pytest.fixture(scope="module")
def target(
    emulator: dict[str, str],
    on_snowflake: SnowflakeWarehouse,
    on_duckdb: duckdb.DuckDBPyConnection,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """dbt's folder of the first of the runs on Snowflake, which is a build with every test of the project."""
    with on_snowflake.session("fill raw tables") as session:
        create_raw(session)
        for relation, types in RAW.items():
            rows = frame(on_duckdb, f"raw.{relation}")
            columns = [Column(name, sql_type, name) for name, sql_type in types.items()]
            with session.staged(f"raw.{relation}", [Arrival(rows, {})], columns) as staged:
                session.execute(f"insert into raw.{relation} select * from {staged}")
    environ = {**emulator, "DBT_TARGET": "snowflake", "DBT_SCHEMA_PREFIX": PREFIX}
    folder = tmp_path_factory.mktemp("dbt_on_snowflake")
    names = ("landed_from", "landed_to", "as_of_from", "as_of_to")
    invoke(
        *(
            {
                "environ": environ,
                "target": str(folder / str(number)),
                "args": ["run", "--select", *folders] if number else ["build"],
                "vars": {name: each.isoformat() for name, each in zip(names, (*landed, *as_of), strict=True)},
            }
            for number, (folders, landed, as_of) in enumerate(RUNS)
        )
    )
    return folder / "0"


@pytest.fixture(scope="module")
def compared(
    project: Project, on_duckdb: duckdb.DuckDBPyConnection, on_snowflake: SnowflakeWarehouse, target: Path
) -> list[Compared]:
    found = []
    with on_snowflake.session("compare rows") as session:
        for model in project.models:
            expected = frame(on_duckdb, model.relation)
            answer = session.read(f"select * from {model.relation}", schema=expected.schema)
            found.append(compare(model.relation, expected, answer))
    return sorted(found, key=lambda each: each.relation)


def test_every_relation_has_the_same_rows_on_both_engines(compared: list[Compared]) -> None:
    assert len(compared) == 20
    for each in compared:
        assert each.same and each.rows, each


def test_the_table_in_the_page_is_the_one_measured(compared: list[Compared]) -> None:
    table = as_markdown(compared)
    assert table in PAGE.read_text(), f"put this into {PAGE.name}:\n{table}"


def test_every_model_test_and_unit_test_of_the_project_passes_on_snowflake(target: Path) -> None:
    results = json.loads((target / "run_results.json").read_text())["results"]
    stated = json.loads((target / "manifest.json").read_text())
    told = {result["unique_id"]: result["status"] for result in results}
    assert stated["unit_tests"] and set(told) == {
        *stated["unit_tests"],
        *(key for key, node in stated["nodes"].items() if node["resource_type"] in ("model", "test")),
    }
    assert set(told.values()) == {"success", "pass"}


@pytest.mark.parametrize(
    "change",
    [
        pl.col("cents") + 1,
        pl.when(pl.col("cents") == 7).then(None).otherwise(pl.col("share")).alias("share"),
        pl.col("share") * (1 + 1e-11),
        pl.col("items").list.reverse(),
    ],
    ids=["a cent", "a null", "the eleventh digit", "the order of a list"],
)
def test_a_comparison_sees(change: pl.Expr) -> None:
    rows = pl.DataFrame({"cents": [7, 8], "share": [0.25, None], "items": [[1, 2], [3]]})
    assert compare("r", rows, rows.reverse()).same
    assert not compare("r", rows, rows.with_columns(change)).same
    assert not compare("r", rows, rows.head(1)).same
