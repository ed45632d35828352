"""One home with a slice of the households, on which the whole year has run through the whole graph."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ml_platform_tests import console
from ml_platform_tests.console import Done

HOUSEHOLDS = 200


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Landed, and materialised once by the command a user types."""
    folder = tmp_path_factory.mktemp("home")
    environment = {**os.environ, "ML_PLATFORM_HOME": str(folder), "ML_PLATFORM_HOUSEHOLDS": str(HOUSEHOLDS)}
    command = [str(Path(sys.executable).with_name("mlp")), "demo"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def mlp(home: Path, *arguments: str) -> Done:
    return console.mlp(home, *arguments, households=HOUSEHOLDS)


@pytest.fixture(scope="session")
def models(home: Path) -> Callable[[], dict[str, dict]]:
    """What `mlp models --json` says, by model."""

    def read() -> dict[str, dict]:
        done = mlp(home, "models", "--json")
        assert done.returncode == 0, done.stderr
        return {row["model"]: row for row in json.loads(done.stdout)}

    return read
