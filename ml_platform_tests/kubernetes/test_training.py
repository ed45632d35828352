"""A training's pod from start to end, and every way it can go wrong, with the unmodified dagster-k8s over real HTTP."""

import json
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest

from ml_platform.registry.bundles import open_bundle
from ml_platform.training.job import file_sha256, read_job, write_job
from ml_platform_tests.kubernetes.cluster import Cluster, Fate, killed, unschedulable, waiting
from ml_platform_tests.kubernetes.conftest import IN_A_POD, Ended
from resources.compute import Compute, LocalCompute

Train = Callable[..., Ended]

STARTED = "opened"  # the worker's first message
NO_GPU = (
    "0/3 nodes are available: 1 node(s) had untolerated taint {dedicated: web}, 2 Insufficient nvidia.com/gpu."
    " preemption: 0/3 nodes are available: 3 No preemption victims found for incoming pod."
)
LOW = "The node was low on resource: memory. Threshold quantity: 100Mi, available: 80Mi."
FULL = 'Usage of EmptyDir volume "tmp" exceeds the limit "1Gi".'


def dying(why: str = "Error", **status: object) -> Fate:
    """Killed as soon as it speaks."""
    return Fate(dies_at=STARTED, death=killed(why, **status))


EVICTED = dying(reason="Evicted", message=LOW)
PREEMPTED = dying(
    conditions=[
        {
            "type": "DisruptionTarget",
            "status": "True",
            "reason": "PreemptionByScheduler",
            "message": "Preempted by a pod of higher priority",
        }
    ]
)
VANISHED = Fate(dies_at=STARTED)


def test_a_pod_trains_the_job_and_is_deleted(cluster: Cluster, train: Train, job_file: Path) -> None:
    ended = train()
    assert ended.result.success
    assert ended.messages[-1]["kind"] == "result"
    assert open_bundle(Path(read_job(job_file).output)).digest == ended.messages[-1]["digest"]
    (pod,) = cluster.made("Pod")
    assert cluster.deleted == [pod["metadata"]["name"]] and cluster.pods == {} and cluster.refused == []
    assert pod["metadata"]["labels"]["ml-platform/model"] == "returning_shopper"
    assert "returning_shopper: train 1,500 rows" in ended.log()
    assert ended.heard == ended.messages


def test_a_local_worker_is_heard_while_it_works(train: Train) -> None:
    ended = train(compute=LocalCompute())
    assert ended.result.success and ended.heard == ended.messages
    assert "progress" in {message["kind"] for message in ended.heard}


@pytest.mark.parametrize(
    ("fate", "words"),
    [
        (dying("OOMKilled"), ("PodOutOfMemory: OOMKilled", "more than 4096Mi", "on node-1")),
        (dying(reason="Evicted", message=FULL), ("OverLimit: Evicted", FULL)),
        (dying(reason="DeadlineExceeded", message="Pod was active too long"), ("DeadlinePassed", "active too long")),
        (dying(), ("TrainingFailed: the worker exited with 137",)),
    ],
)
def test_what_a_pod_does_to_itself_is_told_with_its_cause_and_not_tried_again(
    cluster: Cluster, train: Train, fate: Fate, words: tuple[str, ...]
) -> None:
    cluster.fates.append(fate)
    ended = train()
    assert not ended.result.success
    assert [word for word in words if word not in ended.cause] == []
    assert len(cluster.made("Pod")) == 1 and len(cluster.deleted) == 1


def test_one_of_several_processes_that_dies_ends_the_training_with_its_cause_and_leaves_no_bundle(
    cluster: Cluster, train: Train, job_file: Path
) -> None:
    job = read_job(job_file)
    long = replace(job.trainer, rounds=4000, early_stopping_rounds=4000)
    write_job(replace(job, trainer=long, processes=2, threads=1), job_file)

    def kill_the_second() -> None:
        while not any("round 200 of" in line for pod in cluster.pods.values() for line in pod.log):
            time.sleep(0.01)
        (pod,) = cluster.pods.values()
        assert pod.process
        for process in psutil.Process(pod.process.pid).children():
            if process.environ()["RANK"] == "1":
                process.kill()

    threading.Thread(target=kill_the_second, daemon=True).start()
    ended = train()
    assert "TrainingFailed: process 1 of 2 was killed by signal 9" in ended.cause
    assert not Path(job.output).exists() and cluster.pods == {} and len(cluster.made("Pod")) == 1


@pytest.mark.parametrize("fate", [EVICTED, PREEMPTED, VANISHED], ids=["evicted", "preempted", "vanished"])
def test_a_training_whose_node_is_taken_away_starts_again_in_a_new_pod(
    cluster: Cluster, train: Train, fate: Fate, job_file: Path
) -> None:
    cluster.fates.append(fate)
    ended = train()
    assert ended.result.success
    assert ended.messages[-1]["kind"] == "result"
    names = [pod["metadata"]["name"] for pod in cluster.made("Pod")]
    assert len(set(names)) == 2 and cluster.pods == {}
    assert "goes on in a new pod, restart 1 of at most 3" in ended.log()


def test_a_training_evicted_too_often_fails_with_the_cluster_s_own_words(cluster: Cluster, train: Train) -> None:
    cluster.fates.extend([EVICTED, EVICTED])
    ended = train(max_preemption_retries=1)
    assert not ended.result.success
    assert "NodeTakenAway: Evicted" in ended.cause and LOW in ended.cause
    assert len(cluster.made("Pod")) == 2


def test_a_pod_that_finds_no_node_fails_at_its_deadline_and_says_what_is_missing(
    cluster: Cluster, train: Train
) -> None:
    cluster.fates.append(Fate(blocked=unschedulable(NO_GPU)))
    ended = train(gpus=1, scheduling_deadline_seconds=1)
    assert not ended.result.success
    assert "Unschedulable: no node has enough nvidia.com/gpu (0/3 nodes are available" in ended.cause
    assert "preemption:" not in ended.cause
    assert len(cluster.deleted) == 1 and cluster.pods == {}


def test_a_pod_that_finds_a_node_in_time_trains(cluster: Cluster, train: Train) -> None:
    cluster.fates.append(Fate(blocked=unschedulable(NO_GPU), blocked_looks=3))
    ended = train(gpus=1)
    assert ended.result.success
    assert "the training waits: no node has enough nvidia.com/gpu" in ended.log()


def test_an_image_that_cannot_be_pulled_is_waited_for_a_little_then_told(
    cluster: Cluster, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    from resources import pods

    monkeypatch.setattr(pods, "IMAGE_PATIENCE_SECONDS", 0.5)
    cluster.fates.append(Fate(blocked=waiting("ErrImagePull", "connection reset by peer"), blocked_looks=3))
    assert train().result.success
    cluster.fates.append(Fate(blocked=waiting("ImagePullBackOff", 'Back-off pulling image "x"')))
    cause = train().cause
    assert 'ImageUnavailable: ImagePullBackOff: Back-off pulling image "x"' in cause
    assert "registry.example/ml-platform-worker:1" in cause


def test_an_image_whose_name_is_wrong_is_not_waited_for(cluster: Cluster, train: Train) -> None:
    cluster.fates.append(Fate(blocked=waiting("InvalidImageName", "couldn't parse image name")))
    assert "ImageUnavailable: InvalidImageName" in train().cause


def test_a_container_that_cannot_be_made_is_told_at_the_deadline(cluster: Cluster, train: Train) -> None:
    cluster.fates.append(Fate(blocked=waiting("CreateContainerConfigError", 'secret "mlflow" not found')))
    cause = train(scheduling_deadline_seconds=1).cause
    assert 'NotStarted: CreateContainerConfigError: secret "mlflow" not found' in cause


@pytest.mark.parametrize("compute", [IN_A_POD, LocalCompute()], ids=["pod", "local"])
def test_a_failing_worker_s_own_cause_reaches_the_alert(
    cluster: Cluster, train: Train, job_file: Path, training_set: Path, tmp_path: Path, compute: Compute
) -> None:
    rows, data = pq.read_table(training_set), tmp_path / "spoilt.parquet"
    pq.write_table(rows.filter([role != "calibrate" for role in rows["role"].to_pylist()]), data)
    write_job(replace(read_job(job_file), data_path=str(data), data_sha256=file_sha256(data)), job_file)
    ended = train(compute=compute)
    assert "TrainingFailed: no row has the role 'calibrate'" in ended.cause
    assert "exited with" not in ended.cause
    assert len(cluster.made("Pod")) == (compute is IN_A_POD)


def test_a_log_stream_that_ends_early_is_picked_up_without_losing_or_repeating_a_line(
    cluster: Cluster, train: Train
) -> None:
    cluster.fates.append(Fate(cuts=(1, -3, 5, -8)))
    ended = train()
    assert ended.result.success
    kinds = [message["kind"] for message in ended.messages]
    assert kinds.count("result") == 1
    progress = [json.dumps(message) for message in ended.messages]
    assert len(progress) == len(set(progress))
    assert ended.log().count("[pipes] external process successfully opened") == 1
    assert ended.log().count("train 1,500 rows") == 1


def test_a_short_outage_of_the_api_fails_no_training(cluster: Cluster, train: Train) -> None:
    cluster.fates.append(Fate(blocked=unschedulable(NO_GPU), blocked_looks=4))

    def interrupt() -> None:
        while not cluster.made("Pod"):
            time.sleep(0.01)
        cluster.failures = 5

    threading.Thread(target=interrupt, daemon=True).start()
    assert train().result.success
    assert cluster.failures == 0
