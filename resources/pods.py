"""Training in a pod: dagster-k8s' Pipes client, with its waiting and log reading replaced by ones that know the cause.

Imported only where a pod is started: dagster_k8s costs seconds. What the stock client leaves open is closed at its own
seam, `consume_pod_logs`, which it calls between making the pod and deleting it: a pod that finds no node has a
deadline, one whose image cannot be pulled a little patience, one that dies a typed cause, and a log stream that ends
early is picked up again. A short outage of the API server costs nothing but its length.
"""

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import dagster as dg
from dagster._core.pipes.context import PipesMessageHandler
from dagster._core.pipes.utils import extract_message_or_forward_to_stdout
from dagster_k8s import PipesK8sClient
from dagster_k8s.client import DagsterKubernetesClient
from dagster_k8s.pipes import PipesK8sPodLogsMessageReader
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from ml_platform.compute.pods import pod_command, worker_metadata, worker_pod
from ml_platform.compute.reasons import (
    ImageUnavailable,
    NodeTakenAway,
    NotStarted,
    Pod,
    death_of,
    has_started,
    is_hopeless,
    is_over,
    obstacle_of,
    phase_of,
)
from ml_platform.errors import ConfigurationError, PlatformError
from ml_platform.settings import Cluster, Settings
from ml_platform.training.job import read_job
from ml_platform.training.resources import Resources
from resources.compute import Tell, Telling

POLL_SECONDS = 2.0
IMAGE_PATIENCE_SECONDS = 120  # a registry that answers again within it fails no training
API_PATIENCE_SECONDS = 300  # an API server that answers again within it fails no training
LOG_SILENCE_SECONDS = 300  # after it the stream is asked for again: a dead connection looks like a silent worker
LOG_OVERLAP_SECONDS = 60
LAST_LINES = 10
LAST_READS = 5  # of the log of a pod that is over, when the node does not give it
GONE, SERVER_ERROR, TOO_MANY = 404, 500, 429


def train_in_pod(context: dg.AssetExecutionContext, job: Path, resources: Resources, tell: Tell) -> list[dict]:
    """One pod for one job file, deleted in the end whatever happens. Returns the worker's custom messages.

    Raises TrainingFailed with the worker's own cause, or PodDied with the cluster's.
    """
    settings = Settings.from_env()
    if settings.cluster is None:
        raise ConfigurationError("no cluster is configured", where="ML_PLATFORM_COMPUTE", next_step="set it")
    client = PodClient(resources, settings.cluster, tell)
    try:
        done = client.run(
            context=context,
            namespace=settings.cluster.namespace,
            command=pod_command(job),
            base_pod_meta=worker_metadata(settings.cluster, read_job(job).model, context.run_id),
            base_pod_spec=worker_pod(resources, settings.cluster, settings.lake),
        )
    except ApiException as error:
        if error.status != GONE:
            raise
        # The pod was deleted before the client could: why it died is the news, not that.
        raise client.death or NodeTakenAway("Deleted: the pod was gone before its end was seen", where=job) from error
    return [dict(message) for message in done.get_custom_messages()]


class PodClient(PipesK8sClient):
    """`death` is why the pod died, once it has."""

    def __init__(self, resources: Resources, cluster: Cluster, tell: Tell) -> None:
        self._reader = _PodLog(tell)
        super().__init__(
            message_reader=self._reader,
            kubeconfig_file=str(cluster.kubeconfig) if cluster.kubeconfig else None,
            poll_interval=POLL_SECONDS,
        )
        self._resources = resources
        self.death: PlatformError | None = None

    @contextmanager
    def consume_pod_logs(
        self,
        context: Any,
        client: DagsterKubernetesClient,
        namespace: str,
        pod_name: str,
        enable_multi_container_logs: bool = False,
        ignore_containers: set | None = None,
    ) -> Iterator[None]:
        """The pod's whole life: it has started, every line of it is read, it succeeded. Raises why not."""
        watch = _Watch(client.core_api, namespace, pod_name)
        try:
            _wait_for_start(context, watch, self._resources.scheduling_deadline_seconds)
            self._reader.follow(watch)
            pod = _wait_for_end(watch)
            if pod is None or phase_of(pod) != "Succeeded":
                raise death_of(pod, watch.last_seen, self._reader.messages, self._reader.tail)
        except PlatformError as death:
            self.death = death
            raise
        yield


class _Watch:
    """Looks at one pod, through short outages of the API server. `last_seen`: as it was while it was there."""

    def __init__(self, core_api: Any, namespace: str, name: str) -> None:
        self.core_api, self.namespace, self.name = core_api, namespace, name
        self.last_seen: Pod = {"metadata": {"name": name}, "spec": {"containers": [{}]}, "status": {}}

    def see(self) -> Pod | None:
        """The pod as the API's JSON, None when it is gone. Raises what the API says when it does not get better."""
        until = time.monotonic() + API_PATIENCE_SECONDS
        while True:
            try:
                found = self.core_api.list_namespaced_pod(self.namespace, field_selector=f"metadata.name={self.name}")
                break
            except (ApiException, HTTPError, OSError) as error:
                if not _passes(error) or time.monotonic() > until:
                    raise
            time.sleep(POLL_SECONDS)
        if not found.items:
            return None
        self.last_seen = self.core_api.api_client.sanitize_for_serialization(found.items[0])
        return self.last_seen

    def lines(self, since_seconds: int | None) -> Iterator[str]:
        """Whole lines of the log as they come, each behind its time; ends when the stream does."""
        stream = self.core_api.read_namespaced_pod_log(
            self.name,
            self.namespace,
            follow=True,
            timestamps=True,
            since_seconds=since_seconds,
            _preload_content=False,
            _request_timeout=LOG_SILENCE_SECONDS,
        )
        try:
            for line in stream:
                if line.endswith(b"\n"):  # a torn one comes whole with the next stream
                    yield line.decode(errors="replace").rstrip("\n")
        finally:
            stream.close()


def _passes(error: Exception) -> bool:
    """Whether an API error may pass by itself: not a refusal."""
    return not isinstance(error, ApiException) or error.status in (0, None, TOO_MANY) or error.status >= SERVER_ERROR


def _wait_for_start(context: Any, watch: _Watch, deadline_seconds: float) -> None:
    """Returns once the container runs or has run. What it waits for is told in the run's log, once each."""
    began = time.monotonic()
    trouble_since, told = None, ""
    while True:
        pod = watch.see()
        if pod is None or has_started(pod):
            return
        obstacle, now = obstacle_of(pod), time.monotonic()
        if obstacle and obstacle.what != told:
            told = obstacle.what
            context.log.warning(f"the training waits: {obstacle}")
        trouble_since = (trouble_since or now) if isinstance(obstacle, ImageUnavailable) else None
        impatient = trouble_since is not None and now - trouble_since > IMAGE_PATIENCE_SECONDS
        if obstacle and (impatient or is_hopeless(obstacle)):
            raise obstacle
        if now - began > deadline_seconds:
            raise obstacle or NotStarted(
                f"no container ran within {deadline_seconds:g} s",
                where=f"pod {watch.name}",
                next_step="look at the node's volumes and at the pod's events",
            )
        time.sleep(POLL_SECONDS)


def _wait_for_end(watch: _Watch) -> Pod | None:
    """The pod as it ended: its phase follows its container within moments."""
    while (pod := watch.see()) is not None and phase_of(pod) not in ("Succeeded", "Failed"):
        time.sleep(POLL_SECONDS)
    return pod


class _PodLog(PipesK8sPodLogsMessageReader):
    """The worker's messages out of its pod's log, each once. `tail`: its last other lines."""

    def __init__(self, tell: Tell) -> None:
        self.tail: deque[str] = deque(maxlen=LAST_LINES)
        self._tell = tell

    @property
    def messages(self) -> list[dict]:
        """The worker's custom messages so far."""
        return [dict(message) for message in self._handler.get_custom_messages()] if self._handler else []

    def follow(self, watch: _Watch) -> None:
        """Reads until the pod is over and its log, asked for after that, has nothing new: a stream that was cut off and
        one that came to its end look alike."""
        newest, at_newest = "", 0  # the time of the newest line handled, and how many lines of that very time
        heard, failed = None, 0
        while True:
            pod = watch.see()
            over = pod is None or is_over(pod)
            since = None if heard is None else int(time.monotonic() - heard) + LOG_OVERLAP_SECONDS
            again, fresh = 0, False
            try:
                for line in watch.lines(since):
                    heard = time.monotonic()
                    stamp, _, text = line.partition(" ")
                    again += stamp == newest
                    if stamp < newest or (stamp == newest and again <= at_newest):
                        continue
                    newest, at_newest = stamp, at_newest + 1 if stamp == newest else 1
                    again, fresh = at_newest, True
                    self._handle(text)
                if over and not fresh:
                    return
            except (ApiException, HTTPError, OSError):
                failed += over
                if pod is None or failed == LAST_READS:
                    return  # what the log still had is lost; the pod's status tells how it ended
            if not fresh:
                time.sleep(POLL_SECONDS)

    def _handle(self, text: str) -> None:
        assert self._handler, "read within the Pipes session only"
        if '"__dagster_pipes_version"' not in text:
            self.tail.append(text)
        extract_message_or_forward_to_stdout(cast(PipesMessageHandler, Telling(self._handler, self._tell)), text)
