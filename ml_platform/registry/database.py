"""Transactions on the ledger's database, SQLite or PostgreSQL, chosen by a SQLAlchemy URL.

No connection outlives a transaction, so the object may be carried over a fork. Writers stand in line: SQLite gives the
write lock at `begin immediate` (write-ahead log, bounded wait), PostgreSQL a transaction-long advisory lock.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import ArgumentError, IntegrityError, SQLAlchemyError

from ml_platform.errors import ConfigurationError
from ml_platform.registry.records import LedgerUnavailable

BUSY_WAIT_MILLISECONDS = 10_000
POSTGRESQL_WRITER_LOCK = 0x6D6C706C  # "mlpl"


class Database:
    """Raises ConfigurationError for a URL or driver that cannot serve. `where` is the URL without its password."""

    def __init__(self, url: str) -> None:
        try:
            self._engine = sa.create_engine(url, poolclass=sa.NullPool)
        except (ArgumentError, ModuleNotFoundError) as error:
            raise ConfigurationError(
                f"the ledger's URL cannot be used: {error}",
                where="ML_PLATFORM_LEDGER_URL",
                next_step="use sqlite:///path, or postgresql+psycopg2://… with that driver installed",
            ) from None
        self.where = self._engine.url.render_as_string(hide_password=True)
        dialect = self._engine.dialect.name
        if dialect not in ("sqlite", "postgresql"):
            raise ConfigurationError(
                f"the ledger cannot live in {dialect}",
                where="ML_PLATFORM_LEDGER_URL",
                next_step="use SQLite or PostgreSQL",
            )
        if dialect == "sqlite":
            with self._reported():
                Path(self._engine.url.database or "").absolute().parent.mkdir(parents=True, exist_ok=True)
            event.listen(self._engine, "connect", _open_sqlite)
            event.listen(self._engine, "begin", _begin_sqlite)

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A transaction that sees one state. Raises LedgerUnavailable."""
        with self._reported(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """A transaction that is the only writer from its first statement on.

        Raises LedgerUnavailable, and lets IntegrityError pass: the caller knows what it means.
        """
        with (
            self._reported(),
            self._engine.connect().execution_options(ledger_writer=True) as connection,
            connection.begin(),
        ):
            if connection.dialect.name == "postgresql":
                connection.exec_driver_sql(f"select pg_advisory_xact_lock({POSTGRESQL_WRITER_LOCK})")
            yield connection

    @contextmanager
    def _reported(self) -> Iterator[None]:
        try:
            yield
        except IntegrityError:
            raise
        except (SQLAlchemyError, sqlite3.Error, OSError) as error:
            cause = str(getattr(error, "orig", error)).strip()
            raise LedgerUnavailable(
                f"the ledger cannot be used: {cause}",
                where=self.where,
                next_step="check that the place exists, is writable, has room, and that no process holds it",
            ) from error


def _open_sqlite(connection: Any, _: object) -> None:
    connection.isolation_level = None  # transactions are begun by _begin_sqlite, so that they hold DDL too
    connection.execute(f"pragma busy_timeout = {BUSY_WAIT_MILLISECONDS}")
    connection.execute("pragma journal_mode = wal")
    connection.execute("pragma synchronous = full")
    connection.execute("pragma foreign_keys = on")


def _begin_sqlite(connection: sa.Connection) -> None:
    # A writer that begins as a reader can fail at its first write with no wait at all: take the lock at once.
    writer = connection.get_execution_options().get("ledger_writer", False)
    connection.exec_driver_sql("begin immediate" if writer else "begin")
