"""The console command in a home of its own, in this process: the graph is loaded once, not ten times."""

import os
from dataclasses import dataclass
from pathlib import Path

from typer.testing import CliRunner

from ml_platform.cli import app


@dataclass(frozen=True)
class Done:
    """What a command said and how it ended."""

    returncode: int
    stdout: str
    stderr: str


def mlp(home: Path, *arguments: str, households: int) -> Done:
    """Runs the command; the environment is afterwards what it was."""
    before = dict(os.environ)
    try:
        given = {"ML_PLATFORM_HOME": str(home), "ML_PLATFORM_HOUSEHOLDS": str(households)}
        answer = CliRunner().invoke(app, arguments, env=given)
    finally:
        os.environ.clear()
        os.environ.update(before)
    if answer.exception and not isinstance(answer.exception, SystemExit):
        raise answer.exception
    return Done(answer.exit_code, answer.stdout, answer.stderr)
