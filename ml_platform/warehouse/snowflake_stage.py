"""How a file's rows come into Snowflake: through a table of the session, before anything that matters is touched.

A create or a drop commits by itself there, so a stage is made, filled and converted first, and only read inside the
transaction. Several files become one that has the constants as columns; it is put into the stage that every
table has, copied by column name, and converted into a second table. Both are temporary: a session that dies leaves
nothing, and dropping the first drops its file. A single file goes as it is, and its constants come in the conversion.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ml_platform.calendar import BUSINESS_TIMEZONE
from ml_platform.warehouse.base import Arrival, Column, Conversion, WarehouseError, parquet_of, quote

Run = Callable[[str], Any]
BATCH_ROWS = 262_144
CONVERSIONS: Mapping[Conversion, str] = {
    "as_is": "{source}",
    "cents": "cast(round({source} * 100) as bigint)",
    "utc": "{source}",  # the sessions' time zone is UTC
    "business_date": f"cast(convert_timezone('UTC', '{BUSINESS_TIMEZONE}', {{source}}) as date)",
}


@dataclass(frozen=True)
class Places:
    """The two tables of a stage, by their names in Snowflake: as the rows landed, and as they go on."""

    converted: str
    landed: str


def fill(run: Run, places: Places, arrivals: Sequence[Arrival], columns: Sequence[Column]) -> None:
    """Makes both tables, whatever an earlier attempt has left. Raises WarehouseError."""
    with ExitStack() as opened:
        folder = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="staging-")))
        try:
            path, rows = _one_file(arrivals, columns, folder, opened)
            schema = pq.read_schema(path)
            sources = [schema.field(source) for source in _sources(columns)]
        except (pa.ArrowException, KeyError) as error:
            raise WarehouseError(
                f"the rows cannot be staged: {error}",
                where=places.landed,
                next_step="bring the files' columns and the table's declaration together",
            ) from error
        constants = {constant: schema.field(constant) for constant in arrivals[0].constants if len(arrivals) > 1}
        types = ", ".join(f"{_name(field.name)} {_sql_type(field)}" for field in [*sources, *constants.values()])
        run(f"create or replace temporary table {places.landed} ({types})").close()
        if rows:
            _copy(run, places.landed, path, rows)
    values = [CONVERSIONS[each.conversion].format(source=_name(each.source)) for each in columns]
    values += [
        _name(constant) if constant in constants else f"cast('{day.isoformat()}' as date)"
        for constant, day in arrivals[0].constants.items()
    ]
    names = [_name(each) for each in [*(column.name for column in columns), *arrivals[0].constants]]
    selected = ", ".join(f"{value} as {name}" for value, name in zip(values, names, strict=True))
    run(f"create or replace temporary table {places.converted} as select {selected} from {places.landed}").close()


def _copy(run: Run, table: str, path: Path, rows: int) -> None:
    schema, _, own = table.rpartition(".")
    stage = f'@{schema}."%{own.strip(chr(34))}"'
    run(f"put 'file://{path}' {stage} auto_compress = false overwrite = true").close()
    form = "file_format = (type = parquet use_logical_type = true) match_by_column_name = case_insensitive"
    with run(f"copy into {table} from {stage} {form}") as cursor:
        (loaded,) = cursor.fetchall()
    if loaded[1] != "LOADED" or int(loaded[3]) != rows:
        raise WarehouseError(
            f"{rows} rows were staged and {loaded[3]} arrived ({loaded[1]})",
            where=table,
            next_step="run again; if it stays so, look at the file with the table's declaration",
        )


def _one_file(
    arrivals: Sequence[Arrival], columns: Sequence[Column], folder: Path, opened: ExitStack
) -> tuple[Path, int]:
    """One Parquet file of all arrivals' rows, and their number. The constants are in it where there are several."""
    path = folder / "arriving.parquet"
    if len(arrivals) == 1:
        # Under another name: a quote or a star in its own would mean something to PUT.
        path.symlink_to(opened.enter_context(parquet_of(arrivals[0].rows)).absolute())
        return path, pq.read_metadata(path).num_rows
    sources, rows, writer = _sources(columns), 0, None
    with ExitStack() as written:
        for arrival in arrivals:
            source = opened.enter_context(pq.ParquetFile(opened.enter_context(parquet_of(arrival.rows))))
            schema = _with_constants(source.schema_arrow.empty_table().select(sources), arrival.constants).schema
            writer = writer or written.enter_context(pq.ParquetWriter(path, schema))
            for batch in source.iter_batches(BATCH_ROWS, columns=sources):
                table = _with_constants(pa.Table.from_batches([batch]).select(sources), arrival.constants)
                writer.write_table(table.cast(writer.schema))
                rows += table.num_rows
    return path, rows


def _sources(columns: Sequence[Column]) -> list[str]:
    return list(dict.fromkeys(column.source for column in columns))


def _with_constants(table: pa.Table, constants: Mapping[str, date]) -> pa.Table:
    for constant, day in constants.items():
        table = table.append_column(constant, pa.repeat(pa.scalar(day, pa.date32()), table.num_rows))
    return table


def _name(column: str) -> str:
    return quote(column).upper()


def _sql_type(field: pa.Field) -> str:
    """The type of a column of the first table: what holds a landed value as it is."""
    kind = field.type
    if pa.types.is_integer(kind):
        return "bigint"
    if pa.types.is_floating(kind):
        return "double"
    if pa.types.is_decimal(kind):
        return f"number({kind.precision}, {kind.scale})"
    if pa.types.is_boolean(kind):
        return "boolean"
    if pa.types.is_date(kind):
        return "date"
    if pa.types.is_timestamp(kind):
        return "timestamp_ntz"
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return "array"
    return "varchar"
