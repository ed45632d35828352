"""The production warehouse: Snowflake, by its own connector, Arrow in and out.

A session is one connection, tagged with what it is for; its SQL goes through `snowflake_sql`, its answers through
`snowflake_arrow`, its errors through `snowflake_errors`. What fails for a while is tried again with growing, random
pauses, but only where a repeat is safe: connecting, reading, exporting and staging. What has begun to write is never
repeated here: it fails whole, and whoever asked for it asks again. Sessions work in UTC.
"""

import json
import random
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import polars as pl
import pyarrow.parquet as pq
import snowflake.connector
from snowflake.connector.cursor import SnowflakeCursor

from ml_platform.memory import give_back
from ml_platform.snowflake_account import SnowflakeAccount
from ml_platform.warehouse import snowflake_arrow, snowflake_stage
from ml_platform.warehouse.base import Arrival, Column, WarehouseError, WarehouseUnavailable, appearing, declared, quote
from ml_platform.warehouse.snowflake_errors import engine_errors, key_errors
from ml_platform.warehouse.snowflake_sql import name, short, translate

if TYPE_CHECKING:
    from snowflake.connector import SnowflakeConnection

T = TypeVar("T")
FIRST_PAUSE_SECONDS = 1.0
COST = """
select count(*) as queries, sum(bytes_scanned) as bytes_scanned, sum(execution_time) / 1000 as execution_seconds,
    sum(credits_used_cloud_services) as cloud_services_credits
from table(information_schema.query_history_by_user(result_limit => 10000)) where query_tag = ?
"""


@dataclass(frozen=True)
class SnowflakeWarehouse:
    """`tags`: what else the history of queries is to say of every session (asset, run).

    `statement_seconds`: the longest a statement may run; `wait_seconds`: the longest wait for another transaction;
    `patience_seconds`: how long the connector tries a request again by itself; `attempts`: on how many connections.
    """

    account: SnowflakeAccount
    tags: Mapping[str, str] = field(default_factory=dict)
    statement_seconds: int = 3600
    wait_seconds: int = 60
    patience_seconds: int = 60
    attempts: int = 4
    pause: Callable[[float], None] = time.sleep

    def lock(self, purpose: str) -> nullcontext[None]:
        """Snowflake has room for many at once: nobody is kept out."""
        return nullcontext()

    @contextmanager
    def session(self, purpose: str) -> "Iterator[SnowflakeSession]":
        """Connects, and closes at the end. Raises WarehouseDenied, WarehouseUnavailable."""
        session = SnowflakeSession(self, json.dumps({**self.tags, "purpose": purpose}))
        try:
            yield session
        finally:
            session.close()

    def connect(self, tag: str) -> "SnowflakeConnection":
        """A connection of the connector's own. Raises WarehouseDenied, WarehouseUnavailable."""
        parameters = {
            "QUERY_TAG": tag,
            "TIMEZONE": "UTC",
            "STATEMENT_TIMEOUT_IN_SECONDS": self.statement_seconds,
            "LOCK_TIMEOUT": self.wait_seconds,
            "ABORT_DETACHED_QUERY": True,
        }
        with (
            engine_errors(f"connect to {self.account.account} as {self.account.user}", self.account.secrets),
            key_errors(self.account),
        ):
            return snowflake.connector.connect(
                **self.account.connection(),
                application="ml_platform",
                paramstyle="qmark",
                arrow_number_to_decimal=True,
                login_timeout=self.patience_seconds,
                network_timeout=self.patience_seconds,
                session_parameters=parameters,
            )


class SnowflakeSession:
    """A `Session` on one connection. Every engine error comes out as a WarehouseError without secrets."""

    def __init__(self, warehouse: SnowflakeWarehouse, tag: str) -> None:
        self._warehouse = warehouse
        self._prefix = warehouse.account.schema_prefix
        self._tag = tag
        self._bound = 0  # transactions and stages that are open: they live in this very connection
        self._connection = self._patiently(lambda: warehouse.connect(tag))

    def close(self) -> None:
        with suppress(snowflake.connector.errors.Error, OSError):
            self._connection.close()

    def execute(self, sql: str, params: Mapping[str, object] | None = None) -> None:
        self._run(*translate(sql, params or {}, self._prefix), where=short(sql)).close()

    def read(
        self,
        sql: str,
        params: Mapping[str, object] | None = None,
        schema: Mapping[str, pl.DataType] | None = None,
    ) -> pl.DataFrame:
        text, bound = translate(sql, params or {}, self._prefix)
        decimals = [column for column, dtype in (schema or {}).items() if isinstance(dtype, pl.Decimal)]
        return declared(self._repeated(lambda: self._read(text, bound, short(sql), decimals)), schema)

    def _read(self, text: str, bound: Sequence[object], where: str, decimals: Sequence[str] = ()) -> pl.DataFrame:
        with self._run(text, bound, where) as cursor, engine_errors(where, self._warehouse.account.secrets):
            table = cursor.fetch_arrow_all(force_return_table=True, force_microsecond_precision=True)
            description = cursor.description
        schema = snowflake_arrow.schema_of(description, decimals)
        return snowflake_arrow.frame_of(snowflake_arrow.conformed(table, schema), description)

    def export(self, sql: str, path: Path, params: Mapping[str, object] | None = None) -> int:
        text, bound = translate(sql, params or {}, self._prefix)
        with appearing(path) as aside:
            return self._repeated(lambda: self._export(text, bound, short(sql), aside))

    def _export(self, text: str, bound: Sequence[object], where: str, path: Path) -> int:
        rows = 0
        with self._run(text, bound, where) as cursor:
            schema = snowflake_arrow.schema_of(cursor.description)
            with pq.ParquetWriter(path, schema, compression="zstd") as writer:
                with engine_errors(where, self._warehouse.account.secrets):
                    for chunk in cursor.fetch_arrow_batches(force_microsecond_precision=True):
                        writer.write_table(snowflake_arrow.conformed(chunk, schema))
                        rows += chunk.num_rows
                        give_back()  # the threads that fetch ahead each keep what they have freed
        return rows

    @contextmanager
    def transaction(self) -> Iterator[None]:
        self._run("begin transaction").close()
        self._bound += 1
        try:
            yield
            self._run("commit").close()
        except BaseException:
            # Where the connection is gone so is the transaction; a second word about it would hide the first.
            with suppress(WarehouseError):
                self._run("rollback").close()
            raise
        finally:
            self._bound -= 1

    @contextmanager
    def staged(self, relation: str, arrivals: Sequence[Arrival], columns: Sequence[Column]) -> Iterator[str]:
        schema = relation.partition(".")[0]
        arriving = f"{schema}.arriving_{uuid.uuid4().hex}"
        places = snowflake_stage.Places(name(arriving, self._prefix), name(f"{arriving}_landed", self._prefix))
        try:
            self._repeated(lambda: snowflake_stage.fill(self._run, places, arrivals, columns))
            self._bound += 1
            try:
                yield arriving
            finally:
                self._bound -= 1
        finally:
            # Temporary, so gone with the connection at the latest; another's error is not hidden by this one's.
            for place in (places.landed, places.converted):
                with suppress(WarehouseError):
                    self._run(f"drop table if exists {place}").close()

    def relations(self) -> dict[tuple[str, str], dict[str, str]]:
        found: dict[tuple[str, str], dict[str, str]] = {}
        answer = self.read(
            "select table_schema, table_name, column_name, data_type from information_schema.columns "
            "where startswith(table_schema, $prefix) order by ordinal_position",
            {"prefix": self._prefix.upper()},
        )
        for schema, table, column, sql_type in answer.iter_rows():
            place = (schema[len(self._prefix) :].lower(), table.lower())
            found.setdefault(place, {})[column.lower()] = sql_type
        return found

    def changed_at(self, relation: str) -> datetime | None:
        database, schema, table = relation.split(".")
        answer = self.read(
            "select max(convert_timezone('UTC', last_altered)::timestamp_ntz) as changed_at"
            f" from {quote(database)}.information_schema.tables"
            " where table_schema = upper($schema) and table_name = upper($table)",
            {"schema": schema, "table": table},
        )
        changed_at = answer["changed_at"][0]
        return changed_at and changed_at.replace(tzinfo=UTC)

    def cost(self) -> dict[str, float]:
        """By the session's query tag. Snowflake attributes compute to a query only hours later: docs/snowflake.md."""
        try:
            figures = self._read(COST, [self._tag], "cost").row(0, named=True)
        except WarehouseError:
            return {}  # a role that may not see the history, an engine that keeps none: never worth a failed run
        return {f"snowflake/{figure}": float(value) for figure, value in figures.items() if value is not None}

    def _run(self, text: str, bound: Sequence[object] = (), where: str = "") -> SnowflakeCursor:
        with engine_errors(where or short(text), self._warehouse.account.secrets):
            cursor = self._connection.cursor()
            cursor.execute(text, tuple(bound) or None)
            return cursor

    def _repeated(self, action: Callable[[], T]) -> T:
        """The action's result, tried again on a new connection, unless what it reads lives in this one."""
        if self._bound:
            return action()

        def anew() -> T:
            if self._connection.is_closed():
                self._connection = self._warehouse.connect(self._tag)
            try:
                return action()
            except WarehouseUnavailable:
                self.close()
                raise

        return self._patiently(anew)

    def _patiently(self, action: Callable[[], T]) -> T:
        for attempt in range(1, self._warehouse.attempts):
            try:
                return action()
            except WarehouseUnavailable:
                # Random, so that those who were cut off together do not come back together.
                self._warehouse.pause(random.uniform(0, FIRST_PAUSE_SECONDS * 2**attempt))
        return action()
