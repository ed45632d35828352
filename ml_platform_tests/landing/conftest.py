"""Small real deliveries: rows that keep the contract, and a way to land what breaks it."""

import hashlib
import json
import os
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from ml_platform.calendar import CLOSING_DAY
from ml_platform.landing.files import Delivery, LandingFolder
from ml_platform.landing.loading import create_raw
from ml_platform.landing.replay import replay
from ml_platform.landing.tables import RAW_TABLES
from ml_platform.warehouse import lock
from ml_platform.warehouse.base import Session
from ml_platform.warehouse.duckdb import DuckDBWarehouse

DAY = date(2017, 6, 5)
NOON = datetime(2017, 6, 5, 16, tzinfo=UTC)  # in New York


def line(**values: Any) -> dict[str, Any]:
    """A line of a basket at noon of DAY."""
    usual: dict[str, Any] = {
        "household_id": 1, "store_id": 2, "basket_id": 3, "product_id": 4, "quantity": 1, "sales_value": 1.99,
        "retail_disc": 0.5, "coupon_disc": 0.0, "coupon_match_disc": 0.0, "event_ts": NOON, "is_withdrawn": False,
    }  # fmt: skip
    return usual | values


def lines(*rows: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=RAW_TABLES["transactions"].schema)


def deliver(folder: LandingFolder, content: bytes, day: date = DAY, **manifest: Any) -> Delivery:
    """Puts bytes and a manifest where a careless sender would, whatever they are."""
    place = folder.root / "transactions" / day.isoformat()
    place.mkdir(parents=True, exist_ok=True)
    (place / "data.parquet").write_bytes(content)
    usual = {
        "format_version": 1, "table": "transactions", "landed_on": day.isoformat(), "rows": 1,
        "sha256": hashlib.sha256(content).hexdigest(), "closed": False,
    }  # fmt: skip
    (place / "manifest.json").write_text(json.dumps(usual | manifest))
    delivery = folder.delivery("transactions", day)
    assert delivery is not None
    return delivery


@pytest.fixture
def folder(tmp_path: Path) -> LandingFolder:
    return LandingFolder(tmp_path / "landing")


@pytest.fixture
def warehouse(tmp_path: Path) -> DuckDBWarehouse:
    return DuckDBWarehouse(tmp_path / "warehouse.duckdb", wait_seconds=5)


@pytest.fixture
def session(warehouse: DuckDBWarehouse) -> Iterator[Session]:
    with warehouse.session("test") as session:
        create_raw(session)
        yield session


@pytest.fixture(scope="session")
def year(tmp_path_factory: pytest.TempPathFactory) -> LandingFolder:
    """The whole year of sixty households, at the default rates; landed once, also when tests run in parallel."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    folder = LandingFolder(shared / "year")
    with lock.hold(shared / "year.lock", "land the year", wait_seconds=120):
        if folder.landed_through() != CLOSING_DAY:
            replay(folder, CLOSING_DAY, households=60)
    return folder
