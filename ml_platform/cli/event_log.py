"""Dagster's event log on SQLite, with the events of one batch stored in one transaction.

A run over a year of landing days says once per asset and day that it plans, and then that it made, a partition. The
stock SQLite storage opens two databases for each of these events, some 20 ms: minutes for a year. Dagster already
hands them over in batches (`DAGSTER_EVENT_BATCH_SIZE`, set by `mlp`); this class stores a batch as one. What is stored
is the same rows in the same files, so the stock class reads them and either may be used on the same home.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dagster import Field, StringSource
from dagster._core.events import ASSET_EVENTS
from dagster._core.events.log import EventLogEntry
from dagster._core.storage.event_log.schema import SqlEventLogStorageTable
from dagster._core.storage.event_log.sqlite.sqlite_event_log import SqliteEventLogStorage
from dagster._serdes import ConfigurableClassData
from sqlalchemy.engine import Connection

EVENT_BATCH_SIZE = 500
"""Events stored in one transaction; Dagster reads it from the environment variable DAGSTER_EVENT_BATCH_SIZE."""


class BatchingSqliteEventLogStorage(SqliteEventLogStorage):
    """The stock storage in the stock place (`$DAGSTER_HOME/history/runs`), but for `store_event_batch`."""

    @classmethod
    def config_type(cls) -> Any:
        return {"base_dir": Field(StringSource, is_required=False)}

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> "BatchingSqliteEventLogStorage":
        base_dir = config_value.get("base_dir") or Path(os.environ["DAGSTER_HOME"], "history", "runs")
        return cls(base_dir=str(base_dir), inst_data=inst_data)

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
