"""The one place where the graph is put together: assets, sensors, resources, and how steps run."""

import dagster as dg

from assets.features import FEATURE_ASSETS
from assets.freshness import with_default_freshness
from assets.lifecycle import LIFECYCLE_ASSETS
from assets.raw import RAW_ASSETS
from assets.slo import SLO_ASSETS
from assets.sql import SQL_ASSETS
from ml_platform.settings import Settings
from resources import build_resources
from sensors import SENSORS

# Steps fork from a server that has loaded the definitions, and what their bodies import, once: a step costs
# milliseconds, not imports. In a process that is warm already (`mlp live`) they stay in it.
PRELOADED = ["ml_platform.definitions", "dbt.cli.main", "duckdb", "polars", "sqlalchemy", "upath"]
FORKED = {"multiprocess": {"max_concurrent": 2, "start_method": {"forkserver": {"preload_modules": PRELOADED}}}}
IN_PROCESS = {"in_process": {}}


def build_executor(steps: str) -> dg.ExecutorDefinition:
    """How a run's steps run: forked, in its process, or as pods, set up by the run launcher and their own tags."""
    if steps == "kubernetes":
        from dagster_k8s import k8s_job_executor  # costs seconds: only where steps are pods

        # A step's job is deleted with the run's pod, whoever deletes that.
        return k8s_job_executor.configured({"enable_owner_references": True}, name="steps")
    return dg.multi_or_in_process_executor.configured(IN_PROCESS if steps == "in_process" else FORKED, name="steps")


defs = dg.Definitions(
    assets=dg.with_source_code_references(
        with_default_freshness([*RAW_ASSETS, *SQL_ASSETS, *FEATURE_ASSETS, *LIFECYCLE_ASSETS, *SLO_ASSETS])
    ),
    sensors=SENSORS,
    resources=build_resources(),
    executor=build_executor(Settings.from_env().steps),
)
