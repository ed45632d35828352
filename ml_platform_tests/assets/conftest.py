"""One home with a slice of the households, on which the whole year has run through the whole graph."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ml_platform.cli import app

HOUSEHOLDS = "200"


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Landed, and materialised once by the command a user types."""
    folder = tmp_path_factory.mktemp("home")
    environment = {**os.environ, "ML_PLATFORM_HOME": str(folder), "ML_PLATFORM_HOUSEHOLDS": HOUSEHOLDS}
    command = [str(Path(sys.executable).with_name("mlp")), "demo"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@dataclass(frozen=True)
class Done:
    """What a command said and how it ended."""

    returncode: int
    stdout: str
    stderr: str


def mlp(home: Path, *arguments: str) -> Done:
    """Runs the console command in a home of its own, in this process: the graph is loaded once, not ten times."""
    before = dict(os.environ)
    try:
        given = {"ML_PLATFORM_HOME": str(home), "ML_PLATFORM_HOUSEHOLDS": HOUSEHOLDS}
        answer = CliRunner().invoke(app, arguments, env=given)
    finally:
        os.environ.clear()
        os.environ.update(before)
    if answer.exception and not isinstance(answer.exception, SystemExit):
        raise answer.exception
    return Done(answer.exit_code, answer.stdout, answer.stderr)


@pytest.fixture(scope="session")
def models(home: Path) -> Callable[[], dict[str, dict]]:
    """What `mlp models --json` says, by model."""

    def read() -> dict[str, dict]:
        done = mlp(home, "models", "--json")
        assert done.returncode == 0, done.stderr
        return {row["model"]: row for row in json.loads(done.stdout)}

    return read
