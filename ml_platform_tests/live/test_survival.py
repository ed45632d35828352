"""A daemon that is killed at any point does what it would have done, once."""

import signal
from pathlib import Path

import pytest
from dagster import DagsterInstance, DagsterRunStatus

from ml_platform.cli.headless import HEADLESS
from ml_platform.lake import PartitionedTable
from ml_platform.settings import Settings
from ml_platform.warehouse.duckdb import DuckDBWarehouse
from ml_platform_tests.live.conftest import live

FEW = 20
LAST = "2017-01-01"
POINTS = ("sensor.landing.RUN_CREATED", "load:before-commit")


@pytest.mark.parametrize("point", POINTS)
def test_killed_anywhere_every_day_is_loaded_once_and_by_one_run_that_ended_well(
    tmp_path: Path, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = live(tmp_path, "--until", LAST, households=FEW, ML_PLATFORM_KILL_AT=point)
    assert killed.returncode == -signal.SIGKILL
    done = live(tmp_path, "--until", LAST, households=FEW)
    assert done.returncode == 0, done.stdout + done.stderr
    settings = Settings.from_env({"ML_PLATFORM_HOME": str(tmp_path)})
    monkeypatch.setenv("DAGSTER_HOME", str(settings.dagster_home))
    with DagsterInstance.from_config(str(settings.dagster_home), HEADLESS) as instance:
        runs = [run for run in instance.get_runs() if run.tags["ml_platform/reaction"].startswith("land ")]
    ended_well = [run.tags["ml_platform/reaction"] for run in runs if run.status == DagsterRunStatus.SUCCESS]
    assert len(ended_well) == len(set(ended_well)) == 1
    assert {run.status for run in runs} <= {DagsterRunStatus.SUCCESS, DagsterRunStatus.FAILURE}
    with DuckDBWarehouse(settings.warehouse_file).session("test") as session:
        loads = session.read("select table_name, landed_on from raw.loads where table_name = 'transactions'")
    assert loads.height == loads.unique().height == 2


def test_killed_in_the_middle_of_a_mondays_features_they_are_published_by_a_retry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The declarative sensor takes what it asked for as done; the run that was killed has to be made again."""
    whole = ("--from", "2017-01-29", "--until", "2017-01-29")
    killed = live(tmp_path, *whole, households=FEW, ML_PLATFORM_KILL_AT="lake.published")
    assert killed.returncode == -signal.SIGKILL
    done = live(tmp_path, *whole, households=FEW)
    assert done.returncode == 0, done.stdout + done.stderr
    settings = Settings.from_env({"ML_PLATFORM_HOME": str(tmp_path)})
    assert PartitionedTable(settings.lake / "features", "household").partitions() == ["2017-01-30"]
    monkeypatch.setenv("DAGSTER_HOME", str(settings.dagster_home))
    with DagsterInstance.from_config(str(settings.dagster_home), HEADLESS) as instance:
        weekly = [run for run in instance.get_runs() if run.tags.get("ml_platform/reaction") == "weekly"]
    retried = [run for run in weekly if run.parent_run_id]
    assert [run.status for run in retried] == [DagsterRunStatus.SUCCESS]
    assert [run.run_id for run in weekly if run.status == DagsterRunStatus.FAILURE] == [retried[0].parent_run_id]
