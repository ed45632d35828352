"""One planned run, executed in this process: a subset of the graph's own job, recorded in the instance like any other.

In process, because steps then share their imports and a step costs milliseconds; what trains is a process of its own
anyway. The run carries this process's id, so that a run whose process was killed is found (`instance.reap`).
"""

from collections.abc import Mapping
from typing import Any

from dagster import AssetKey, DagsterInstance, Definitions
from dagster._core.storage.tags import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
    PARTITION_NAME_TAG,
)
from dagster._core.utils import make_new_run_id
from rich.console import Console

from ml_platform.cli.failures import RunFailed
from ml_platform.cli.instance import process_tags
from ml_platform.cli.plan import PlannedRun
from ml_platform.cli.progress import RunView

# Dagster's own lines would tear the progress view; all of them are in the event log.
QUIET: Mapping[str, Any] = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def execute(
    defs: Definitions,
    instance: DagsterInstance,
    planned: PlannedRun,
    console: Console,
    config: Mapping[str, Any] | None = None,
) -> str:
    """Executes a due run and returns its id. `config` is run config by op. Raises RunFailed with the first cause."""
    keys = {AssetKey.from_user_string(key) for key in planned.assets}
    job = defs.resolve_implicit_global_asset_job_def().get_subset(asset_selection=keys)
    run_id = make_new_run_id()
    with RunView(console, planned.name, steps=len(job.nodes)) as view:
        instance.add_event_listener(run_id, view.on_event)
        result = job.execute_in_process(
            instance=instance,
            run_id=run_id,
            raise_on_error=False,
            tags=process_tags() | partition_tags(planned),
            run_config={**QUIET, **({"ops": config} if config else {})},
        )
    if not result.success:
        if view.failures:
            raise view.failures[0].error(run_id)
        raise RunFailed("the run failed outside its steps", where=run_id, next_step="see its log in `mlp ui`")
    return run_id


def partition_tags(planned: PlannedRun) -> dict[str, str]:
    """One partition by its name, several as a range."""
    if planned.first is None or planned.last is None:
        return {}
    if planned.first == planned.last:
        return {PARTITION_NAME_TAG: planned.first}
    return {ASSET_PARTITION_RANGE_START_TAG: planned.first, ASSET_PARTITION_RANGE_END_TAG: planned.last}
