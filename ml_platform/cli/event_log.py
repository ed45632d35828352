"""Dagster's event log on SQLite, with the events of one batch stored in one transaction.

A run over a year of landing days says once per asset and day that it plans, and then that it made, a partition. The
stock SQLite storage opens two databases for each of these events, some 20 ms: minutes for a year. Dagster already
hands them over in batches (`DAGSTER_EVENT_BATCH_SIZE`, set by `mlp`); this class stores a batch as one. The index also
keeps its engine, and with it the SQL that SQLAlchemy has compiled; connections are still opened anew, since a forked
step must not inherit one. What is stored is the same rows in the same files, so the stock class reads them and either
may be used on the same home.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from dagster import Field, StringSource
from dagster._core.events import ASSET_EVENTS
from dagster._core.events.log import EventLogEntry
from dagster._core.storage.event_log.schema import SqlEventLogStorageTable
from dagster._core.storage.event_log.sqlite.sqlite_event_log import (
    INDEX_SHARD_NAME,
    SqliteEventLogStorage,
)
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS
from dagster._serdes import ConfigurableClassData
from sqlalchemy import create_engine
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.pool import NullPool

EVENT_BATCH_SIZE = 500
"""Events stored in one transaction; Dagster reads it from the environment variable DAGSTER_EVENT_BATCH_SIZE."""


class BatchingSqliteEventLogStorage(SqliteEventLogStorage):
    """The stock storage in the stock place (`$DAGSTER_HOME/history/runs`), but for batches and the index's engine."""

    @classmethod
    def config_type(cls) -> Any:
        return {"base_dir": Field(StringSource, is_required=False)}

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> "BatchingSqliteEventLogStorage":
        base_dir = config_value.get("base_dir") or Path(os.environ["DAGSTER_HOME"], "history", "runs")
        return cls(base_dir=str(base_dir), inst_data=inst_data)

    @cached_property
    def _index_engine(self) -> Engine:
        return create_engine(
            self.conn_string_for_shard(INDEX_SHARD_NAME),
            poolclass=NullPool,
            connect_args={"timeout": SQLITE_BUSY_TIMEOUT_SECONDS},
        )

    @contextmanager
    def _connect(self, shard: str) -> Iterator[Connection]:
        """The stock one where the shard is a run's, or the index has still to be made."""
        if shard != INDEX_SHARD_NAME or shard not in self._initialized_dbs:
            with super()._connect(shard) as conn:
                yield conn
        else:
            with self._db_lock, self._index_engine.begin() as conn:
                yield conn

    def store_event_batch(self, events: Sequence[EventLogEntry]) -> None:
        """Stores asset events of one run in one transaction per database, others one by one. Order is kept by kind."""
        together = [event for event in events if event.dagster_event and event.dagster_event_type in ASSET_EVENTS]
        kept = set(map(id, together))
        if together:
            rows = [self._event_to_row(event) for event in together]
            with self.run_connection(together[0].run_id) as conn:
                conn.execute(SqlEventLogStorageTable.insert(), rows)
            with self.index_transaction() as conn:
                self._store_in_index(conn, together, rows)
        for event in events:
            if id(event) not in kept:
                self.store_event(event)

    def _store_in_index(self, conn: Connection, events: Sequence[EventLogEntry], rows: list[dict[str, Any]]) -> None:
        identity = SqlEventLogStorageTable.c.id
        insert = SqlEventLogStorageTable.insert().returning(identity, sort_by_parameter_order=True)
        ids = list(conn.execute(insert, rows).scalars())
        self._store_asset_event_tags(conn, events, ids)
        newest = {event.get_dagster_event().asset_key: (event, event_id) for event, event_id in zip(events, ids)}
        for event, event_id in newest.values():
            self._store_asset_event(conn, event, event_id)
