"""Snowflake's answers in types that do not depend on the way they came.

Snowflake gives each chunk of an answer the narrowest integers that hold it, and every whole number without bound. Here
a column has one type for every chunk: whole numbers 64 bits, other numbers exact decimals, times in microseconds (an
instant in UTC). What 64 bits do not hold is refused, never cut. Arrays come as JSON texts and leave as lists.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import polars as pl
import pyarrow as pa
from snowflake.connector.constants import FIELD_TYPES

from ml_platform.warehouse.base import WarehouseError

TYPES: Mapping[str, pa.DataType] = {
    "REAL": pa.float64(),
    "TEXT": pa.string(),
    "DATE": pa.date32(),
    "TIMESTAMP_NTZ": pa.timestamp("us"),
    "TIMESTAMP_LTZ": pa.timestamp("us", "UTC"),
    "TIMESTAMP_TZ": pa.timestamp("us", "UTC"),
    "BINARY": pa.binary(),
    "TIME": pa.time64("us"),
    "BOOLEAN": pa.bool_(),
    "ARRAY": pa.string(),
    "VARIANT": pa.string(),
    "OBJECT": pa.string(),
}
ARRAYS = {"ARRAY", "VARIANT"}


def schema_of(description: Sequence[Any], decimals: Iterable[str] = ()) -> pa.Schema:
    """The Arrow schema of an answer, names in lower case; whole numbers of the columns in `decimals` stay unbounded."""
    unbounded = set(decimals)
    return pa.schema([pa.field(each.name.lower(), _type(each, unbounded)) for each in description])


def _type(column: Any, unbounded: set[str]) -> pa.DataType:
    kind = FIELD_TYPES[column.type_code].name
    if kind != "FIXED":
        return TYPES.get(kind, pa.string())
    if column.scale:
        return pa.decimal128(column.precision or 38, column.scale)
    return pa.decimal128(38, 0) if column.name.lower() in unbounded else pa.int64()


def conformed(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """A chunk in the schema of its answer. Raises WarehouseError for a number that its column cannot hold."""
    columns = [_cast(column, field) for column, field in zip(table.columns, schema, strict=True)]
    return pa.table(columns, schema=schema)


def _cast(column: pa.ChunkedArray, field: pa.Field) -> pa.ChunkedArray:
    if column.type == field.type:
        return column
    # Snowflake counts nanoseconds; the platform, and the other engine, microseconds.
    safe = not pa.types.is_temporal(field.type)
    try:
        return column.cast(field.type, safe=safe)
    except pa.ArrowInvalid as error:
        raise WarehouseError(
            f"a number of the column {field.name} does not fit {field.type}: {error}",
            where=field.name,
            next_step="declare the column as a decimal, or make its numbers smaller in the query",
        ) from error


def frame_of(table: pa.Table, description: Sequence[Any]) -> pl.DataFrame:
    """The answer as Polars has it, arrays decoded."""
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    arrays = [each.name.lower() for each in description if FIELD_TYPES[each.type_code].name in ARRAYS]
    return frame.with_columns(_decoded(frame[name]) for name in arrays)


def _decoded(texts: pl.Series) -> pl.Series:
    """Lists of what the texts hold: all of one kind, or all texts."""
    try:
        return texts.str.json_decode(infer_schema_length=None)
    except pl.exceptions.PolarsError:
        return texts
