"""The landing contract: what a delivery must hold before a row of it enters the warehouse.

A delivery that breaks it is refused whole, with the rule, the place and the next step; it stays where it landed, for a
look. The bytes are checked against the manifest first: nothing is concluded from a file that is not the one sent.
"""

import hashlib
import io
from datetime import date
from typing import Literal

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from ml_platform.calendar import BUSINESS_TIMEZONE
from ml_platform.errors import PlatformError
from ml_platform.landing.files import Delivery
from ml_platform.landing.tables import RawTable

Rule = Literal[
    "data_missing",
    "digest",
    "unreadable",
    "row_count",
    "closed_with_rows",
    "missing_column",
    "unexpected_column",
    "naive_timestamp",
    "wrong_type",
    "null",
    "future_event",
    "duplicate_key",
    "changed_fixed_column",
]


class ContractViolation(PlatformError):
    """The delivery of `landed_on` breaks the landing contract; `rule` says which of its rules."""

    def __init__(self, rule: Rule, what: str, delivery: Delivery) -> None:
        super().__init__(
            what,
            where=f"{delivery.table} {delivery.landed_on} ({delivery.data_path})",
            next_step="have the sender correct it: it was not loaded, so the folder may be replaced",
        )
        self.rule: Rule = rule
        self.landed_on = delivery.landed_on


def verify(table: RawTable, delivery: Delivery) -> None:
    """Reads the delivery once and checks every rule. Raises ContractViolation for the first that is broken."""
    try:
        content = delivery.data_path.read_bytes()
    except FileNotFoundError:
        raise ContractViolation("data_missing", "the manifest is there, data.parquet is not", delivery) from None
    digest = hashlib.sha256(content).hexdigest()
    if digest != delivery.sha256:
        raise ContractViolation(
            "digest", f"SHA-256 of the data is {digest[:12]}…, the manifest says {delivery.sha256[:12]}…", delivery
        )
    try:
        schema = pq.read_schema(io.BytesIO(content))
        data = pl.read_parquet(io.BytesIO(content))
    except (pa.ArrowException, pl.exceptions.PolarsError, OSError) as error:
        raise ContractViolation("unreadable", f"not a whole Parquet file: {error}", delivery) from error
    if data.height != delivery.rows:
        raise ContractViolation(
            "row_count", f"the file has {data.height} rows, the manifest says {delivery.rows}", delivery
        )
    if delivery.closed and data.height:
        raise ContractViolation("closed_with_rows", f"a closed day has {data.height} rows", delivery)
    _check_columns(table, delivery, schema)
    _check_rows(table, delivery, data)


def _check_columns(table: RawTable, delivery: Delivery, found: pa.Schema) -> None:
    if missing := [name for name in table.schema.names if name not in found.names]:
        raise ContractViolation("missing_column", f"columns missing: {', '.join(missing)}", delivery)
    if unexpected := [name for name in found.names if name not in table.schema.names]:
        raise ContractViolation("unexpected_column", f"columns not agreed on: {', '.join(unexpected)}", delivery)
    for field in table.schema:
        type_ = found.field(field.name).type
        if pa.types.is_timestamp(type_) and pa.types.is_timestamp(field.type) and type_.tz is None:
            raise ContractViolation(
                "naive_timestamp", f"{field.name} has no time zone; an instant is wanted, in UTC", delivery
            )
        if _plain(type_) != field.type:
            raise ContractViolation("wrong_type", f"{field.name} is {type_}, not {field.type}", delivery)


def _plain(type_: pa.DataType) -> pa.DataType:
    """Strings are strings, whichever of Arrow's layouts the sender's library uses."""
    if pa.types.is_large_string(type_) or pa.types.is_string_view(type_):
        return pa.string()
    if pa.types.is_dictionary(type_):
        return _plain(type_.value_type)
    return type_


def _check_rows(table: RawTable, delivery: Delivery, data: pl.DataFrame) -> None:
    for field in table.schema:
        if not field.nullable and (nulls := data[field.name].null_count()):
            raise ContractViolation("null", f"{field.name} is null in {nulls} rows", delivery)
    if table.instant and data.height:
        instants = data[table.instant]
        newest = instants.dt.convert_time_zone(BUSINESS_TIMEZONE).dt.date().max()
        assert isinstance(newest, date)
        if newest > delivery.landed_on:
            raise ContractViolation(
                "future_event",
                f"{table.instant} reaches {instants.max()}, after the day it landed, {delivery.landed_on}",
                delivery,
            )
    # Equal hashes are rare and then looked at; different hashes prove different keys, at a tenth of the cost.
    keys = data.select(table.key)
    if keys.hash_rows().n_unique() < keys.height and (repeated := keys.filter(keys.is_duplicated())).height:
        raise ContractViolation(
            "duplicate_key", f"{repeated.height} rows share a key, for example {repeated.row(0, named=True)}", delivery
        )
