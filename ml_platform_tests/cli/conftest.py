"""A home of its own, with a real Dagster instance on SQLite, one per test module (making one costs seconds)."""

import os
from collections.abc import Iterator

import pytest
from dagster import DagsterInstance

from ml_platform.cli.instance import open_instance
from ml_platform.settings import Settings


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings.from_env({"ML_PLATFORM_HOME": str(tmp_path_factory.mktemp("home"))})


@pytest.fixture(scope="module")
def instance(settings: Settings) -> Iterator[DagsterInstance]:
    before = dict(os.environ)
    with open_instance(settings) as opened:
        yield opened
    os.environ.clear()
    os.environ.update(before)
