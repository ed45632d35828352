"""The embedded warehouse: one DuckDB file, one session at a time.

A DuckDB writer shuts out even read-only openers of its file, so every session holds the lock beside the file; whoever
opens the file without it (dbt in a subprocess) runs under `lock`. Sessions work in UTC and never reach the network.
"""

import contextlib
import errno
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import duckdb
import polars as pl
import pyarrow.parquet as pq

from ml_platform.warehouse import lock
from ml_platform.warehouse.base import (
    CONVERSIONS,
    Arrival,
    Column,
    WarehouseBusy,
    WarehouseError,
    WarehouseFull,
    appearing,
    declared,
    parquet_of,
    quote,
)

EXPORT_BATCH_ROWS = 122_880  # one DuckDB row group
ARRIVING = "temp.arriving"  # the session's own: no other relation can be meant


@dataclass(frozen=True)
class DuckDBWarehouse:
    """`path`: the database file, made when missing. `wait_seconds`: the longest wait for another holder."""

    path: Path
    wait_seconds: float = 60.0
    memory_limit: str = "3GB"
    threads: int = 2

    @contextmanager
    def lock(self, purpose: str) -> Iterator[None]:
        """Keeps every other session out, without opening the file. Raises WarehouseBusy."""
        with lock.hold(self.path.with_name(self.path.name + ".lock"), purpose, self.wait_seconds):
            yield

    @contextmanager
    def session(self, purpose: str) -> "Iterator[DuckDBSession]":
        """Opens the file under the lock, and closes both. Raises WarehouseBusy."""
        with self.lock(purpose):
            connection = self._connect()
            try:
                yield DuckDBSession(connection)
            finally:
                connection.close()

    def _connect(self) -> duckdb.DuckDBPyConnection:
        settings = {
            "threads": self.threads,
            "memory_limit": self.memory_limit,
            "autoinstall_known_extensions": False,
            "python_enable_replacements": False,  # a table name never means a variable of the caller
        }
        deadline = time.monotonic() + self.wait_seconds
        while True:
            try:
                connection = duckdb.connect(self.path, config=settings)
                connection.execute("set TimeZone = 'UTC'")  # refused in the settings: it needs an extension loaded
                return connection
            except duckdb.IOException as error:
                # Someone who does not know our lock, a database browser say, has the file open.
                if "lock" not in str(error).lower():
                    raise _typed(error, str(self.path)) from error
                if time.monotonic() >= deadline:
                    raise WarehouseBusy(
                        str(error), where=self.path, next_step="close the program that has the file open"
                    ) from error
            except duckdb.Error as error:
                raise _typed(error, str(self.path)) from error
            time.sleep(lock.POLL_SECONDS)


class DuckDBSession:
    """A `Session` on an open connection. Every engine error comes out as a WarehouseError."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection

    def execute(self, sql: str, params: Mapping[str, object] | None = None) -> None:
        with _engine_errors(sql):
            self._connection.execute(sql, dict(params or {}))

    def read(
        self,
        sql: str,
        params: Mapping[str, object] | None = None,
        schema: Mapping[str, pl.DataType] | None = None,
    ) -> pl.DataFrame:
        with _engine_errors(sql):
            answer = pl.from_arrow(self._connection.sql(sql, params=dict(params or {})).to_arrow_table())
        assert isinstance(answer, pl.DataFrame)
        return declared(answer, schema)

    def export(self, sql: str, path: Path, params: Mapping[str, object] | None = None) -> int:
        rows = 0
        with appearing(path) as aside, _engine_errors(sql):
            batches = self._connection.sql(sql, params=dict(params or {})).to_arrow_reader(EXPORT_BATCH_ROWS)
            with pq.ParquetWriter(aside, batches.schema, compression="zstd") as writer:
                for batch in batches:
                    writer.write_batch(batch)
                    rows += batch.num_rows
        return rows

    @contextmanager
    def transaction(self) -> Iterator[None]:
        self.execute("begin transaction")
        try:
            yield
            self.execute("commit")
        except BaseException:
            # A failed commit has ended the transaction already; a second word about it would hide the first.
            with contextlib.suppress(duckdb.TransactionException):
                self._connection.rollback()
            raise

    @contextmanager
    def staged(self, relation: str, arrivals: Sequence[Arrival], columns: Sequence[Column]) -> Iterator[str]:
        # A view is enough: rows go straight from their files to where they belong, and are converted on the way.
        with ExitStack() as files:
            selects = [
                _select(files.enter_context(parquet_of(each.rows)), columns, each.constants) for each in arrivals
            ]
            self.execute(f"create or replace temporary view {ARRIVING} as {' union all '.join(selects)}")
            try:
                yield ARRIVING
            finally:
                self.execute(f"drop view {ARRIVING}")

    def relations(self) -> dict[tuple[str, str], dict[str, str]]:
        found: dict[tuple[str, str], dict[str, str]] = {}
        answer = self.read(
            "select table_schema, table_name, column_name, data_type from information_schema.columns "
            "order by ordinal_position"
        )
        for schema, table, column, sql_type in answer.iter_rows():
            found.setdefault((schema, table), {})[column] = sql_type
        return found

    def changed_at(self, relation: str) -> None:
        return None

    def cost(self) -> dict[str, float]:
        return {}


def _select(path: Path, columns: Sequence[Column], constants: Mapping[str, date]) -> str:
    """A view cannot have bound values: its path and its days are literals."""
    values = [
        f"{CONVERSIONS[each.conversion].format(source=quote(each.source))} as {quote(each.name)}" for each in columns
    ]
    values += [f"date '{day.isoformat()}' as {quote(name)}" for name, day in constants.items()]
    literal = str(path).replace("'", "''")
    return f"select {', '.join(values)} from read_parquet('{literal}')"


@contextmanager
def _engine_errors(sql: str) -> Iterator[None]:
    try:
        yield
    except (duckdb.Error, OSError) as error:
        raise _typed(error, " ".join(sql.split())[:200]) from error


def _typed(error: Exception, where: str) -> WarehouseError:
    text = str(error)
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    if full or "No space left" in text or "File too large" in text:
        return WarehouseFull(text, where=where, next_step="free some disk space and run again")
    return WarehouseError(text, where=where, next_step="correct the statement or the table it reads")
