"""What the assets of a model's life cycle share: their names and how they are shown."""

from typing import Any, TypedDict

import dagster as dg

from assets.freshness import BY_STAGE
from ml_platform.compute.pods import RESOURCES_TAG, StepWork, step_pod
from ml_platform.settings import Settings
from ml_platform.training.spec import ModelSpec

CAUSE = "ml_platform/cause"
"""Tag of a run: why the platform asked for it."""
MODEL = "ml_platform/model"
"""Tag of a training's run: of which model."""


def model_key(spec: ModelSpec, stage: str) -> dg.AssetKey:
    """`models/<name>/<stage>`."""
    return dg.AssetKey(["models", spec.name, stage])


def predictions_key(spec: ModelSpec) -> dg.AssetKey:
    """`predictions/<name>`."""
    return dg.AssetKey(["predictions", spec.name])


def monitoring_key(spec: ModelSpec, stage: str) -> dg.AssetKey:
    """`monitoring/<name>/<stage>`."""
    return dg.AssetKey(["monitoring", spec.name, stage])


class Shown(TypedDict):
    """How an asset appears in the UI, in the words of `dg.asset`."""

    owners: list[str]
    group_name: str
    kinds: set[str]
    tags: dict[str, str]
    op_tags: dict[str, Any]
    freshness_policy: dg.FreshnessPolicy | None


def shown(spec: ModelSpec, stage: str, kinds: set[str]) -> Shown:
    """Owner, group, kinds, tags and freshness of an asset of this model, and the pod of its step in Kubernetes."""
    return {
        "owners": [spec.owner],
        "group_name": spec.name,
        "kinds": kinds,
        "tags": {"stage": stage, "model": spec.name},
        "op_tags": _step_tags(spec, stage),
        "freshness_policy": BY_STAGE.get(stage),
    }


def _step_tags(spec: ModelSpec, stage: str) -> dict[str, Any]:
    """The pod of a step. Two stages start workers, in pods of their own where the profile says so: the candidate's does
    nothing but wait, the evaluation's rehearses, and then computes."""
    starts_workers, local = stage in ("candidate", "evaluation"), Settings.from_env().compute == "local"
    work: StepWork = "trains" if starts_workers and local else "waits" if stage == "candidate" else "computes"
    return {
        "dagster-k8s/config": step_pod(spec.resources, work),
        **({RESOURCES_TAG: spec.resources.to_json()} if starts_workers else {}),
    }


def feature_key(table: str) -> dg.AssetKey:
    """`features/<table>`."""
    return dg.AssetKey(["features", table])


def table_of(rows: list[dict[str, Any]]) -> dg.TableMetadataValue | dg.TextMetadataValue:
    """Rows as a metadata table; figures with four significant digits."""
    if not rows:
        return dg.MetadataValue.text("none")
    return dg.MetadataValue.table([dg.TableRecord({name: _cell(value) for name, value in row.items()}) for row in rows])


def _cell(value: object) -> str | int | float | bool:
    if isinstance(value, bool | int | str):
        return value
    return float(f"{value:.4g}") if isinstance(value, float) else str(value)
