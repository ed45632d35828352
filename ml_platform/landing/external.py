"""Raw tables that the company has already: read where they stand, never copied.

An external table holds what a landed file would hold, under its own names, and when each row became known.
`raw.<table>` is a view of it with the conversions that a file's columns get, so whatever comes after reads the same
relation in every deployment. A landing day is whole once it is over and, of a daily table, rows of it or of a later
day are there; then it enters `raw.loads`, like a delivery. What was known before the first landing day counts as known
on that day.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from ml_platform.calendar import CLOSING_DAY, DAY, OPENING_DAY, days
from ml_platform.errors import ConfigurationError, PlatformError
from ml_platform.landing.loaded import Loaded, note_loaded
from ml_platform.landing.tables import Landed, RawTable, UnknownTable, raw_table
from ml_platform.warehouse.base import CONVERSIONS, Column, Session, WarehouseError, quote

if TYPE_CHECKING:
    import polars as pl

DIGEST = "external"  # in raw.loads: there is no file whose digest it could be


class ExternalTableDiffers(PlatformError):
    """An external table has not the columns or types that were declared of it, or rows without a landing day."""


class ExternalDayChanged(PlatformError):
    """An external table has other rows on a landing day that had been whole."""


@dataclass(frozen=True)
class ExternalTable:
    """`relation`: `database.schema.table` in the warehouse. `landed_on`: its column, a date or an instant, that says
    when a row became known. `columns`: its names of landed columns, where they differ. `quiet_days`: whether a daily
    table may have no rows for days on end; otherwise rows are waited for, since its loader may have died."""

    table: RawTable
    relation: str
    landed_on: str
    columns: Mapping[str, str] = field(default_factory=dict)
    quiet_days: bool = False

    def source(self, landed: str) -> str:
        """The table's own name of a landed column."""
        return self.columns.get(landed, landed)


@dataclass(frozen=True)
class Look:
    """What a glance tells. `changed_at`: UTC, by the engine's own account; None where it keeps none."""

    changed_at: datetime | None
    rows: int
    newest: str

    @property
    def mark(self) -> str:
        """The same as long as nothing has changed."""
        return f"{self.changed_at} {self.rows} {self.newest}"


def read_external_tables(path: Path | None) -> Mapping[str, ExternalTable]:
    """The external tables that a TOML file declares, by the raw table they are. Raises ConfigurationError."""
    if path is None:
        return {}
    try:
        stated = tomllib.loads(path.read_text())
        return {name: _external_table(name, said) for name, said in stated.items()}
    except (OSError, ValueError, TypeError, UnknownTable, WarehouseError) as error:
        raise ConfigurationError(
            f"external tables cannot be read: {error}",
            where=path,
            next_step="declare each as docs/snowflake.md shows, or unset ML_PLATFORM_EXTERNAL_TABLES",
        ) from error


def glance(session: Session, external: ExternalTable) -> Look:
    """One cheap question, asked of an external table at every look. Raises WarehouseError."""
    counted = f"select count(*) as n, max({quote(external.landed_on)}) as newest from {quote(external.relation)}"
    found = session.read(counted)
    return Look(session.changed_at(external.relation), found["n"][0], str(found["newest"][0]))


def take(session: Session, lake: Path, external: ExternalTable, today: date) -> Loaded | None:
    """Brings `raw.<table>`, `raw.loads` and the note of what is loaded up to the external table; `create_raw` came
    before. None while it has no whole day.

    Raises ExternalTableDiffers, ExternalDayChanged, WarehouseError.
    """
    table = external.table
    session.execute(f"create or replace view {quote(table.relation)} as {_select(session, external)}")
    counts = session.read(f"select landed_on, count(*) as n from {quote(table.relation)} group by landed_on")
    rows: dict[date | None, int] = dict(counts.iter_rows())
    if None in rows:
        raise ExternalTableDiffers(
            f"{rows[None]} rows do not say when they became known",
            where=f"{external.relation}.{external.landed_on}",
            next_step="fill the column, or name another as `landed_on`",
        )
    known = {day: n for day, n in rows.items() if day is not None}
    last = min(today - DAY, CLOSING_DAY)
    if table.cadence == "daily" and not external.quiet_days:
        last = min(last, max(known, default=OPENING_DAY - DAY))
    _enter(session, external, known, list(days(OPENING_DAY, last)))
    return note_loaded(session, lake, table)


def _enter(session: Session, external: ExternalTable, rows: Mapping[date, int], whole: list[date]) -> None:
    named: dict[str, object] = {"table_name": external.table.name}
    with session.transaction():
        session.execute("update raw.claims set claims = claims + 1 where table_name = $table_name", named)
        entered = dict(
            session.read("select landed_on, row_count from raw.loads where table_name = $table_name", named).iter_rows()
        )
        changed = sorted(day for day, count in entered.items() if rows.get(day, 0) != count)
        if changed:
            raise ExternalDayChanged(
                f"{len(changed)} landing days have other rows than when they were whole: {changed[0]} had "
                f"{entered[changed[0]]} and has {rows.get(changed[0], 0)}",
                where=external.relation,
                next_step="let a late row say the day it came; or, to take those days as they are now, delete them from"
                f" raw.loads and build them again: mlp run --force --partition {changed[0]} 'group:staging'",
            )
        fresh = [day for day in whole if day not in entered]
        if fresh:
            counted = f"""
                insert into raw.loads
                select $table_name, day.landed_on, '{DIGEST}', count(line.landed_on), $loaded_at
                from (select unnest($days) as landed_on) as day
                left join {quote(external.table.relation)} as line on line.landed_on = day.landed_on
                group by day.landed_on
            """
            loaded_at = datetime.now(UTC).replace(tzinfo=None)
            session.execute(counted, {**named, "days": fresh, "loaded_at": loaded_at})


def _select(session: Session, external: ExternalTable) -> str:
    """The external table's rows as `raw.<table>` has them. Raises ExternalTableDiffers with every fault."""
    theirs = session.read(f"select * from {quote(external.relation)} limit 0").schema
    types = {name.lower(): dtype for name, dtype in theirs.items()}
    faults = [
        fault
        for each in external.table.landed
        if (fault := _fault(external.source(each.name), types.get(external.source(each.name)), each))
    ]
    landed_on = types.get(external.landed_on)
    if landed_on is None or not landed_on.is_temporal():
        faults.append(f"{external.landed_on} is {landed_on or 'missing'} and should be a date or an instant")
    if faults:
        raise ExternalTableDiffers(
            "; ".join(faults),
            where=external.relation,
            next_step="name the right columns, or put a view of yours before the table that has them",
        )
    values = [
        f"{_value(external.source(each.source), types, each)} as {quote(each.name)}" for each in external.table.columns
    ]
    opening = f"date '{OPENING_DAY.isoformat()}'"
    known = _value(external.landed_on, types, _landed_on(external, types))
    values.append(f"case when {known} < {opening} then {opening} else {known} end as landed_on")
    return f"select {', '.join(values)} from {quote(external.relation)}"


def _landed_on(external: ExternalTable, types: "Mapping[str, pl.DataType]") -> Column:
    import polars as pl

    instant = isinstance(types[external.landed_on], pl.Datetime)
    return Column("landed_on", "date", external.landed_on, "business_date" if instant else "as_is")


def _value(source: str, types: "Mapping[str, pl.DataType]", column: Column) -> str:
    """The column's value in SQL. An instant without a zone is in UTC."""
    import polars as pl

    dtype, value = types[source], quote(source)
    if isinstance(dtype, pl.Datetime) and dtype.time_zone is None:
        value = f"({value} at time zone 'UTC')"
    return f"cast({CONVERSIONS[column.conversion].format(source=value)} as {column.type})"


def _fault(name: str, dtype: "pl.DataType | None", landed: Landed) -> str | None:
    import polars as pl

    if dtype is None:
        return f"{name} is missing"
    whole = dtype.is_integer() or (isinstance(dtype, pl.Decimal) and dtype.scale == 0)
    fits = {
        "int64": whole,
        "float64": dtype.is_numeric(),
        "string": dtype == pl.String,
        "bool": dtype == pl.Boolean,
        "date32": dtype == pl.Date,
        "instant": isinstance(dtype, pl.Datetime),
    }
    return None if fits[landed.type] else f"{name} is {dtype} and should be {landed.type}"


def _external_table(name: str, said: object) -> ExternalTable:
    if not isinstance(said, dict):
        raise ValueError(f"{name} is {said!r} and should be a table with a relation")
    table, columns = raw_table(name), said.get("columns", {})
    unknown = sorted(set(said) - {"relation", "landed_on", "columns", "quiet_days"})
    if unknown:
        raise ValueError(f"{name} has no setting {unknown[0]!r}")
    if not isinstance(columns, dict) or set(columns) - {each.name for each in table.landed}:
        raise ValueError(f"{name}.columns renames {', '.join(each.name for each in table.landed)}, and nothing else")
    relation = _lower(said, "relation", name)
    if relation.count(".") != 2:
        raise ValueError(f"{name}.relation is {relation!r} and should be database.schema.table")
    landed_on = _lower(said, "landed_on", name) if "landed_on" in said else "landed_on"
    renamed = {landed: _lower(columns, landed, name) for landed in columns}
    for each in (relation, landed_on, *renamed.values()):
        quote(each)
    if not isinstance(quiet := said.get("quiet_days", False), bool):
        raise ValueError(f"{name}.quiet_days is {quiet!r} and should be true or false")
    return ExternalTable(table, relation, landed_on, renamed, quiet)


def _lower(said: Mapping[str, object], key: str, name: str) -> str:
    value = said.get(key)
    if not isinstance(value, str):
        raise ValueError(f"{name}.{key} is {value!r} and should be a name")
    return value.lower()
