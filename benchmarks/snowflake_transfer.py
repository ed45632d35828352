"""What the warehouse's protocol costs on Snowflake, and whether an export's memory grows with the table.

Against the emulator on this machine: engine and client share its cores, and there is no network. So the figures are
ratios of the same work by the same engine; what Snowflake itself takes is measured on an account.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.rows import REPOSITORY, Row, run_tree, seconds_of, this_python
from ml_platform.snowflake_account import SnowflakeAccount
from ml_platform.warehouse.base import Arrival, Column, Session, replace_rows
from ml_platform.warehouse.snowflake import SnowflakeWarehouse

ROWS, COLUMNS = 1_000_000, 20
REPEATS = 3
RATIO_GOAL = 1.3
FLAT = 1.15
"""How much more memory an export of ten times the rows may take: chunks differ in size, a table's growth would show."""
DAY = date(2017, 6, 5)
TYPES = ("bigint", "double", "varchar", "timestamp")


def measure() -> list[Row]:
    """A million rows to Snowflake and back; the peak of an export of one and of ten million rows."""
    with emulated() as account, tempfile.TemporaryDirectory() as folder:
        with SnowflakeWarehouse(account).session("benchmark") as session:
            there, back = _transfers(session, account, Path(folder))
            for name, times in (("one", 1), ("ten", 10)):
                many = f"create table bench.{name} as select t.* from bench.t as t cross join "
                session.execute(f"{many} (select unnest($n) as n) as x", {"n": list(range(times))})
        one, ten = (_exporting_gb(account, name) for name in ("one", "ten"))
    note = "the same statements written by hand with the connector"
    return [
        Row("A million rows × 20 columns, Polars to Snowflake", *_pair(there), goal=RATIO_GOAL, note=note),
        Row("… and back to Polars in declared types", *_pair(back), goal=RATIO_GOAL),
        Row("Memory of an export of 10 M rows", ten, "GB", "of 1 M rows", one, FLAT, "the whole exporting process"),
    ]


def _pair(seconds: tuple[float, float]) -> tuple[float, str, str, float]:
    return seconds[0], "s", "the bare connector", seconds[1]


def _transfers(
    session: Session, account: SnowflakeAccount, folder: Path
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Best seconds (through the protocol, bare) there and back; turns alternate."""
    frame = _frame()
    columns = [Column(name, TYPES[place % 4], name) for place, name in enumerate(frame.columns)]
    declared = ", ".join(f"{column.name} {column.type}" for column in columns)
    session.execute("create schema bench")
    session.execute(f"create table bench.t ({declared}, landed_on date)")
    with SnowflakeWarehouse(account).connect("bare") as bare:
        schema = f'"{account.schema_prefix.upper()}BENCH"'

        def load() -> None:
            arrival = Arrival(frame, {"landed_on": DAY})
            with session.staged("bench.t", [arrival], columns) as staged, session.transaction():
                replace_rows(session, staged, "bench.t", "landed_on", [DAY])

        def load_bare() -> None:
            path = folder / "bare.parquet"
            frame.write_parquet(path)
            cursor = bare.cursor()
            for statement in (
                f"create or replace temporary table {schema}.stage ({declared})",
                f"put 'file://{path}' @{schema}.%STAGE auto_compress = false overwrite = true",
                f"copy into {schema}.stage from @{schema}.%STAGE file_format = (type = parquet) "
                "match_by_column_name = case_insensitive",
                f"create or replace temporary table {schema}.day as select *, '{DAY}'::date as landed_on "
                f"from {schema}.stage",
                "begin transaction",
                f"delete from {schema}.t where landed_on = '{DAY}'",
                f"insert into {schema}.t select * from {schema}.day",
                "commit",
                f"drop table {schema}.stage",
                f"drop table {schema}.day",
            ):
                cursor.execute(statement)

        def read() -> None:
            got = session.read("select * from bench.t", schema=frame.schema)
            assert got.height == ROWS

        def read_bare() -> None:
            cursor = bare.cursor().execute(f"select * from {schema}.t")
            got = pl.from_arrow(cursor.fetch_arrow_all(force_return_table=True))
            assert isinstance(got, pl.DataFrame) and got.height == ROWS

        best = dict.fromkeys((load, load_bare, read, read_bare), float("inf"))
        for _ in range(REPEATS):
            for call in best:
                best[call] = min(best[call], seconds_of(call))
    return (best[load], best[load_bare]), (best[read], best[read_bare])


def _frame() -> pl.DataFrame:
    random = np.random.default_rng(0)
    made = {
        "bigint": lambda: random.integers(0, 2**40, ROWS),
        "double": lambda: random.normal(size=ROWS),
        "varchar": lambda: random.integers(0, 10_000, ROWS).astype(str),
        "timestamp": lambda: random.integers(0, 10**15, ROWS).astype("datetime64[us]"),
    }
    return pl.DataFrame({f"column_{place}": made[TYPES[place % 4]]() for place in range(COLUMNS)})


def _exporting_gb(account: SnowflakeAccount, table: str) -> float:
    """The highest memory of a process that exports a table and does nothing else, in GB."""
    stated = {"host": account.host, "port": account.port, "prefix": account.schema_prefix, "table": table}
    command = [str(this_python()), "-W", "ignore", "-m", "benchmarks.snowflake_transfer", json.dumps(stated)]
    return run_tree(command, os.environ).peak_gb


def _export(host: str, port: int, prefix: str, table: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        with SnowflakeWarehouse(_account(host, port, prefix)).session("export") as session:
            session.export(f"select * from bench.{table}", Path(folder) / "rows.parquet")


@contextmanager
def emulated() -> Iterator[SnowflakeAccount]:
    """The emulator of the tests, and an account on it."""
    command = [sys.executable, "-m", "ml_platform_tests.snowflake.emulator"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY) as process:
        assert process.stdin and process.stdout
        yield _account("127.0.0.1", int(process.stdout.readline()), f"b{datetime.now():%H%M%S}_")
        process.stdin.close()


def _account(host: str, port: int, prefix: str) -> SnowflakeAccount:
    return SnowflakeAccount(
        *("emulator", "tester", "ml_platform", "ml_platform", "ml_platform", prefix, "snowflake"),
        password="not-checked",
        host=host,
        port=port,
        protocol="http",
    )


if __name__ == "__main__":
    _export(**json.loads(sys.argv[1]))
