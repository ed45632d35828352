"""The warehouse: where raw rows, dbt's models and their history live, behind one small protocol (`base.py`)."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ml_platform.settings import Settings

if TYPE_CHECKING:
    from ml_platform.warehouse.base import Warehouse


def open_warehouse(settings: Settings, tags: Mapping[str, str] | None = None) -> "Warehouse":
    """The warehouse that the settings choose. `tags` go into the history of its queries, where the engine keeps one."""
    if settings.snowflake:
        from ml_platform.warehouse.snowflake import SnowflakeWarehouse

        return SnowflakeWarehouse(settings.snowflake, tags or {})
    from ml_platform.warehouse.duckdb import DuckDBWarehouse

    return DuckDBWarehouse(settings.warehouse_file)
