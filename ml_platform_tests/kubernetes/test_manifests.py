"""What is in deploy/ is what Kubernetes accepts, and says the same thing in each of its files."""

import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from packaging.requirements import Requirement

from ml_platform.compute.pods import COMPONENT, USER_ID, WORKER
from ml_platform.settings import REPOSITORY, Settings
from ml_platform_tests.kubernetes.cluster import VERSION

DEPLOY = REPOSITORY / "deploy"
MANIFESTS = [
    (path.name, manifest)
    for path in sorted((DEPLOY / "manifests").glob("*.yaml"))
    for manifest in yaml.safe_load_all(path.read_text())
]
VALUES = yaml.safe_load((DEPLOY / "values.yaml").read_text())
INSTANCE = yaml.safe_load((DEPLOY / "dagster.yaml").read_text())
STAGES = re.split(r"^FROM ", (DEPLOY / "Dockerfile").read_text(), flags=re.M)


def named(kind: str, name: str) -> dict[str, Any]:
    (found,) = (each for _, each in MANIFESTS if (each["kind"], each["metadata"]["name"]) == (kind, name))
    return found


@pytest.mark.parametrize(
    "manifest", [each for _, each in MANIFESTS], ids=[f"{file} {each['kind']}" for file, each in MANIFESTS]
)
def test_every_manifest_is_valid(manifest: dict[str, Any]) -> None:
    kubernetes_validate.validate(manifest, VERSION, strict=True)


@pytest.mark.parametrize("who", ["dagsterWebserver", "dagsterDaemon", "dagster-user-deployments", "runLauncher"])
def test_the_values_make_valid_pods_that_are_strangers_to_their_node(who: str) -> None:
    container: dict[str, Any]
    if who == "runLauncher":
        config = VALUES[who]["config"]["k8sRunLauncher"]["runK8sConfig"]
        container, spec = config["containerConfig"], config["podSpecConfig"]
    else:
        given = VALUES[who] if who.startswith("dagster") and "image" in VALUES[who] else VALUES[who]["deployments"][0]
        container = {name: given[name] for name in ("volumeMounts", "securityContext", "resources")}
        spec = {"volumes": given["volumes"], "securityContext": given["podSecurityContext"]}
    pod = {**spec, "containers": [{"name": "dagster", "image": "image", **container}]}
    kubernetes_validate.validate(
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "rendered"}, "spec": pod}, VERSION, strict=True
    )
    assert pod["securityContext"]["runAsUser"] == USER_ID and pod["securityContext"]["runAsNonRoot"]
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in spec["volumes"]}


def test_the_instance_without_helm_launches_runs_as_the_values_do() -> None:
    from dagster_k8s.models import k8s_snake_case_dict
    from kubernetes.client import V1Container, V1PodSpec

    values, config = VALUES["runLauncher"]["config"]["k8sRunLauncher"], INSTANCE["run_launcher"]["config"]
    image = values["image"]
    assert config["job_image"] == f"{image['repository']}:{image['tag']}"
    assert config["job_namespace"] == values["jobNamespace"]
    assert config["service_account_name"] == VALUES["serviceAccount"]["name"]
    assert config["env_config_maps"] == [each["name"] for each in values["envConfigMaps"]]
    theirs, ours = values["runK8sConfig"], config["run_k8s_config"]
    for key, camel, model in (
        ("container_config", "containerConfig", V1Container), ("pod_spec_config", "podSpecConfig", V1PodSpec)
    ):  # fmt: skip
        assert k8s_snake_case_dict(model, ours[key]) == k8s_snake_case_dict(model, theirs[camel])


def test_the_settings_name_claims_accounts_and_images_that_are_there(tmp_path: Path) -> None:
    settings = Settings.from_env(named("ConfigMap", "ml-platform")["data"])
    cluster = settings.cluster
    assert cluster is not None and (settings.compute, settings.steps) == ("kubernetes", "kubernetes")
    assert named("PersistentVolumeClaim", cluster.lake_claim)["metadata"]["namespace"] == cluster.namespace
    assert named("ServiceAccount", cluster.service_account)["automountServiceAccountToken"] is False
    mounts = VALUES["runLauncher"]["config"]["k8sRunLauncher"]["runK8sConfig"]["containerConfig"]["volumeMounts"]
    assert {each["name"]: each["mountPath"] for each in mounts}["lake"] == str(settings.lake)


def test_the_worker_may_call_nobody() -> None:
    policy = named("NetworkPolicy", "ml-platform-worker")["spec"]
    assert policy["podSelector"] == {"matchLabels": {COMPONENT: WORKER}}
    assert policy["policyTypes"] == ["Ingress", "Egress"] and "egress" not in policy and "ingress" not in policy
    bound = {subject["name"] for _, each in MANIFESTS if each["kind"] == "RoleBinding" for subject in each["subjects"]}
    assert bound == {"ml-platform"}


@pytest.mark.parametrize("target", ["platform", "worker"])
def test_an_image_s_last_stage_has_locked_packages_no_compiler_and_a_user_without_rights(target: str) -> None:
    (stage,) = (each for each in STAGES if each.splitlines()[0].endswith(f" AS {target}"))
    assert stage.startswith("${PYTHON} ") and "slim" in STAGES[0]
    assert f"USER {USER_ID}:{USER_ID}" in stage
    assert not re.search(r"apt-get|gcc|build-essential|pip install", stage)


def test_the_worker_s_image_takes_the_core_alone() -> None:
    (stage,) = (each for each in STAGES if each.splitlines()[0].endswith(" AS worker"))
    copied = re.findall(r"^COPY (?!--from)(\S+)", stage, flags=re.M)
    assert copied == ["ml_platform"]


def test_what_a_cluster_adds_is_pinned_and_the_worker_s_packages_are_those_of_the_lock() -> None:
    locked, worker, cluster = (
        _pins(REPOSITORY / "requirements.lock"),
        _pins(DEPLOY / "worker.lock"),
        _pins(DEPLOY / "cluster.lock"),
    )
    assert {"numpy", "pyarrow", "dagster-pipes", "xgboost", "torch", "safetensors"} <= set(worker)
    differing = {name for name in worker.keys() & locked.keys() if worker[name] != locked[name]}
    assert differing == set()
    assert set(worker) & {"dagster", "polars", "mlflow", "duckdb", "pandas", "scikit-learn"} == set()
    assert "dagster-postgres" in cluster and not cluster.keys() & locked.keys()


def _pins(path: Path) -> dict[str, str]:
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith(("#", "-"))]
    found = [Requirement(line) for line in lines]
    assert all(str(each.specifier).startswith("==") for each in found)
    return {each.name: str(each.specifier) for each in found}
