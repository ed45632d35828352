"""What a declaration becomes as a pod, what a pod's status says, and what a profile demands: no cluster needed."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

from ml_platform.compute.pods import GPU, pod_command, step_pod, worker_metadata, worker_pod
from ml_platform.compute.reasons import (
    DeadlinePassed,
    NodeTakenAway,
    OverLimit,
    PodOutOfMemory,
    death_of,
    missing_resources,
)
from ml_platform.errors import ConfigurationError
from ml_platform.settings import Cluster, Settings
from ml_platform.training.job import TrainingFailed, read_job, write_job
from ml_platform.training.resources import Resources, Toleration
from ml_platform_tests.kubernetes.cluster import VERSION, killed
from ml_platform_tests.kubernetes.conftest import PLACE
from ml_platform_tests.training.conftest import make_spec

LAKE = Path("/data/lake")
CLUSTER = Cluster.from_env(PLACE)
LARGE = Resources(
    cpu=16,
    memory_gib=120,
    shared_memory_gib=16,
    gpus=2,
    gpu_kind="NVIDIA-H100-80GB-HBM3",
    node_selector={"pool": "training"},
    tolerations=(Toleration("dedicated", "ml", "NoSchedule"), Toleration("spot")),
    priority_class="training",
    deadline_seconds=7200,
    image="registry.example/own:2",
)


def pod_of(resources: Resources, cluster: Cluster = CLUSTER) -> dict[str, Any]:
    metadata = {"name": "pod", **worker_metadata(cluster, "returning_shopper", "run")}
    spec = worker_pod(resources, cluster, LAKE)
    spec["containers"][0]["name"] = "worker"
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
    kubernetes_validate.validate(pod, VERSION, strict=True)
    return pod


def test_every_declared_resource_is_in_the_pod() -> None:
    spec = pod_of(LARGE)["spec"]
    (container,) = spec["containers"]
    asked = {"cpu": "16", "memory": "122880Mi", GPU: "2"}
    assert container["resources"] == {"requests": asked, "limits": asked}
    assert container["image"] == "registry.example/own:2"
    assert spec["nodeSelector"] == {"pool": "training", "nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"}
    assert spec["tolerations"] == [
        {"key": "dedicated", "operator": "Equal", "value": "ml", "effect": "NoSchedule"},
        {"key": "spot", "operator": "Exists"},
        {"key": GPU, "operator": "Exists", "effect": "NoSchedule"},
    ]
    assert spec["priorityClassName"] == "training" and spec["activeDeadlineSeconds"] > 7200
    assert {"name": "shared-memory", "emptyDir": {"medium": "Memory", "sizeLimit": "16384Mi"}} in spec["volumes"]


def test_a_default_pod_asks_for_no_gpu_and_no_special_node() -> None:
    spec = pod_of(Resources())["spec"]
    assert GPU not in spec["containers"][0]["resources"]["limits"]
    assert not {"nodeSelector", "tolerations", "priorityClassName"} & set(spec)
    assert spec["containers"][0]["image"] == PLACE["ML_PLATFORM_K8S_IMAGE"]


def test_the_pod_sees_the_lake_where_the_job_file_says_and_carries_credentials_by_reference_only() -> None:
    spec = pod_of(Resources(), replace(CLUSTER, secrets=("mlflow",)))["spec"]
    (container,) = spec["containers"]
    assert {"name": "lake", "mountPath": "/data/lake"} in container["volumeMounts"]
    assert container["envFrom"] == [{"secretRef": {"name": "mlflow"}}]
    assert container["env"] == [{"name": "HOME", "value": "/tmp"}]
    assert spec["automountServiceAccountToken"] is False and spec["serviceAccountName"] == "ml-platform-worker"


def test_the_pod_goes_when_the_pod_that_made_it_goes() -> None:
    owned = Cluster.from_env({**PLACE, "ML_PLATFORM_POD_NAME": "step", "ML_PLATFORM_POD_UID": "u-1"})
    (owner,) = pod_of(Resources(), owned)["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["uid"]) == ("Pod", "step", "u-1")
    assert "ownerReferences" not in pod_of(Resources())["metadata"]


def test_a_training_s_processes_are_started_by_its_trainer_s_launcher(job_file: Path) -> None:
    job = read_job(job_file)
    worker = ["-m", "ml_platform.training.worker", str(job_file)]
    assert pod_command(job_file) == ["python", *worker]
    write_job(replace(job, processes=4), job_file)
    assert pod_command(job_file) == ["python", "-m", "ml_platform.training.launcher", "4", *worker]
    write_job(replace(job, processes=4, trainer=replace(job.trainer, kind="torch")), job_file)
    assert pod_command(job_file)[1:] == ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=4", *worker]


def test_a_training_is_a_process_a_gpu_or_as_many_workers_as_are_declared() -> None:
    assert [each.processes for each in (Resources(), Resources(gpus=1), Resources(workers=2), LARGE)] == [1, 1, 2, 2]


def test_a_step_that_only_waits_is_small_and_only_one_that_trains_has_the_gpus() -> None:
    waits, computes, trains = (step_pod(LARGE, work) for work in ("waits", "computes", "trains"))
    limits = [each["container_config"]["resources"]["limits"] for each in (waits, computes, trains)]
    assert [each.get(GPU) for each in limits] == [None, None, "2"]
    assert limits[1]["memory"] == limits[2]["memory"] != limits[0]["memory"]
    assert "pod_spec_config" not in waits and "pod_spec_config" not in computes
    assert trains["pod_spec_config"]["priorityClassName"] == "training"


def test_where_a_model_trains_is_not_part_of_what_it_is(tmp_path: Path) -> None:
    spec = make_spec(tmp_path)
    assert replace(spec, resources=replace(LARGE, cpu=spec.resources.cpu)).digest() == spec.digest()
    assert replace(spec, resources=Resources(cpu=4)).digest() != spec.digest()


def test_resources_come_back_from_the_step_s_tag_as_they_were() -> None:
    assert Resources.from_json(LARGE.to_json()) == LARGE


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"cpu": 0}, "Resources.cpu"),
        ({"memory_gib": -1}, "Resources.memory_gib"),
        ({"gpus": -1}, "Resources.gpus"),
        ({"gpu_kind": "H100"}, "no GPU"),
        ({"workers": 0}, "Resources.workers"),
        ({"workers": 2, "gpus": 2}, "one process a GPU"),
        ({"cpu": 2, "workers": 3}, "3 of them share 2 processors"),
        ({"memory_gib": 2, "shared_memory_gib": 3}, "more than all of it"),
        ({"scheduling_deadline_seconds": 0}, "Resources.scheduling_deadline_seconds"),
    ],
)
def test_resources_that_cannot_be_are_refused_where_they_are_declared(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        Resources(**wrong)


@pytest.mark.parametrize("name", ["NAMESPACE", "IMAGE", "LAKE_CLAIM"])
def test_a_profile_that_lacks_a_variable_says_which(name: str) -> None:
    given = {key: value for key, value in PLACE.items() if key != f"ML_PLATFORM_K8S_{name}"}
    with pytest.raises(ConfigurationError, match=f"needs ML_PLATFORM_K8S_{name} "):
        Settings.from_env(given)


def test_each_cell_of_a_profile_can_be_overridden_alone() -> None:
    settings = Settings.from_env({"ML_PLATFORM_PROFILE": "kubernetes", "ML_PLATFORM_COMPUTE": "local"})
    assert (settings.compute, settings.steps, settings.cluster) == ("local", "kubernetes", None)
    settings = Settings.from_env({**PLACE, "ML_PLATFORM_PROFILE": "local", "ML_PLATFORM_COMPUTE": "kubernetes"})
    assert (settings.compute, settings.steps) == ("kubernetes", "forked") and settings.cluster
    with pytest.raises(ConfigurationError, match="unknown compute 'slurm'"):
        Settings.from_env({"ML_PLATFORM_COMPUTE": "slurm"})


def test_the_doctor_says_where_models_are_trained_and_what_is_missing_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ml_platform.cli.doctor import compute

    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    assert compute(Settings.from_env({})).ok
    far = {**PLACE, "KUBECONFIG": str(tmp_path / "nowhere")}
    assert [compute(Settings.from_env(given)).ok for given in (PLACE, far)] == [False, False]
    (tmp_path / "nowhere").touch()
    found = compute(Settings.from_env(far))
    assert found.ok and PLACE["ML_PLATFORM_K8S_IMAGE"] in found.says


def dead(**status: Any) -> dict[str, Any]:
    return {**pod_of(Resources()), "status": status}


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (killed("OOMKilled"), PodOutOfMemory),
        (killed(reason="Evicted", message="The node was low on resource: memory."), NodeTakenAway),
        (killed(reason="Evicted", message="Pod ephemeral local storage usage exceeds the total limit"), OverLimit),
        (killed(reason="NodeShutdown", message="Pod was terminated in response to node shutdown."), NodeTakenAway),
        (killed(reason="Preempting", message="Preempted in order to admit critical pod"), NodeTakenAway),
        (
            killed(conditions=[{"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}]),
            NodeTakenAway,
        ),
        (killed(reason="DeadlineExceeded"), DeadlinePassed),
        (killed(), TrainingFailed),
        ({"phase": "Failed", "reason": "Evicted", "message": "before it ran"}, NodeTakenAway),
    ],
)
def test_a_pod_s_status_is_read_as_its_cause(status: dict[str, Any], kind: type) -> None:
    assert type(death_of(dead(**status), {}, (), ())) is kind


def test_a_worker_that_was_told_to_stop_may_go_on_elsewhere_and_one_that_failed_may_not() -> None:
    pod, stopped = dead(**killed()), dead(**killed(code=143))
    report = {
        "kind": "failure",
        "where": "job",
        "next_step": "",
        "what": "after step 7",
        "error": "TrainingInterrupted",
    }
    assert "after step 7" in str(death_of(stopped, stopped, [report], ()))
    assert type(death_of(stopped, stopped, [report], ())) is NodeTakenAway
    assert type(death_of(pod, pod, [{**report, "error": "TrainingFailed"}], ())) is TrainingFailed
    assert type(death_of(None, pod, (), ())) is NodeTakenAway


def test_the_scheduler_s_words_give_each_missing_resource_once() -> None:
    said = (
        "0/4 nodes are available: 1 Insufficient memory, 2 Insufficient nvidia.com/gpu, 3 Insufficient memory."
        " preemption: 0/4 nodes are available: 1 Insufficient cpu."
    )
    assert missing_resources(said) == ("memory", "nvidia.com/gpu")
