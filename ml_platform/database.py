"""Transactions on a small database of the platform's own, SQLite or PostgreSQL, chosen by a SQLAlchemy URL.

The ledger and the book of alerts each live in one; a `Holding` says what is kept there, so that errors name it and so
that both may share one PostgreSQL database. No connection outlives a transaction, so a Database may be carried over a
fork. Writers stand in line: SQLite gives the write lock at `begin immediate` (write-ahead log, bounded wait),
PostgreSQL a transaction-long advisory lock.

A schema is a list of numbered migrations that are never edited once released. A versions table has one row per applied
migration, and its highest number is the version of what is kept.
"""

import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import ArgumentError, IntegrityError, SQLAlchemyError

from ml_platform.errors import ConfigurationError, PlatformError

BUSY_WAIT_MILLISECONDS = 10_000


@dataclass(frozen=True)
class Holding:
    """What a database keeps: its `name` in errors ("the ledger"), the variable that holds its URL, and its errors.

    `writer_lock` is the number its writers queue at in PostgreSQL, `versions` its table of applied migrations.
    """

    name: str
    variable: str
    versions: str
    writer_lock: int
    unavailable: type[PlatformError]
    too_new: type[PlatformError]


@dataclass(frozen=True)
class Migration:
    """SQL statements that lead from version `number - 1` to `number`, given the dialect's name."""

    number: int
    statements: Callable[[str], list[str]]


class Database:
    """Raises ConfigurationError for a URL or driver that cannot serve. `where` is the URL without its password."""

    def __init__(self, url: str, holding: Holding) -> None:
        self._holding = holding
        try:
            self._engine = sa.create_engine(url, poolclass=sa.NullPool)
        except (ArgumentError, ModuleNotFoundError) as error:
            raise ConfigurationError(
                f"the URL of {holding.name} cannot be used: {error}",
                where=holding.variable,
                next_step="use sqlite:///path, or postgresql+psycopg2://… with that driver installed",
            ) from None
        self.where = self._engine.url.render_as_string(hide_password=True)
        dialect = self._engine.dialect.name
        if dialect not in ("sqlite", "postgresql"):
            raise ConfigurationError(
                f"{holding.name} cannot live in {dialect}",
                where=holding.variable,
                next_step="use SQLite or PostgreSQL",
            )
        if dialect == "sqlite":
            with self._reported():
                Path(self._engine.url.database or "").absolute().parent.mkdir(parents=True, exist_ok=True)
            event.listen(self._engine, "connect", _open_sqlite)
            event.listen(self._engine, "begin", _begin_sqlite)

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A transaction that sees one state. Raises the holding's `unavailable`."""
        with self._reported(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """A transaction that is the only writer from its first statement on.

        Raises the holding's `unavailable`, and lets IntegrityError pass: the caller knows what it means.
        """
        with (
            self._reported(),
            self._engine.connect().execution_options(writer=True) as connection,
            connection.begin(),
        ):
            if connection.dialect.name == "postgresql":
                connection.exec_driver_sql(f"select pg_advisory_xact_lock({self._holding.writer_lock})")
            yield connection

    def migrate(self, migrations: Sequence[Migration], now: datetime) -> None:
        """Brings an older schema up to date in one transaction; touches nothing that is. Raises `too_new`."""
        latest = migrations[-1].number
        with self.reading() as connection:
            present = schema_version(connection, self._holding.versions)
        if present > latest:
            raise self._holding.too_new(
                f"{self._holding.name} has schema version {present}, this release knows up to {latest}",
                where=self.where,
                next_step="use the release that wrote it, or a newer one",
            )
        if present < latest:
            with self.writing() as connection:
                _apply(connection, migrations, self._holding.versions, now)

    @contextmanager
    def _reported(self) -> Iterator[None]:
        try:
            yield
        except IntegrityError:
            raise
        except (SQLAlchemyError, sqlite3.Error, OSError) as error:
            cause = str(getattr(error, "orig", error)).strip()
            raise self._holding.unavailable(
                f"{self._holding.name} cannot be used: {cause}",
                where=self.where,
                next_step="check that the place exists, is writable, has room, and that no process holds it",
            ) from error


def schema_version(connection: sa.Connection, versions: str) -> int:
    """The highest applied migration, 0 for an empty database."""
    if not sa.inspect(connection).has_table(versions):
        return 0
    return connection.exec_driver_sql(f"select coalesce(max(version), 0) from {versions}").scalar_one()


def _apply(connection: sa.Connection, migrations: Sequence[Migration], versions: str, now: datetime) -> None:
    """Another writer may have been first: what is missing is asked again inside the transaction."""
    present = schema_version(connection, versions)
    if present == 0:
        connection.exec_driver_sql(f"create table {versions} (version integer primary key, applied_at text not null)")
    for migration in migrations[present:]:
        for statement in migration.statements(connection.dialect.name):
            connection.exec_driver_sql(statement)
        connection.exec_driver_sql(
            f"insert into {versions} (version, applied_at) values ({migration.number}, '{now.isoformat()}')"
        )


def _open_sqlite(connection: Any, _: object) -> None:
    connection.isolation_level = None  # transactions are begun by _begin_sqlite, so that they hold DDL too
    connection.execute(f"pragma busy_timeout = {BUSY_WAIT_MILLISECONDS}")
    _use_wal(connection)
    connection.execute("pragma synchronous = full")
    connection.execute("pragma foreign_keys = on")


def _use_wal(connection: Any) -> None:
    """Where another process is just making the switch, SQLite refuses at once, whatever the busy wait: ask again."""
    patience = time.monotonic() + BUSY_WAIT_MILLISECONDS / 1000
    while True:
        try:
            connection.execute("pragma journal_mode = wal")
            return
        except sqlite3.OperationalError as error:
            busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
            if not busy or time.monotonic() > patience:
                raise
            time.sleep(0.01)


def _begin_sqlite(connection: sa.Connection) -> None:
    # A writer that begins as a reader can fail at its first write with no wait at all: take the lock at once.
    writer = connection.get_execution_options().get("writer", False)
    connection.exec_driver_sql("begin immediate" if writer else "begin")
