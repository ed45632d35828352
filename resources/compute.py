"""Where training runs: a process on this machine, or a pod in Kubernetes. The worker, its messages and its files stay
the same; the profile says which.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, cast

import dagster as dg
from dagster._core.errors import DagsterPipesExecutionError
from dagster._core.pipes.context import PipesMessageHandler
from dagster_pipes import PipesParams

from ml_platform.compute.pods import RESOURCES_TAG
from ml_platform.compute.reasons import NodeTakenAway, reported_failure
from ml_platform.settings import REPOSITORY, Settings
from ml_platform.training.compute import worker_command
from ml_platform.training.job import TrainingFailed
from ml_platform.training.resources import Resources

Tell = Callable[[Mapping[str, Any]], object]


def unheard(message: Mapping[str, Any]) -> None:
    """For whom the run's log is enough."""


class Compute(Protocol):
    """Runs one job file to its end and returns the worker's custom messages; `tell` hears each as it comes.

    Raises a PlatformError with the cause, in words for an alert: TrainingFailed when the worker fails; in Kubernetes
    also what became of its pod.
    """

    def train(self, context: dg.AssetExecutionContext, job: Path, tell: Tell = unheard) -> list[dict]: ...


class LocalCompute(dg.ConfigurableResource):
    """Starts the training worker as a subprocess and carries its messages into the run's log."""

    def train(self, context: dg.AssetExecutionContext, job: Path, tell: Tell = unheard) -> list[dict]:
        reader = _KeptMessages(tell)
        client = dg.PipesSubprocessClient(cwd=str(REPOSITORY), message_reader=reader)
        try:
            client.run(command=worker_command(job), context=context)
        except DagsterPipesExecutionError as error:
            raise reported_failure(reader.messages) or TrainingFailed(
                f"the worker died without a word: {error}",
                where=job,
                next_step="look for memory pressure on this machine, then train again",
            ) from error
        return reader.messages


class KubernetesCompute(dg.ConfigurableResource):
    """Starts the training worker as a pod, with what the model declares, and waits for its end.

    A pod that the cluster takes away (evicted, preempted, lost with its node) is started again, a declared number of
    times; the worker goes on from its checkpoint.
    """

    def train(self, context: dg.AssetExecutionContext, job: Path, tell: Tell = unheard) -> list[dict]:
        from resources.pods import train_in_pod

        resources = Resources.from_json(context.op.tags[RESOURCES_TAG])
        most = resources.max_preemption_retries
        for restart in range(1, most + 1):
            try:
                return train_in_pod(context, job, resources, tell)
            except NodeTakenAway as death:
                context.log.warning(f"{death} The training goes on in a new pod, restart {restart} of at most {most}.")
        return train_in_pod(context, job, resources, tell)


def build_compute() -> Compute:
    """The compute of the profile."""
    return KubernetesCompute() if Settings.from_env().compute == "kubernetes" else LocalCompute()


class Telling:
    """A Pipes message handler that also hands on each custom message, as it comes, in the thread that read it."""

    def __init__(self, handler: PipesMessageHandler, tell: Tell) -> None:
        self._handler, self._tell = handler, tell

    def handle_message(self, message: Any) -> None:
        self._handler.handle_message(message)
        if message["method"] == "report_custom_message":
            self._tell(message["params"]["payload"])

    def __getattr__(self, name: str) -> Any:
        return getattr(self._handler, name)


class _KeptMessages(dg.PipesTempFileMessageReader):
    """Keeps the worker's custom messages for when it fails: Dagster's client then returns none."""

    messages: list[dict]

    def __init__(self, tell: Tell) -> None:
        super().__init__()
        self._tell = tell

    @contextmanager
    def read_messages(self, handler: PipesMessageHandler) -> Iterator[PipesParams]:
        try:
            telling = cast(PipesMessageHandler, Telling(handler, self._tell))
            with super().read_messages(telling) as params:
                yield params
        finally:
            self.messages = [dict(message) for message in handler.get_custom_messages()]
