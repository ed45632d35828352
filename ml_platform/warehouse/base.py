"""What the platform asks of a warehouse: sessions that execute, read, export and load.

Invariants: values are always bound (`$name`), never pasted into SQL; identifiers that come from outside go through
`quote`; a session is exclusive where the engine wants that, and the wait for it is bounded and names the holder.
"""

import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from ml_platform.errors import PlatformError

if TYPE_CHECKING:
    import polars as pl

Conversion = Literal["as_is", "cents", "utc", "business_date"]
"""How a file's column becomes a warehouse column: unchanged; dollars to integer cents, rounded half away from zero; an
instant to a UTC timestamp; an instant to the shops' local date."""


class WarehouseError(PlatformError):
    """The warehouse refused or failed; `what` is the engine's own message."""


class WarehouseBusy(WarehouseError):
    """Another process or thread holds the warehouse, and the bounded wait is over. `what` names the holder."""


class WarehouseFull(WarehouseError):
    """The disk took no more bytes. The transaction under way was rolled back."""


@dataclass(frozen=True)
class Column:
    """A warehouse column and where a landed file has it. `type` is SQL that every warehouse understands."""

    name: str
    type: str
    source: str
    conversion: Conversion = "as_is"


class Session(Protocol):
    """One connection, closed by the context manager it came from. Relations are `schema.table`."""

    def execute(self, sql: str, params: Mapping[str, object] | None = None) -> None:
        """Runs one statement."""
        ...

    def read(self, sql: str, params: Mapping[str, object] | None = None) -> "pl.DataFrame":
        """The whole answer in memory."""
        ...

    def export(self, sql: str, path: Path, params: Mapping[str, object] | None = None) -> int:
        """Streams the answer into a Parquet file in bounded memory; the file appears whole or not at all.

        Returns the number of rows.
        """
        ...

    def transaction(self) -> AbstractContextManager[None]:
        """Commits at the end, rolls back on an exception."""
        ...

    def insert_parquet(
        self, relation: str, path: Path, columns: Sequence[Column], constants: Mapping[str, date]
    ) -> int:
        """Appends a Parquet file's rows, converted, with the constants beside them. Returns the number of rows."""
        ...


class Warehouse(Protocol):
    """Gives sessions. `purpose` is shown to whoever waits meanwhile."""

    def session(self, purpose: str) -> AbstractContextManager[Session]: ...


def quote(identifier: str) -> str:
    """A lower-case identifier, quoted; `schema.table` is quoted in parts. Raises WarehouseError for any other text."""
    parts = identifier.split(".")
    if not all(re.fullmatch(r"[a-z_][a-z0-9_]{0,127}", part) for part in parts):
        raise WarehouseError(
            f"{identifier!r} is not an identifier",
            next_step="use lower-case letters, digits and underscores, parts joined by a dot",
        )
    return ".".join(f'"{part}"' for part in parts)
