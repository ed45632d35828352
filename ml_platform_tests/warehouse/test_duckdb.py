"""What only the embedded warehouse has: one holder at a time who can be named, a file that can be full."""

import os
import resource
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import duckdb
import polars as pl
import pytest

from ml_platform.killpoints import kill_point
from ml_platform.warehouse.base import WarehouseBusy, WarehouseError, WarehouseFull
from ml_platform.warehouse.duckdb import DuckDBWarehouse
from ml_platform_tests import processes
from ml_platform_tests.processes import SIGKILLED


@pytest.fixture
def warehouse(tmp_path: Path) -> DuckDBWarehouse:
    return DuckDBWarehouse(tmp_path / "home" / "warehouse.duckdb", wait_seconds=0.2)


@contextmanager
def session_of_another(path: Path, purpose: str) -> Iterator[None]:
    with DuckDBWarehouse(path).session(purpose):
        yield


@contextmanager
def opened_without_the_lock(path: Path) -> Iterator[None]:
    with duckdb.connect(path) as connection:
        connection.execute("create table if not exists theirs (a int)")
        yield


def insert_and_die(path: Path, dies_in_transaction: bool) -> None:
    with DuckDBWarehouse(path).session("insert") as session:
        with session.transaction():
            session.execute("insert into t select * from range(1000, 200000)")
            if dies_in_transaction:
                kill_point("test:here")
        kill_point("test:here")


def insert_on_a_full_disk(path: Path, answer: Path) -> None:
    limit = path.stat().st_size + 500_000
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        with DuckDBWarehouse(path).session("insert") as session, session.transaction():
            session.execute("insert into t select hash(range)::hugeint % 9223372036854775807 from range(2000000)")
    except WarehouseFull as error:
        answer.write_text(error.next_step)
    os._exit(0)  # on a disk as full as this, closing properly is another matter


def test_sessions_work_in_utc_whatever_the_machine_says(
    warehouse: DuckDBWarehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    with warehouse.session("test") as session:
        answer = session.read("select (timestamptz '2017-01-01 00:00:00+00')::varchar as t")
    assert answer["t"][0] == "2017-01-01 00:00:00+00"


def test_a_table_name_never_means_a_variable_of_the_caller(warehouse: DuckDBWarehouse) -> None:
    lines = pl.DataFrame({"a": [1]})
    with warehouse.session("test") as session, pytest.raises(WarehouseError, match="lines"):
        session.read("select * from lines")
    assert lines.height == 1


@pytest.mark.parametrize(("dies_in_transaction", "rows"), [(True, 1000), (False, 200_000)])
def test_a_process_killed_in_a_transaction_leaves_the_old_table_and_after_it_the_new(
    warehouse: DuckDBWarehouse, dies_in_transaction: bool, rows: int
) -> None:
    with warehouse.session("test") as session:
        session.execute("create table t as select * from range(1000)")
    assert processes.run(insert_and_die, warehouse.path, dies_in_transaction, kill_at="test:here") == SIGKILLED
    with warehouse.session("test") as session:
        assert session.read("select count(*) as n from t")["n"][0] == rows


def test_a_full_disk_is_a_typed_error_and_the_old_table_stays(warehouse: DuckDBWarehouse, tmp_path: Path) -> None:
    with warehouse.session("test") as session:
        session.execute("create table t as select range::bigint as a from range(1000)")
    processes.run(insert_on_a_full_disk, warehouse.path, tmp_path / "answer")
    assert "free some disk space" in (tmp_path / "answer").read_text()
    with warehouse.session("test") as session:
        assert session.read("select count(*) as n, max(a) as newest from t").row(0) == (1000, 999)


def test_a_second_process_is_told_who_holds_the_warehouse(warehouse: DuckDBWarehouse) -> None:
    with processes.holding(session_of_another, warehouse.path, "nightly load") as other:
        with pytest.raises(WarehouseBusy, match=rf"process {other.pid} \(nightly load, since 20") as caught:
            with warehouse.session("test"):
                pass
    assert "'test' waited 0.2 s" in caught.value.what
    with warehouse.session("test") as session:
        assert session.read("select 1 as one")["one"][0] == 1


def test_a_holder_who_is_killed_leaves_nothing_to_clean_up(warehouse: DuckDBWarehouse) -> None:
    with processes.holding(session_of_another, warehouse.path, "doomed") as other:
        other.kill()
        other.join()
        with warehouse.session("test") as session:
            assert session.read("select 1 as one")["one"][0] == 1


def test_a_program_that_ignores_the_lock_is_named_too(warehouse: DuckDBWarehouse) -> None:
    with warehouse.session("test"):
        pass
    with processes.holding(opened_without_the_lock, warehouse.path) as other:
        with pytest.raises(WarehouseBusy, match=f"PID {other.pid}"):
            with warehouse.session("test"):
                pass


def test_whoever_waits_gets_in_when_the_holder_leaves(warehouse: DuckDBWarehouse) -> None:
    def wait_and_read() -> int:
        with DuckDBWarehouse(warehouse.path, wait_seconds=60).session("patient") as session:
            return session.read("select 1 as one")["one"][0]

    with ThreadPoolExecutor(1) as pool:
        with processes.holding(session_of_another, warehouse.path, "short"):
            waiting = pool.submit(wait_and_read)
            with pytest.raises(WarehouseBusy), warehouse.session("impatient"):
                pass
            assert not waiting.done()
        assert waiting.result() == 1


def test_the_lock_alone_keeps_sessions_out_and_is_free_after_an_exception(warehouse: DuckDBWarehouse) -> None:
    with pytest.raises(RuntimeError), warehouse.lock("dbt"):
        with pytest.raises(WarehouseBusy, match=rf"process {os.getpid()} \(dbt"), warehouse.session("test"):
            pass
        raise RuntimeError
    with warehouse.lock("dbt"):
        assert not warehouse.path.exists()


def test_an_export_that_fails_half_way_leaves_the_old_file(warehouse: DuckDBWarehouse, tmp_path: Path) -> None:
    target = tmp_path / "rows.parquet"
    with warehouse.session("test") as session:
        session.export("select 1 as a", target)
        with pytest.raises(WarehouseError):
            session.export("select case when range < 250000 then 1 else error('late') end from range(300000)", target)
    assert pl.read_parquet(target)["a"].to_list() == [1]
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["rows.parquet"]
