"""A cluster of one test, the profile that leads to it, and one small training to send there."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow.parquet as pq
import pytest

from ml_platform.compute.pods import RESOURCES_TAG
from ml_platform.training.job import TrainingJob, write_job
from ml_platform.training.resources import Resources
from ml_platform_tests.kubernetes.cluster import Cluster, serving
from ml_platform_tests.tracking.conftest import made_database
from ml_platform_tests.training.conftest import make_rows, make_spec
from ml_platform_tests.warm import WORKER, Warm
from resources.compute import Compute, KubernetesCompute
from sensors.failures import failed_runs

POLL_SECONDS = 0.05
IN_A_POD = KubernetesCompute()
__all__ = ["made_database"]
PLACE = {
    "ML_PLATFORM_PROFILE": "kubernetes",
    "ML_PLATFORM_K8S_NAMESPACE": "ml",
    "ML_PLATFORM_K8S_IMAGE": "registry.example/ml-platform-worker:1",
    "ML_PLATFORM_K8S_LAKE_CLAIM": "ml-platform-lake",
    "ML_PLATFORM_K8S_SERVICE_ACCOUNT": "ml-platform-worker",
}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture(scope="module")
def warm() -> Iterator[tuple[Warm, ...]]:
    """What starts the containers of a module's cluster: their imports are paid once."""
    worker = ("xgboost", "pyarrow.parquet", "dagster_pipes", "ml_platform.training.worker")
    started = (Warm(WORKER, *worker),)
    yield started
    for each in started:
        each.stop()


@pytest.fixture
def cluster(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch, warm: tuple[Warm, ...]) -> Iterator[Cluster]:
    """An empty cluster, and an environment whose profile leads there."""
    from resources import pods

    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pods, "POLL_SECONDS", POLL_SECONDS)
    for each in warm:
        each.wait_until_ready()
    with serving(tmp_path, warm) as (served, kubeconfig):
        for name, value in {**PLACE, "ML_PLATFORM_HOME": str(home), "KUBECONFIG": str(kubeconfig)}.items():
            monkeypatch.setenv(name, value)
        yield served


@pytest.fixture(scope="session")
def training_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("training_set") / "rows.parquet"
    pq.write_table(make_rows(), path)
    return path


@dataclass(frozen=True)
class Ended:
    """A run that trained once in a pod: its worker's messages, in the end and as they came, or why it failed as an
    alert says it."""

    result: dg.ExecuteInProcessResult
    instance: dg.DagsterInstance
    messages: list[dict]
    heard: list[dict]
    cause: str

    def log(self) -> str:
        """What the run's log says, line by line."""
        return "\n".join(entry.user_message for entry in self.instance.all_logs(self.result.run_id))


@pytest.fixture
def job_file(home: Path, tmp_path: Path, training_set: Path) -> Path:
    """A job in the home's lake, over a small training set."""
    models = home / "lake" / "models" / "returning_shopper"
    job = TrainingJob.from_spec(make_spec(tmp_path), training_set, "digest-of-the-data", models / "bundle")
    return write_job(job, models / "jobs" / "job.json")


@pytest.fixture
def train(cluster: Cluster, job_file: Path) -> Iterator[Callable[..., Ended]]:
    """Trains the job in a pod with the given resources, as a step of a real run."""
    with dg.DagsterInstance.ephemeral() as instance:

        def run(compute: Compute = IN_A_POD, **resources: Any) -> Ended:
            messages: list[dict] = []
            heard: list[dict] = []

            @dg.asset(op_tags={RESOURCES_TAG: Resources(**resources).to_json()})
            def trained(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
                messages.extend(compute.train(context, job_file, lambda message: heard.append(dict(message))))
                return dg.MaterializeResult()

            result = dg.materialize([trained], instance=instance, raise_on_error=False)
            graph = dg.Definitions(assets=[trained]).resolve_asset_graph()
            broken = failed_runs(instance, graph)
            return Ended(result, instance, messages, heard, broken[0].found if broken else "")

        yield run
