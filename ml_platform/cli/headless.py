"""The daemon without its waiting: Dagster's own sensor evaluation and run launching, in this process, till all is done.

Every decision is the sensors', every run goes through the instance as always; what is left out are the pauses between
ticks and a process a run. One home has one such daemon (a file lock), so a run that is unfinished when it starts is one
whose process was killed: it is failed, and its pool slots are freed. What a sensor of ours wanted it asks for again; a
run of the declarative one, which takes what it once asked for as done, is retried as the daemon's run retries would.
"""

import fcntl
import logging
import os
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml
from dagster import DagsterInstance, RunsFilter
from dagster._core.execution.backfill import BulkActionsFilter, BulkActionStatus
from dagster._core.storage.tags import BACKFILL_ID_TAG
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import ModuleTarget
from dagster._daemon.auto_run_reexecution.auto_run_reexecution import retry_run
from dagster._daemon.backfill import execute_backfill_iteration
from dagster._daemon.sensor import execute_sensor_iteration
from dagster_shared.error import SerializableErrorInfo

from ml_platform.cli.instance import UNFINISHED, WAREHOUSE_POOL, dagster_environment, prepare_home
from ml_platform.errors import PlatformError
from ml_platform.settings import REPOSITORY, Settings

HEADLESS = "headless.yaml"
TICK_SECONDS = -1
"""No pause between a sensor's ticks: Dagster takes 0 for its default of 30 s."""
MOST_ROUNDS = 40
NOT_HERE = ("concurrency", "run_monitoring", "run_retries", "sensors")
"""What the instance's settings say of many runs at a time, in processes of their own."""
IN_THIS_PROCESS = {
    "run_coordinator": {"module": "dagster._core.run_coordinator", "class": "DefaultRunCoordinator"},
    "run_launcher": {
        "module": "dagster._core.launcher.sync_in_memory_run_launcher",
        "class": "SyncInMemoryRunLauncher",
    },
    "python_logs": {"python_log_level": "ERROR"},
}


class AlreadyLive(PlatformError):
    """Another process replays into this home."""


class NeverSettles(PlatformError):
    """Sensors go on asking for runs: two of them answer each other, or a run changes what it was asked for."""


class SensorsFailed(PlatformError):
    """A sensor raised; what it said is in the message."""


class HeadlessDaemon:
    """Evaluates the sensors of the workspace and executes what they ask for."""

    def __init__(self, instance: DagsterInstance, workspace: WorkspaceProcessContext) -> None:
        self.instance = instance
        self._workspace = workspace
        self._log = logging.getLogger("ml_platform.headless")
        self._log.setLevel(logging.ERROR)

    def settle(self) -> int:
        """Ticks until a round of ticks asks for nothing. Returns how many runs there were.

        Raises SensorsFailed, and NeverSettles after MOST_ROUNDS rounds.
        """
        before = known = self.instance.get_runs_count()
        for _ in range(MOST_ROUNDS):
            ticks = execute_sensor_iteration(self._workspace, self._log, None, None, debug_crash_flags=_crash_flags())
            self._demand_sound(ticks)
            filling = self._fill()
            now = self.instance.get_runs_count()
            if now == known and not filling:
                return now - before
            known = now
        raise NeverSettles(
            f"{known - before} runs in {MOST_ROUNDS} rounds, and still more are asked for",
            next_step="look at the newest runs' tag ml_platform/cause in `mlp ui`",
        )

    def _fill(self) -> bool:
        """Goes on with backfills: what a sensor asks for of many partitions at once. Returns whether there was one."""
        if not self.instance.get_backfills(BulkActionsFilter(statuses=[BulkActionStatus.REQUESTED])):
            return False
        self._demand_sound(execute_backfill_iteration(self._workspace, self._log))
        return True

    @staticmethod
    def _demand_sound(errors: Iterable[SerializableErrorInfo | None]) -> None:
        failures = [error for error in errors if error]
        if failures:
            raise SensorsFailed(str(failures[0])[-2000:], next_step="mend the sensor; nothing is lost meanwhile")


def _crash_flags() -> dict[str, dict[str, int]] | None:
    """Dagster's own points at which a daemon can be killed, as `ML_PLATFORM_KILL_AT=sensor.<name>.<point>` (see
    `ml_platform.killpoints`)."""
    kind, _, place = os.environ.get("ML_PLATFORM_KILL_AT", "").partition(".")
    sensor, _, point = place.partition(".")
    return {sensor: {point: signal.SIGKILL}} if kind == "sensor" else None


@contextmanager
def headless_daemon(settings: Settings) -> Iterator[HeadlessDaemon]:
    """The daemon of a home, for as long as the block lasts. Raises AlreadyLive."""
    home = prepare_home(settings)
    os.environ.update(dagster_environment(settings))
    os.environ.update(ML_PLATFORM_STEPS="in_process", ML_PLATFORM_TICK_SECONDS=str(TICK_SECONDS))
    from sensors.common import REACTION, WEEKLY  # reads how often sensors tick

    with _alone(home), DagsterInstance.from_config(str(home), _config(home).name) as instance:
        instance.event_log_storage.set_concurrency_slots(WAREHOUSE_POOL, 1)
        killed = instance.get_run_ids(RunsFilter(statuses=UNFINISHED))
        for run in instance.get_runs(RunsFilter(run_ids=killed)) if killed else []:
            instance.report_run_failed(run, "its process died; found when the replay went on")
            instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
        name = "ml_platform.definitions"
        target = ModuleTarget(module_name=name, attribute=None, working_directory=str(REPOSITORY), location_name=name)
        with WorkspaceProcessContext(instance, target) as workspace:
            for run in instance.get_runs(RunsFilter(run_ids=killed)) if killed else []:
                if run.tags.get(REACTION) == WEEKLY and BACKFILL_ID_TAG not in run.tags:
                    retry_run(run, workspace)
            yield HeadlessDaemon(instance, workspace)


def _config(home: Path) -> Path:
    """The repository's dagster.yaml, with runs that stay in this process."""
    stated = yaml.safe_load((REPOSITORY / "dagster.yaml").read_text())
    kept = {name: value for name, value in stated.items() if name not in NOT_HERE}
    path = home / HEADLESS
    path.write_text(yaml.safe_dump(kept | IN_THIS_PROCESS))
    return path


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    with (home / "headless.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyLive(
                "another process replays into this home",
                where=home.parent,
                next_step="wait for it, or use another home (ML_PLATFORM_HOME)",
            ) from None
        yield
