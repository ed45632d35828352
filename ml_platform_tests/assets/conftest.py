"""One home with a slice of the households, on which the whole year has run through the whole graph."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

HOUSEHOLDS = "200"


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Landed, and materialised once by the command a user types."""
    folder = tmp_path_factory.mktemp("home")
    done = mlp(folder, "demo")
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def mlp(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs the console command in a home of its own."""
    environment = {**os.environ, "ML_PLATFORM_HOME": str(home), "ML_PLATFORM_HOUSEHOLDS": HOUSEHOLDS}
    command = [str(Path(sys.executable).with_name("mlp")), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600)


@pytest.fixture(scope="session")
def models(home: Path) -> Callable[[], dict[str, dict]]:
    """What `mlp models --json` says, by model."""

    def read() -> dict[str, dict]:
        done = mlp(home, "models", "--json")
        assert done.returncode == 0, done.stderr
        return {row["model"]: row for row in json.loads(done.stdout)}

    return read
