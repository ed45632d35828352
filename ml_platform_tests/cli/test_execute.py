"""Runs on a real instance: what is planned, recorded, said, and what is left of a killed process."""

import io
import os
import signal
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import pytest
from dagster import AssetKey, DagsterInstance, DagsterRunStatus
from rich.console import Console

from ml_platform.cli.demo import made_rows
from ml_platform.cli.event_log import BatchingSqliteEventLogStorage
from ml_platform.cli.execute import execute
from ml_platform.cli.failures import RunFailed, StepFailure
from ml_platform.cli.instance import PID_TAG, open_instance, prepare_home, reap
from ml_platform.cli.plan import NothingToRun, PlannedRun
from ml_platform.cli.run import execute_all, plan
from ml_platform.settings import REPOSITORY, Settings
from ml_platform_tests.cli import tiny

LANDED = date(2017, 2, 5)


def test_runs_are_planned_executed_recorded_and_then_up_to_date(instance: DagsterInstance) -> None:
    said = io.StringIO()
    runs = plan(tiny.defs, instance, "*", LANDED)
    ids = execute_all(tiny.defs, instance, runs, Console(file=said, width=120))
    assert len(ids) == 3
    assert len(instance.get_materialized_partitions(AssetKey(["raw", "t"]))) == 37
    assert instance.get_materialized_partitions(AssetKey(["features", "f"])) == {"2017-01-30", "2017-02-06"}
    assert not any(run.due for run in plan(tiny.defs, instance, "*", LANDED))
    lines = said.getvalue()
    assert "raw/t" in lines and "37 rows" in lines
    assert "bounds" in lines and "one value is below 0" in lines


def test_what_was_made_is_read_back_from_the_instance(instance: DagsterInstance) -> None:
    rows = {row["asset"]: row for row in made_rows(tiny.defs, instance)}
    assert list(rows) == ["raw/t", "features/f", "models/m/champion"]
    assert rows["raw/t"]["rows"] == 37
    assert float(rows["raw/t"]["seconds"]) >= 0
    assert (rows["features/f"]["checks passed"], rows["features/f"]["failed"]) == (0, 1)


def test_a_selection_runs_alone_and_its_config_arrives(instance: DagsterInstance) -> None:
    (run,) = plan(tiny.defs, instance, 'key:"models/m/champion"', LANDED, force=True)
    config = {"models__m__champion": {"config": {"action": "promote"}}}
    run_id = execute(tiny.defs, instance, run, Console(quiet=True), config)
    event = instance.get_latest_materialization_event(AssetKey(["models", "m", "champion"]))
    assert event and event.run_id == run_id
    assert event.asset_materialization and event.asset_materialization.metadata["action"].value == "promote"


@pytest.mark.parametrize("selection", ["key:nothing_like_it", "group:"])
def test_a_selection_that_names_nothing_is_refused(instance: DagsterInstance, selection: str) -> None:
    with pytest.raises(NothingToRun):
        plan(tiny.defs, instance, selection, LANDED)


def test_a_failed_step_is_said_as_what_where_and_next(
    instance: DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(tiny.BREAK, "1")
    with pytest.raises(RunFailed) as failed:
        execute_all(tiny.defs, instance, plan(tiny.defs, instance, "*", LANDED, force=True), Console(quiet=True))
    assert failed.value.what == "TinyTrouble: the file is torn"
    assert failed.value.where == "raw__t · raw/t/2017-01-01"
    assert failed.value.next_step == "land it again"
    assert instance.get_runs(limit=1)[0].status == DagsterRunStatus.FAILURE


def test_an_error_of_another_kind_is_all_what() -> None:
    failure = StepFailure.from_text("step", "ValueError", "ValueError: bad [1, 2] value\nof two lines\n")
    assert (failure.what, failure.where, failure.next_step) == ("bad [1, 2] value\nof two lines", "", "")


def test_a_run_whose_process_was_killed_is_failed_and_its_slot_freed(
    settings: Settings, instance: DagsterInstance
) -> None:
    mark = settings.home / "hanging"
    program = (
        "from rich.console import Console\n"
        "from ml_platform.cli.execute import execute\n"
        "from ml_platform.cli.instance import open_instance\n"
        "from ml_platform.cli.plan import PlannedRun\n"
        "from ml_platform.settings import Settings\n"
        "from ml_platform_tests.cli import tiny\n"
        "run = PlannedRun('days', ('raw/t',), '2017-01-01', '2017-01-01', '')\n"
        "execute(tiny.defs, open_instance(Settings.from_env()), run, Console(quiet=True))\n"
    )
    environment = os.environ | {"ML_PLATFORM_HOME": str(settings.home), tiny.HANG: str(mark)}
    with open(os.devnull, "w") as nowhere:
        process = subprocess.Popen(
            [sys.executable, "-c", program], cwd=REPOSITORY, env=environment, stdout=nowhere, stderr=nowhere
        )
    while not mark.exists():
        assert process.poll() is None, "it ended before it hung"
        time.sleep(0.05)
    assert reap(instance) == [], "it is alive"
    process.send_signal(signal.SIGKILL)
    process.wait()

    storage = instance.event_log_storage
    assert storage.get_concurrency_info("warehouse").active_slot_count == 1
    (dead,) = reap(instance)
    run = instance.get_run_by_id(dead)
    assert run and run.tags[PID_TAG] == str(process.pid)
    assert run.status == DagsterRunStatus.FAILURE
    assert storage.get_concurrency_info("warehouse").active_slot_count == 0
    again = PlannedRun("days", ("raw/t",), "2017-01-01", "2017-01-01", "")
    execute(tiny.defs, instance, again, Console(quiet=True))
    assert reap(instance) == []


def test_the_home_links_to_the_repositorys_dagster_yaml(tmp_path: Path) -> None:
    settings = Settings.from_env({"ML_PLATFORM_HOME": str(tmp_path)})
    assert (prepare_home(settings) / "dagster.yaml").resolve() == REPOSITORY / "dagster.yaml"
    (tmp_path / "dagster" / "dagster.yaml").unlink()
    (tmp_path / "dagster" / "dagster.yaml").write_text("stale: true")
    assert (prepare_home(settings) / "dagster.yaml").resolve() == REPOSITORY / "dagster.yaml"


def test_the_warehouse_pool_holds_one_step_at_a_time(settings: Settings, instance: DagsterInstance) -> None:
    assert instance.event_log_storage.get_concurrency_info("warehouse").slot_count == 1
    with open_instance(settings) as again:
        assert again.event_log_storage.get_concurrency_info("warehouse").slot_count == 1


def test_a_batch_of_events_is_stored_in_one_transaction_a_database(
    instance: DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage, stored = instance.event_log_storage, []
    assert isinstance(storage, BatchingSqliteEventLogStorage)
    connect = storage._connect
    monkeypatch.setattr(storage, "_connect", lambda shard: stored.append(shard) or connect(shard))
    days = plan(tiny.defs, instance, "group:default and key:raw/t", LANDED, force=True)
    stored.clear()
    execute_all(tiny.defs, instance, days, Console(quiet=True))
    assert len(stored) < 2 * 37, "37 planned and 37 made partitions would need two connections each"
