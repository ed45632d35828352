"""Snowflake's emulator as a fixture: one process for all the tests of a test process, its own port on 127.0.0.1."""

import subprocess
import sys
from collections.abc import Iterator

import pytest

from ml_platform.settings import REPOSITORY

DATABASE = "ml_platform"


@pytest.fixture(scope="session")
def emulator() -> Iterator[dict[str, str]]:
    """The environment that leads to it. Tests keep apart by schema prefix, as developers on one account do."""
    command = [sys.executable, "-m", "ml_platform_tests.snowflake.emulator"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY) as process:
        assert process.stdin and process.stdout
        port = process.stdout.readline().strip()
        assert port, "the emulator did not start"
        yield {
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
        process.stdin.close()
