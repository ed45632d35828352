"""A replayed home: `mlp live` without server and view."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from ml_platform_tests import console
from ml_platform_tests.console import Done

SLICE = 300
"""Of 200 households too few redeem a coupon before August for a model to learn anything of."""


def live(home: Path, *arguments: str, households: int = SLICE, **environment: str) -> subprocess.CompletedProcess[str]:
    """`mlp live --headless`, as fast as it goes, as a process of its own."""
    given = {"ML_PLATFORM_HOME": str(home), "ML_PLATFORM_HOUSEHOLDS": str(households), **environment}
    command = [str(Path(sys.executable).with_name("mlp")), "live", "--headless", "--speed", "max", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | given, timeout=900)


def mlp(home: Path, *arguments: str) -> Done:
    return console.mlp(home, *arguments, households=SLICE)


def told(home: Path, *arguments: str) -> list[dict[str, Any]]:
    """What a command prints as JSON."""
    done = mlp(home, *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
