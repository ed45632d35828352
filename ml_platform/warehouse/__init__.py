"""The warehouse: where raw rows, dbt's models and their history live, behind one small protocol."""

from ml_platform.warehouse.base import (
    Column,
    Conversion,
    Session,
    Warehouse,
    WarehouseBusy,
    WarehouseError,
    WarehouseFull,
    quote,
)
from ml_platform.warehouse.duckdb import DuckDBWarehouse

__all__ = [
    "Column",
    "Conversion",
    "DuckDBWarehouse",
    "Session",
    "Warehouse",
    "WarehouseBusy",
    "WarehouseError",
    "WarehouseFull",
    "quote",
]
