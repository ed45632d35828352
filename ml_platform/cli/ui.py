"""`mlp ui`: Dagster's webserver and daemon over the same instance, in one command that ends both."""

import os
import socket
import subprocess
import sys

from ml_platform.cli.instance import dagster_environment, open_instance
from ml_platform.errors import ConfigurationError
from ml_platform.settings import REPOSITORY, Settings

HOST = "127.0.0.1"


def serve(port: int) -> None:
    """Runs until interrupted. Raises ConfigurationError when the port is taken or the server ends by itself."""
    settings = Settings.from_env()
    if not port_is_free(port):
        raise ConfigurationError(
            "something listens there already", where=f"{HOST}:{port}", next_step="end it, or `mlp ui --port 3001`"
        )
    open_instance(settings).dispose()
    code = subprocess.call(command(port), cwd=REPOSITORY, env=os.environ | dagster_environment(settings))
    if code not in (0, 130, -2):
        raise ConfigurationError(
            f"Dagster ended with code {code}", where="mlp ui", next_step="read its last lines above"
        )


def command(port: int) -> list[str]:
    """`dagster dev` starts both and restarts neither silently; it listens on this machine only."""
    workspace = str(REPOSITORY / "workspace.yaml")
    return [sys.executable, "-m", "dagster", "dev", "--host", HOST, "--port", str(port), "--workspace", workspace]


def port_is_free(port: int) -> bool:
    """Whether nothing accepts connections there."""
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) != 0
