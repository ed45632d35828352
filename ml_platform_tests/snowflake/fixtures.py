"""Snowflake's emulator as a fixture: one process for all the tests of a test process, its own port on 127.0.0.1."""

import subprocess
import sys
from functools import cache

import pytest

from ml_platform.settings import REPOSITORY

DATABASE = "ml_platform"


@cache
def _started() -> tuple[subprocess.Popen[str], str]:
    """The emulator and its port. Cached, for pytest makes a fixture anew for every room that names it; and nobody ends
    it, for it ends with us, who hold its standard input."""
    command = [sys.executable, "-m", "ml_platform_tests.snowflake.emulator"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY)
    assert process.stdout
    port = process.stdout.readline().strip()
    assert port, "the emulator did not start"
    return process, port


@pytest.fixture(scope="session")
def emulator() -> dict[str, str]:
    """The environment that leads to it. Tests keep apart by schema prefix, as developers on one account do."""
    _, port = _started()
    return {
        "SNOWFLAKE_ACCOUNT": "emulator",
        "SNOWFLAKE_USER": "tester",
        "SNOWFLAKE_PASSWORD": "not-checked",
        "SNOWFLAKE_ROLE": "ml_platform",
        "SNOWFLAKE_WAREHOUSE": "ml_platform",
        "SNOWFLAKE_DATABASE": DATABASE,
        "SNOWFLAKE_HOST": "127.0.0.1",
        "SNOWFLAKE_PORT": port,
        "SNOWFLAKE_PROTOCOL": "http",
    }
