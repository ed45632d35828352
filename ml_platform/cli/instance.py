"""The Dagster instance `mlp` works on, and the clearing away of runs whose process is gone.

Every run `mlp` executes is tagged with its process (id and start time, since ids are reused). A process that was killed
leaves its run STARTED and its pool slot taken, and whoever waits for the slot waits for ever: so `mlp` looks first.
"""

import os
import sys
from pathlib import Path

import psutil
from dagster import DagsterInstance, DagsterRunStatus, RunsFilter

from ml_platform.cli.event_log import EVENT_BATCH_SIZE
from ml_platform.errors import ConfigurationError
from ml_platform.settings import REPOSITORY, Settings

PID_TAG = "mlp/pid"
STARTED_TAG = "mlp/process_started"
WAREHOUSE_POOL = "warehouse"
UNFINISHED = [
    DagsterRunStatus.NOT_STARTED,
    DagsterRunStatus.STARTING,
    DagsterRunStatus.STARTED,
    DagsterRunStatus.CANCELING,
]


def dagster_environment(settings: Settings) -> dict[str, str]:
    """The variables every Dagster process of this home needs; tools beside this Python (dbt) are found first."""
    tools = str(Path(sys.executable).parent)
    before = [place for place in os.environ.get("PATH", "").split(os.pathsep) if place and place != tools]
    return {
        "DAGSTER_HOME": str(settings.dagster_home),
        "DAGSTER_EVENT_BATCH_SIZE": str(EVENT_BATCH_SIZE),
        "PATH": os.pathsep.join([tools, *before]),
    }


def prepare_home(settings: Settings) -> Path:
    """Makes DAGSTER_HOME, with the repository's dagster.yaml linked into it."""
    home = settings.dagster_home
    link, target = home / "dagster.yaml", REPOSITORY / "dagster.yaml"
    try:
        home.mkdir(parents=True, exist_ok=True)
        if not link.is_symlink() or link.readlink() != target:
            aside = home / f".dagster.yaml.{os.getpid()}"
            aside.symlink_to(target)
            aside.replace(link)
    except OSError as error:
        raise ConfigurationError(
            f"cannot prepare Dagster's home: {error.strerror}",
            where=home,
            next_step="set ML_PLATFORM_HOME to a folder that can be written",
        ) from error
    return home


def open_instance(settings: Settings) -> DagsterInstance:
    """The instance of this home: ready, its pool limited, and free of runs whose process is gone."""
    prepare_home(settings)
    os.environ.update(dagster_environment(settings))
    instance = DagsterInstance.get()
    if WAREHOUSE_POOL not in {limit.name for limit in instance.event_log_storage.get_pool_limits()}:
        instance.event_log_storage.set_concurrency_slots(WAREHOUSE_POOL, 1)
    reap(instance)
    return instance


def process_tags() -> dict[str, str]:
    """Tags that name this process for good."""
    return {PID_TAG: str(os.getpid()), STARTED_TAG: repr(psutil.Process().create_time())}


def reap(instance: DagsterInstance) -> list[str]:
    """Fails the unfinished runs whose process is gone and frees their pool slots. Returns their ids."""
    dead = [run for run in instance.get_runs(RunsFilter(statuses=UNFINISHED)) if PID_TAG in run.tags]
    dead = [run for run in dead if not _alive(int(run.tags[PID_TAG]), run.tags[STARTED_TAG])]
    for run in dead:
        instance.report_run_failed(run, f"its process {run.tags[PID_TAG]} died; found by the next `mlp`")
        instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
    return [run.run_id for run in dead]


def _alive(pid: int, started: str) -> bool:
    try:
        process = psutil.Process(pid)
        return repr(process.create_time()) == started and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
