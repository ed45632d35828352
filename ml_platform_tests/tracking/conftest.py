"""MLflow on SQLite: its tables are made once for the whole test run and copied for each test."""

import fcntl
import os
import shutil
from pathlib import Path

import pytest

from ml_platform.registry.ledger import Ledger
from ml_platform.tracking.mlflow import Tracking
from ml_platform_tests.registry.conftest import Shelf, ticking


@pytest.fixture(scope="session")
def made_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An initialised MLflow database, shared by the processes of the test run."""
    base = tmp_path_factory.getbasetemp()
    folder = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with (folder / "mlflow-template.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        tracking = Tracking(f"sqlite:///{folder / 'mlflow-template.db'}", folder / "unused")
        tracking.client.search_experiments()
    return folder / "mlflow-template.db"


@pytest.fixture
def tracking(made_database: Path, tmp_path: Path) -> Tracking:
    shutil.copyfile(made_database, tmp_path / "mlflow.db")
    return Tracking(f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path / "artifacts")


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    return Shelf(url, Ledger(url, clock=ticking()))
