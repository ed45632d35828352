"""Fixtures of more than one room."""

from ml_platform_tests.snowflake.fixtures import emulator

__all__ = ["emulator"]
