"""Which landed rows stand behind an entity's features as of a Monday: how many, and how new the newest are.

A table's rows are narrowed to the entity by the entity's own columns; where it has none of one, by a table that gives
that column to a key of one column (of a category, by its products). What cannot be narrowed is told of the whole table.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import polars as pl

from ml_platform.calendar import DAY, OPENING_DAY
from ml_platform.landing.files import Delivery, LandingFolder
from ml_platform.landing.tables import RAW_TABLES, RawTable

DAY_OF_A_PATH = r"(\d{4}-\d{2}-\d{2})[\\/]data\.parquet$"


@dataclass(frozen=True)
class SourceRows:
    """Rows of a raw table that had landed before the Monday. `narrowed_by`: the entity's columns that chose them, none
    where they are the whole table's. `landed_on`: the newest landing day; `event`: the newest instant of an event, None
    where the table tells of none. Both are None when there is no such row."""

    features: str
    raw: str
    as_of: date
    narrowed_by: tuple[str, ...]
    rows: int
    landed_on: date | None
    event: datetime | None


def source_rows(landing: LandingFolder, features: str, raw: str, entity: Mapping[str, Any], as_of: date) -> SourceRows:
    """The rows of a raw table behind the entity's row of a feature table as of a Monday."""
    table = RAW_TABLES[raw]
    asked = {name: _chosen(landing, table, name, value, as_of) for name, value in entity.items()}
    conditions = {name: condition for name, condition in asked.items() if condition is not None}
    rows = _landed(landing, table, as_of).filter(*conditions.values())
    newest = rows.select(
        pl.len().alias("rows"),
        pl.col("path").str.extract(DAY_OF_A_PATH).max().alias("landed_on"),
        (pl.col(table.instant).max() if table.instant else pl.lit(None)).alias("event"),
    ).collect()
    (found,) = newest.to_dicts()
    landed_on = found["landed_on"] and date.fromisoformat(found["landed_on"])
    return SourceRows(features, raw, as_of, tuple(conditions), found["rows"], landed_on, found["event"])


def _chosen(landing: LandingFolder, table: RawTable, name: str, value: Any, as_of: date) -> pl.Expr | None:
    """The condition that a column of the entity puts on the table's rows; None where it says nothing of them."""
    names = {column.name for column in table.landed}
    if name in names:
        return pl.col(name) == value
    for other in RAW_TABLES.values():
        if len(other.key) == 1 and other.key[0] in names and name in {column.name for column in other.landed}:
            (key,) = other.key
            keys = _landed(landing, other, as_of).filter(pl.col(name) == value).select(key).unique().collect()
            return pl.col(key).is_in(keys[key].implode())
    return None


def _landed(landing: LandingFolder, table: RawTable, as_of: date) -> pl.LazyFrame:
    """Every landed row known before the Monday, with the `path` of its file."""
    filled: list[Delivery] = [each for each in landing.deliveries(table.name, OPENING_DAY, as_of - DAY) if each.rows]
    if not filled:
        schema = {column.name: pl.Null() for column in table.landed}
        return pl.LazyFrame(schema={**schema, "path": pl.String()})
    return pl.scan_parquet([str(each.data_path) for each in filled], include_file_paths="path")
