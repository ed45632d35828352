"""Fixtures of more than one room, and the order of the tests."""

import pytest

from ml_platform_tests.snowflake.fixtures import emulator

__all__ = ["emulator"]

LONGEST = (
    "live/test_year.py",
    "snowflake/test_whole_graph.py",
    "assets/test_whole_path.py",
    "live/test_survival.py",
    "snowflake/test_same_rows.py",
)
"""The modules that take minutes."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest modules come first. A module stays in one process, so one that is begun last leaves a core idle."""
    ranks = {name: rank for rank, name in enumerate(LONGEST)}
    items.sort(key=lambda item: ranks.get("/".join(item.path.parts[-2:]), len(LONGEST)))
