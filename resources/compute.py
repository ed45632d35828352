"""Where training runs: today a process on this machine. The worker, its messages and its files stay the same."""

import sys
from pathlib import Path

import dagster as dg

from ml_platform.settings import REPOSITORY


class LocalCompute(dg.ConfigurableResource):
    """Starts the training worker as a subprocess and carries its messages into the run's log."""

    def train(self, context: dg.AssetExecutionContext, job: Path) -> list[dict]:
        """Runs one job file to its end and returns the worker's custom messages.

        Raises DagsterPipesExecutionError when the worker fails; its typed cause is in the run's log.
        """
        client = dg.PipesSubprocessClient(cwd=str(REPOSITORY))
        command = [sys.executable, "-m", "ml_platform.training.worker", str(job)]
        return [dict(message) for message in client.run(command=command, context=context).get_custom_messages()]
