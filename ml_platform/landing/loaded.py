"""What of a raw table is loaded, where anyone may read it: `<lake>/loaded/<table>.json`, rewritten after each load.

The warehouse is one process at a time, so whoever watches it (sensors, `mlp slo`) reads this instead. Both days are the
newest of the whole table, never of one load: loading an old day again moves neither. A process killed between the load
and this file leaves it older than the truth; the retried load writes it anew.
"""

import json
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from ml_platform.calendar import parse_day
from ml_platform.errors import PlatformError
from ml_platform.landing.tables import RawTable, raw_table

if TYPE_CHECKING:
    from upath import UPath

    from ml_platform.warehouse.base import Session

FORMAT_VERSION = 1


class LoadedUnreadable(PlatformError):
    """The note of what is loaded is torn, of another version, or tells of another table."""


@dataclass(frozen=True)
class Loaded:
    """`landed_on`: the newest landing day in the warehouse. `event`: the newest event's day, where there are events."""

    table: str
    landed_on: date
    event: date | None


def note_loaded(session: "Session", lake: "UPath | Path", table: RawTable) -> Loaded | None:
    """Writes down what the warehouse holds of the table now; None, and no note, while it holds nothing."""
    from ml_platform.lake import write_atomically
    from ml_platform.warehouse.base import quote

    newest = session.read(
        "select max(landed_on) as day from raw.loads where table_name = $table_name", {"table_name": table.name}
    )["day"][0]
    if newest is None:
        return None
    newest_event = f"select max(event_date) as day from {quote(table.relation)}"
    event = session.read(newest_event)["day"][0] if table.instant else None
    found = Loaded(table.name, newest, event)
    stated = {"format_version": FORMAT_VERSION, **asdict(found)}
    write_atomically(_path(lake, table.name), json.dumps(stated, default=str).encode(), "loaded")
    return found


def newest_words(noted: Loaded | None) -> dict[str, str]:
    """The newest days of a table, as its asset shows them."""
    event = noted.event if noted else None
    return {"newest_landing": str(noted.landed_on if noted else "none"), "newest_event": str(event or "none")}


def read_loaded(lake: "UPath | Path", table: str) -> Loaded | None:
    """The newest note, None before the first load. Raises LoadedUnreadable, or UnknownTable for a name of no table."""
    path = _path(lake, table)
    try:
        stated = json.loads(path.read_bytes())
        if stated["format_version"] != FORMAT_VERSION:
            raise ValueError(f"format version {stated['format_version']!r}")
        if stated["table"] != table:
            raise ValueError(f"it tells of {stated['table']!r}")
        event = stated["event"]
        return Loaded(table, parse_day(stated["landed_on"]), None if event is None else parse_day(event))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, OSError, PlatformError) as error:
        raise LoadedUnreadable(
            f"what is loaded of {table} cannot be read: {error!r}",
            where=path,
            next_step=f"write it anew by loading a day again: mlp run 'key:\"raw/{table}\"' --partition DAY",
        ) from error


def _path(lake: "UPath | Path", table: str) -> "UPath | Path":
    return lake / "loaded" / f"{raw_table(table).name}.json"
