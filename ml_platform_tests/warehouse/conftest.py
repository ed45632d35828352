"""Both engines, for every test of a warehouse."""

from ml_platform_tests.warehouse.fixtures import any_warehouse, snowflake_warehouse

__all__ = ["any_warehouse", "snowflake_warehouse"]
