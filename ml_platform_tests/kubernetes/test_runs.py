"""Runs and steps in pods: the launcher's job, in it the step executor's job, in it the worker's pod."""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import polars as pl
import pytest
import yaml
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.definitions.reconstruct import JobPythonOrigin, RepositoryPythonOrigin
from dagster._core.launcher import LaunchRunContext
from dagster._core.origin import DEFAULT_DAGSTER_ENTRY_POINT
from dagster._core.storage.tags import PARTITION_NAME_TAG

from ml_platform.compute.pods import GPU
from ml_platform.lake import PartitionedTable
from ml_platform.registry.ledger import Ledger
from ml_platform.settings import REPOSITORY, Settings
from ml_platform_tests.kubernetes.cluster import Cluster, Fate, unschedulable
from ml_platform_tests.kubernetes.conftest import PLACE
from ml_platform_tests.training.conftest import make_rows
from ml_platform_tests.warm import WORKER, Warm
from sensors.failures import failed_runs

CUTOFF = "2017-09-04"
PATIENCE_SECONDS = 120
RECORDED: set[tuple[str, str, str]] = set()
"""(API group, resource, verb) of every call that the tests of this module made."""


@pytest.fixture(scope="module")
def warm() -> Iterator[tuple[Warm, ...]]:
    """Workers, and Dagster's runs and steps."""
    worker = ("xgboost", "pyarrow.parquet", "dagster_pipes")
    dagster = ("dagster._cli", "dagster_k8s", "mlflow", "polars", "sqlalchemy")
    started = Warm(WORKER, *worker), Warm("dagster", *dagster)
    yield started
    for each in started:
        each.stop()


@pytest.fixture
def launched(
    cluster: Cluster,
    home: Path,
    tmp_path: Path,
    made_database: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[tuple[dg.DagsterInstance, str]]:
    """A run of the candidate as the daemon launches it in the cluster, with the instance of deploy/ on SQLite."""
    sets = PartitionedTable(home / "lake" / "training_sets", "returning_shopper")
    rows = pl.from_arrow(make_rows())
    assert isinstance(rows, pl.DataFrame)
    sets.publish(sets.stage(CUTOFF, rows, {"digest": "digest-of-the-data"}))
    (home / "mlflow").mkdir(parents=True)
    shutil.copyfile(made_database, home / "mlflow" / "mlflow.db")
    dagster_home = tmp_path / "dagster"
    dagster_home.mkdir()
    stated = yaml.safe_load((REPOSITORY / "deploy" / "dagster.yaml").read_text())
    stated["run_launcher"]["config"] |= {
        "dagster_home": str(dagster_home),
        "load_incluster_config": False,
        "kubeconfig_file": os.environ["KUBECONFIG"],
    }
    del stated["storage"]  # PostgreSQL
    (dagster_home / "dagster.yaml").write_text(yaml.safe_dump(stated))
    monkeypatch.setenv("DAGSTER_HOME", str(dagster_home))
    given = {name: os.environ[name] for name in (*PLACE, "ML_PLATFORM_HOME", "KUBECONFIG")}
    cluster.environment |= {**given, "PYTHONPATH": str(REPOSITORY)}
    from ml_platform_tests.kubernetes.graph import SPEC, defs

    key = dg.AssetKey(["models", SPEC.name, "candidate"])
    pointer = ModuleCodePointer("ml_platform_tests.kubernetes.graph", "defs", str(REPOSITORY))
    python = RepositoryPythonOrigin("python", pointer, entry_point=DEFAULT_DAGSTER_ENTRY_POINT)
    with dg.DagsterInstance.get() as instance:
        run = instance.create_run_for_job(
            defs.resolve_implicit_global_asset_job_def(),
            job_code_origin=JobPythonOrigin("__ASSET_JOB", python),
            asset_selection=frozenset({key}),
            tags={PARTITION_NAME_TAG: CUTOFF},
        )
        instance.run_launcher.launch_run(LaunchRunContext(run, workspace=None))
        yield instance, run.run_id
        RECORDED.update(cluster.calls)


def wait_until(true: Callable[[], object], what: str) -> None:
    until = time.monotonic() + PATIENCE_SECONDS
    while not true():
        assert time.monotonic() < until, what
        time.sleep(0.1)


def test_a_launched_run_trains_in_a_gpu_pod_of_a_step_in_a_pod_and_its_model_is_promoted(
    cluster: Cluster, launched: tuple[dg.DagsterInstance, str]
) -> None:
    from ml_platform_tests.kubernetes.graph import SPEC, defs

    instance, run_id = launched

    def over() -> bool:
        run = instance.get_run_by_id(run_id)
        return run is not None and run.is_finished

    wait_until(over, "the run never ends")
    run = instance.get_run_by_id(run_id)
    assert run and run.is_success, [each.found for each in failed_runs(instance, defs.resolve_asset_graph())]
    healthy = lambda: instance.run_launcher.check_run_worker_health(run).status.value == "SUCCESS"  # noqa: E731
    wait_until(healthy, "the run's job never succeeds")
    assert "Pod status: Succeeded" in (instance.run_launcher.get_run_worker_debug_info(run) or "")
    (version,) = Ledger(Settings.from_env().ledger_url).versions("returning_shopper")
    assert version.run_id == run_id
    launcher, step = cluster.made("Job")
    (worker,) = cluster.made("Pod")
    assert cluster.refused == []
    assert launcher["metadata"]["labels"]["app.kubernetes.io/component"] == "run_worker"
    small = step["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]
    assert small == {"cpu": "250m", "memory": "1Gi"}
    assert worker["spec"]["containers"][0]["resources"]["limits"] == {"cpu": "2", "memory": "4096Mi", GPU: "1"}
    assert [each["kind"] for each in step["metadata"]["ownerReferences"]] == ["Pod"]

    judge_and_promote = [dg.AssetKey(["models", SPEC.name, name]) for name in ("evaluation", "champion")]
    judged = defs.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=instance, asset_selection=judge_and_promote, partition_key=CUTOFF, raise_on_error=False
    )
    assert judged.success, [each.found for each in failed_runs(instance, defs.resolve_asset_graph())]
    assert {each.check_name for each in judged.get_asset_check_evaluations() if not each.passed} == set()
    _, rehearsal = cluster.made("Pod")
    assert rehearsal["spec"]["containers"][0]["resources"] == worker["spec"]["containers"][0]["resources"]
    champion = Ledger(Settings.from_env().ledger_url).champion(SPEC.name)
    assert champion is not None and champion.bundle_digest == version.bundle_digest


def test_a_cancelled_run_deletes_the_pods_of_its_run_its_step_and_its_worker(
    cluster: Cluster, launched: tuple[dg.DagsterInstance, str]
) -> None:
    cluster.fates.append(Fate(blocked=unschedulable("0/1 nodes are available: 1 Insufficient cpu.")))
    instance, run_id = launched
    wait_until(lambda: cluster.made("Pod"), "no worker's pod was made")
    assert instance.run_launcher.terminate(run_id)
    wait_until(lambda: not cluster.pods and not cluster.jobs, "something is left in the cluster")
    (worker,) = cluster.made("Pod")
    assert worker["metadata"]["name"] in cluster.deleted


def test_the_role_allows_what_was_called_and_nothing_more() -> None:
    if not RECORDED:
        pytest.skip("the runs of this module make the calls")
    documents = yaml.safe_load_all((REPOSITORY / "deploy" / "manifests" / "access.yaml").read_text())
    (role,) = (each for each in documents if each["kind"] == "Role")
    allowed = {
        (group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert allowed == RECORDED
