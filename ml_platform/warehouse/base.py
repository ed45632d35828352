"""What the platform asks of a warehouse: sessions that execute, read, export and load.

Invariants: values are always bound (`$name`; a list as `select unnest($name)`), never pasted into SQL; identifiers that
come from outside go through `quote`; a session is exclusive where the engine wants that, and the wait for it is bounded
and names the holder. SQL is written once, in DuckDB's words: what both engines have, or what `snowflake_sql` can say in
Snowflake's. Names are lower-case here whatever case the engine keeps. Relations are `schema.table`, without the prefix
of the deployment; one that is named with its database is not the platform's own, and has no prefix.
"""

import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from ml_platform.calendar import BUSINESS_TIMEZONE
from ml_platform.errors import PlatformError

if TYPE_CHECKING:
    import polars as pl

Conversion = Literal["as_is", "cents", "utc", "business_date"]
"""How a file's column becomes a warehouse column: unchanged; dollars to integer cents, rounded half away from zero; an
instant to a UTC timestamp; an instant to the shops' local date."""
CONVERSIONS: Mapping[Conversion, str] = {
    "as_is": "{source}",
    "cents": "round({source} * 100)::bigint",
    "utc": "{source} at time zone 'UTC'",
    "business_date": f"({{source}} at time zone '{BUSINESS_TIMEZONE}')::date",
}
"""In DuckDB's words; an instant has a zone there."""


class WarehouseError(PlatformError):
    """The warehouse refused or failed; `what` is the engine's own message."""


class WarehouseBusy(WarehouseError):
    """Another process or thread holds the warehouse, and the bounded wait is over. `what` names the holder."""


class WarehouseDenied(WarehouseError):
    """The credentials are wrong, or the role may not do this."""


class WarehouseUnavailable(WarehouseError):
    """The connection dropped, the session expired or the service refused for now; trying again in time helps."""


class WarehouseFull(WarehouseError):
    """The disk took no more bytes. The transaction under way was rolled back."""


@dataclass(frozen=True)
class Column:
    """A warehouse column and where a landed file has it. `type` is SQL that every warehouse understands."""

    name: str
    type: str
    source: str
    conversion: Conversion = "as_is"


@dataclass(frozen=True)
class Arrival:
    """Rows on their way in: a Parquet file or a frame, and the constants that stand beside each of them."""

    rows: "Path | pl.DataFrame"
    constants: Mapping[str, date]


class Session(Protocol):
    """One connection, closed by the context manager it came from. Relations are `schema.table`."""

    def execute(self, sql: str, params: Mapping[str, object] | None = None) -> None:
        """Runs one statement."""
        ...

    def read(
        self,
        sql: str,
        params: Mapping[str, object] | None = None,
        schema: "Mapping[str, pl.DataType] | None" = None,
    ) -> "pl.DataFrame":
        """The whole answer in memory; the columns that `schema` names come in its dtypes.

        Raises WarehouseError when a value does not fit.
        """
        ...

    def export(self, sql: str, path: Path, params: Mapping[str, object] | None = None) -> int:
        """Streams the answer into a Parquet file in bounded memory; the file appears whole or not at all.

        Returns the number of rows.
        """
        ...

    def transaction(self) -> AbstractContextManager[None]:
        """Commits at the end, rolls back on an exception. Nothing in it creates or drops: some engines commit then."""
        ...

    def staged(
        self, relation: str, arrivals: Sequence[Arrival], columns: Sequence[Column]
    ) -> AbstractContextManager[str]:
        """Rows on their way into `relation`, converted, constants beside them, as a relation of this session alone.

        Opened before the transaction that reads it; gone at the end, however that comes.
        """
        ...

    def relations(self) -> Mapping[tuple[str, str], Mapping[str, str]]:
        """Every relation as (schema, table), with its columns and their types in the engine's words."""
        ...

    def changed_at(self, relation: str) -> datetime | None:
        """When a relation (`database.schema.table`) was last changed, in UTC; None where the engine does not say."""
        ...

    def cost(self) -> Mapping[str, float]:
        """What the session's statements have cost so far, as far as the engine says: figures by name with unit."""
        ...


class Warehouse(Protocol):
    """Gives sessions. `purpose` is shown to whoever waits meanwhile, and to whoever reads the engine's history."""

    def session(self, purpose: str) -> AbstractContextManager[Session]: ...

    def lock(self, purpose: str) -> AbstractContextManager[None]:
        """Keeps every session out that could not stand beside another program at work in the warehouse (dbt)."""
        ...


def replace_rows(session: Session, staged: str, relation: str, key: str, values: Sequence[date]) -> None:
    """In the caller's transaction: the rows whose `key` is one of `values` give way to those of a staged relation."""
    chosen = f"{quote(key)} in (select unnest($values))"
    session.execute(f"delete from {quote(relation)} where {chosen}", {"values": list(values)})
    # By position: a staged relation has the columns of where its rows go, in order.
    session.execute(f"insert into {quote(relation)} select * from {staged} where {chosen}", {"values": list(values)})


def declared(frame: "pl.DataFrame", schema: "Mapping[str, pl.DataType] | None") -> "pl.DataFrame":
    """The frame with the columns that the schema names in its dtypes. Raises WarehouseError, naming the columns."""
    import polars as pl

    try:
        return frame.with_columns(pl.col(name).cast(dtype, strict=True) for name, dtype in (schema or {}).items())
    except pl.exceptions.PolarsError as error:
        raise WarehouseError(
            f"the answer has not the declared types: {str(error).splitlines()[0]}",
            where=", ".join(schema or {}),
            next_step="bring the query and the declared schema together",
        ) from error


@contextmanager
def parquet_of(rows: "Path | pl.DataFrame") -> Iterator[Path]:
    """The rows as a Parquet file, which for a frame lives as long as the context."""
    if isinstance(rows, Path):
        yield rows
        return
    with tempfile.TemporaryDirectory(prefix="arriving-") as folder:
        path = Path(folder) / "rows.parquet"
        rows.write_parquet(path)
        yield path


@contextmanager
def appearing(path: Path) -> Iterator[Path]:
    """Where to write what is to appear at `path`, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield aside
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def quote(identifier: str) -> str:
    """A lower-case identifier, quoted; `schema.table` is quoted in parts. Raises WarehouseError for any other text."""
    parts = identifier.split(".")
    if not all(re.fullmatch(r"[a-z_][a-z0-9_]{0,127}", part) for part in parts):
        raise WarehouseError(
            f"{identifier!r} is not an identifier",
            next_step="use lower-case letters, digits and underscores, parts joined by a dot",
        )
    return ".".join(f'"{part}"' for part in parts)
