"""The project's SQL on tiny raw tables: through dbt itself, or, where many runs are wanted, as dbt compiles it."""

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import duckdb
import pytest

from ml_platform.calendar import CLOSING_DAY, OPENING_DAY
from ml_platform.landing.tables import RAW_TABLES
from ml_platform.settings import REPOSITORY

STATED = {"landed_from": "1001-01-01", "landed_to": "1002-01-01", "as_of_from": "1003-01-01", "as_of_to": "1004-01-01"}
"""Days that stand for the vars in the compiled SQL."""


@dataclass(frozen=True)
class Version:
    """One landing of a line. Its day of the year 2017 is counted from 1; the hour is noon in the shop."""

    household_id: int
    basket_id: int
    product_id: int
    event_day: int
    landed_day: int
    sales_cents: int
    store_id: int = 1
    is_withdrawn: bool = False
    retail_disc_cents: int = 0
    coupon_disc_cents: int = 0

    @property
    def key(self) -> tuple[int, int, int]:
        return self.household_id, self.basket_id, self.product_id

    @property
    def landed_on(self) -> date:
        return day(self.landed_day)

    @property
    def event_date(self) -> date:
        return day(self.event_day)

    def later(self, landed_day: int, **changes: Any) -> "Version":
        return replace(self, landed_day=landed_day, **changes)


@dataclass(frozen=True)
class Product:
    """A product with its newest version from the opening day on."""

    product_id: int
    category: str | None = "FRUIT"
    department: str = "PRODUCE"
    brand: str = "National"


def day(number: int) -> date:
    """The day of 2017 counted from 1."""
    return OPENING_DAY + timedelta(days=number)


def fill_raw(
    connection: duckdb.DuckDBPyConnection,
    versions: Iterable[Version],
    products: Iterable[Product],
    loaded_through: date = CLOSING_DAY,
    **others: Sequence[tuple[Any, ...]],
) -> None:
    """Makes the raw tables as the loader does; `others` are rows of further raw tables, in their columns' order."""
    connection.execute("create schema raw")
    for table in RAW_TABLES.values():
        columns = ", ".join(f"{column.name} {column.type}" for column in table.columns)
        connection.execute(f"create table raw.{table.name} ({columns}, landed_on date)")
    days = [OPENING_DAY + timedelta(days=each) for each in range((loaded_through - OPENING_DAY).days + 1)]
    connection.execute(
        f"""
        create table raw.loads as
        select table_name, cast(landed_on as date) as landed_on, '' as sha256, cast(0 as bigint) as row_count,
            cast('{datetime.now(UTC):%Y-%m-%d %H:%M:%S}' as timestamp) as loaded_at
        from (values ('transactions'), ('coupon_redemptions'), ('promotions')) as daily (table_name)
        cross join (values {", ".join(f"('{each}')" for each in days)}) as days (landed_on)
        """
    )
    rows = [
        (
            each.household_id, each.store_id, each.basket_id, each.product_id, 1, each.sales_cents,
            each.retail_disc_cents, each.coupon_disc_cents, 0, f"{each.event_date} 17:00:00", each.event_date,
            each.is_withdrawn, each.landed_on,
        )
        for each in versions
    ]  # fmt: skip
    goods = [
        (each.product_id, 1, each.department, each.brand, each.category, None, None, OPENING_DAY) for each in products
    ]
    for name, content in {"transactions": rows, "products": goods, **others}.items():
        if content:
            marks = ", ".join("?" * len(content[0]))
            connection.executemany(f"insert into raw.{name} values ({marks})", content)


@dataclass(frozen=True)
class Model:
    relation: str
    sql: str
    kind: str
    range_column: str | None


@dataclass(frozen=True)
class Project:
    """The models as dbt compiles them, in an order that respects what reads what."""

    models: tuple[Model, ...]

    def run(
        self,
        connection: duckdb.DuckDBPyConnection,
        folders: Sequence[str],
        landed: tuple[date, date] = (OPENING_DAY, CLOSING_DAY),
        as_of: tuple[date, date] = (date(2017, 1, 30), date(2018, 1, 1)),
    ) -> None:
        """What `dbt run` of these folders does for these days, in milliseconds."""
        for model in self.models:
            schema = model.relation.split(".")[0]
            if schema not in folders:
                continue
            sql = model.sql
            for stands, value in zip(STATED.values(), (*landed, *as_of), strict=True):
                sql = sql.replace(stands, value.isoformat())
            connection.execute(f"create schema if not exists {schema}")
            if model.range_column is None:
                connection.execute(f"create or replace {model.kind} {model.relation} as {sql}")
                continue
            connection.execute(f"create or replace temp table fresh as {sql}")
            connection.execute(f"create table if not exists {model.relation} as select * from fresh limit 0")
            first, last = as_of if model.range_column == "as_of" else landed
            connection.execute(
                f"delete from {model.relation} where {model.range_column} between $first and $last",
                {"first": first, "last": last},
            )
            connection.execute(f"insert into {model.relation} by name select * from fresh")


def table(connection: duckdb.DuckDBPyConnection, relation: str) -> list[tuple[Any, ...]]:
    """Every row, sorted, so that equal tables are equal lists."""
    return connection.execute(f"select * from {relation} order by all").fetchall()


def invoke(*invocations: Mapping[str, Any]) -> None:
    """Runs dbt in a process of its own; see invoke.py."""
    done = subprocess.run(
        [sys.executable, "-m", "ml_platform_tests.dbt.invoke"],
        input=json.dumps(invocations),
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
    )
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"


@pytest.fixture(scope="session")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """dbt's manifest, compiled with STATED days; once for all the processes of a test run."""
    own = tmp_path_factory.getbasetemp()
    shared = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "compiled_dbt_project"
    shared.mkdir(exist_ok=True)
    with (shared / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (shared / "done").exists():
            environ, target = {"DBT_DUCKDB_PATH": str(shared / "warehouse.duckdb")}, str(shared / "target")
            invoke({"environ": environ, "target": target, "args": ["compile"], "vars": STATED})
            (shared / "done").touch()
    return json.loads((shared / "target" / "manifest.json").read_text())


@pytest.fixture(scope="session")
def project(manifest: dict[str, Any]) -> Project:
    waiting = {key: node for key, node in manifest["nodes"].items() if node["resource_type"] == "model"}
    models = []
    while waiting:
        for key in [key for key, node in waiting.items() if not waiting.keys() & set(node["depends_on"]["nodes"])]:
            node = waiting.pop(key)
            config = node["config"]
            sql = node["compiled_code"].replace(f'"{node["database"]}".', "")
            models.append(Model(f"{node['schema']}.{node['name']}", sql, config["materialized"], config["unique_key"]))
    return Project(tuple(models))


@pytest.fixture
def warehouse() -> Iterable[duckdb.DuckDBPyConnection]:
    with duckdb.connect(config={"threads": 1}) as connection:
        yield connection
