"""Where training runs: today a process on this machine. The worker, its messages and its files stay the same."""

from pathlib import Path

import dagster as dg

from ml_platform.settings import REPOSITORY
from ml_platform.training.compute import worker_command


class LocalCompute(dg.ConfigurableResource):
    """Starts the training worker as a subprocess and carries its messages into the run's log."""

    def train(self, context: dg.AssetExecutionContext, job: Path) -> list[dict]:
        """Runs one job file to its end and returns the worker's custom messages.

        Raises DagsterPipesExecutionError when the worker fails; its typed cause is in the run's log.
        """
        client = dg.PipesSubprocessClient(cwd=str(REPOSITORY))
        done = client.run(command=worker_command(job), context=context)
        return [dict(message) for message in done.get_custom_messages()]
