"""One fixture runs a warehouse's tests over both engines: DuckDB's file, and Snowflake by its emulator."""

import uuid
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ml_platform.snowflake_account import SnowflakeAccount
from ml_platform.warehouse.base import Warehouse
from ml_platform.warehouse.duckdb import DuckDBWarehouse

if TYPE_CHECKING:  # imported when it is opened: processes that tests start import this module too
    from ml_platform.warehouse.snowflake import SnowflakeWarehouse


def on_snowflake(environ: Mapping[str, str], **other: Any) -> "SnowflakeWarehouse":
    """A warehouse that nobody else sees: its own prefix. Nothing waits for long, and pauses are none."""
    from ml_platform.warehouse.snowflake import SnowflakeWarehouse

    account = SnowflakeAccount.from_env({**environ, "ML_PLATFORM_SCHEMA_PREFIX": f"t{uuid.uuid4().hex[:10]}_"})
    return replace(SnowflakeWarehouse(account, pause=lambda seconds: None), **other)


@pytest.fixture
def snowflake_warehouse(emulator: dict[str, str]) -> "SnowflakeWarehouse":
    return on_snowflake(emulator)


@pytest.fixture(params=["duckdb", "snowflake"])
def any_warehouse(request: pytest.FixtureRequest, tmp_path: Path) -> Warehouse:
    if request.param == "duckdb":
        return DuckDBWarehouse(tmp_path / "home" / "warehouse.duckdb", wait_seconds=5)
    return on_snowflake(request.getfixturevalue("emulator"))
