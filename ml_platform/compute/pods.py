"""The pod of a training: what a model's declared resources become in Kubernetes' own words (camelCase, as the API).

Invariants: the worker's pod is Guaranteed (requests equal limits), runs as a stranger to the system (no root, nothing
writable but /tmp and the lake, no token of the API), sees the lake at the very path the job file names, takes
credentials by reference only, and is over by itself some time after the worker's own deadline, whoever forgot it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from ml_platform.settings import Cluster
from ml_platform.training.compute import worker_command
from ml_platform.training.resources import Resources, Toleration

RESOURCES_TAG = "ml_platform/resources"
"""Tag of a step that trains: what its model declares, as JSON."""
GPU = "nvidia.com/gpu"
GPU_KIND = "nvidia.com/gpu.product"
COMPONENT = "app.kubernetes.io/component"
WORKER = "ml-platform-worker"
USER_ID = 10001
"""Of the image's only user; the lake's volume belongs to this group."""
GRACE_SECONDS = 120
"""Past the worker's own deadline, which fails with a cause, Kubernetes' one kills without."""
RETIRING_SECONDS = 60
"""Between SIGTERM and SIGKILL: time for a last checkpoint."""


StepWork = Literal["waits", "computes", "trains"]


def pod_command(job: Path) -> list[str]:
    """The worker's command line with the Python of its image instead of ours."""
    return ["python", *worker_command(job)[1:]]


def worker_metadata(cluster: Cluster, model: str, run_id: str) -> dict[str, Any]:
    """Labels to find a training's pod by, and the pod it is deleted with."""
    labels = {COMPONENT: WORKER, "ml-platform/model": model, "ml-platform/run-id": run_id}
    if cluster.owner is None:
        return {"labels": labels}
    name, uid = cluster.owner
    return {"labels": labels, "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid}]}


def worker_pod(resources: Resources, cluster: Cluster, lake: Path) -> dict[str, Any]:
    """The pod's spec; the Pipes client adds command, name and its own variables."""
    volumes, mounts = _volumes(resources, cluster, lake)
    amounts = _amounts(resources)
    container = {
        "image": resources.image or cluster.image,
        "resources": {"requests": amounts, "limits": amounts},
        "env": [{"name": "HOME", "value": "/tmp"}],
        "envFrom": [{"secretRef": {"name": name}} for name in cluster.secrets],
        "volumeMounts": mounts,
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    return {
        "containers": [container],
        "volumes": volumes,
        "restartPolicy": "Never",
        "serviceAccountName": cluster.service_account,
        "automountServiceAccountToken": False,
        "activeDeadlineSeconds": resources.deadline_seconds + GRACE_SECONDS,
        "terminationGracePeriodSeconds": RETIRING_SECONDS,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER_ID,
            "runAsGroup": USER_ID,
            "fsGroup": USER_ID,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        **_placement(resources),
    }


def step_pod(resources: Resources, work: StepWork) -> dict[str, Any]:
    """`dagster-k8s/config` of a step of the model's life cycle: small where it only waits for a worker's pod, with the
    worker's processors and memory where it computes, with its GPUs too where the worker is a process of the step."""
    amounts = {"cpu": "250m", "memory": "1Gi"} if work == "waits" else _amounts(resources, gpus=work == "trains")
    placement = _placement(resources) if work == "trains" else {}
    return {
        "container_config": {"resources": {"requests": amounts, "limits": amounts}},
        "merge_behavior": "DEEP",
        **({"pod_spec_config": placement} if placement else {}),
    }


def _amounts(resources: Resources, gpus: bool = True) -> dict[str, str]:
    amounts = {"cpu": str(resources.cpu), "memory": _quantity(resources.memory_gib)}
    return {**amounts, GPU: str(resources.gpus)} if gpus and resources.gpus else amounts


def _quantity(gib: float) -> str:
    return f"{round(gib * 1024)}Mi"


def _volumes(resources: Resources, cluster: Cluster, lake: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    volumes: list[dict[str, Any]] = [
        {"name": "lake", "persistentVolumeClaim": {"claimName": cluster.lake_claim}},
        {"name": "tmp", "emptyDir": {}},
    ]
    mounts = [{"name": "lake", "mountPath": str(lake)}, {"name": "tmp", "mountPath": "/tmp"}]
    if resources.shared_memory_gib:
        size = _quantity(resources.shared_memory_gib)
        volumes.append({"name": "shared-memory", "emptyDir": {"medium": "Memory", "sizeLimit": size}})
        mounts.append({"name": "shared-memory", "mountPath": "/dev/shm"})
    return volumes, mounts


def _placement(resources: Resources) -> dict[str, Any]:
    """Where it may run. Nodes with GPUs are tainted as a rule: who asks for one puts up with that."""
    selector: Mapping[str, str] = {
        **resources.node_selector,
        **({GPU_KIND: resources.gpu_kind} if resources.gpu_kind else {}),
    }
    tolerated = [_toleration(each) for each in resources.tolerations]
    if resources.gpus:
        tolerated.append({"key": GPU, "operator": "Exists", "effect": "NoSchedule"})
    placement = {
        "nodeSelector": selector,
        "tolerations": tolerated,
        "priorityClassName": resources.priority_class,
    }
    return {name: value for name, value in placement.items() if value}


def _toleration(toleration: Toleration) -> dict[str, str]:
    compared = {"operator": "Equal", "value": toleration.value} if toleration.value else {"operator": "Exists"}
    return {"key": toleration.key, **compared, **({"effect": toleration.effect} if toleration.effect else {})}
