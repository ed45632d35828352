"""The point-in-time audit: a sample of every feature partition, recomputed from raw lines by another query.

A partition that holds data from a week later or earlier than it says, whatever its label and wherever the shift was
made, cannot agree with a recomputation that reads only what had landed before its Monday: the two are compared value by
value, to the bit. Metadata cannot prove this, for the code that leaks is the code that writes it.
"""

from dataclasses import dataclass

import polars as pl

from ml_platform.contracts import FeatureTable

SAMPLED_ENTITIES = 50
_RECOMPUTED = "__recomputed"


@dataclass(frozen=True)
class AuditOutcome:
    """`compared` counts values; `mismatches`: [key…, column, published, recomputed], values as text, null: no row."""

    compared: int
    mismatches: pl.DataFrame

    @property
    def passed(self) -> bool:
        return self.compared > 0 and self.mismatches.is_empty()


def sampled_entities(table: FeatureTable, frame: pl.DataFrame) -> list[int]:
    """At most SAMPLED_ENTITIES values of the first entity column, spread by hash: the same for the same rows. All rows
    of, say, a sampled household are audited, so a row that should be there and is not is found too."""
    ids = frame.select(pl.col(table.entity[0]).unique().alias("id"))
    return ids.sort(pl.col("id").hash(seed=0), "id")["id"].head(SAMPLED_ENTITIES).to_list()


def audit_point_in_time(
    table: FeatureTable, features: pl.DataFrame, recomputed: pl.DataFrame, entities: list[int]
) -> AuditOutcome:
    """Compares the published rows of the sampled entities with the recomputation, over the columns this has.

    A row that one side lacks counts as a row of zeros (of empty texts and lists): a household without a line may stand
    in the table for another reason, but then it has bought nothing.
    """
    key = list(table.key)
    columns = [name for name in recomputed.columns if name not in key]
    sampled = features.filter(pl.col(table.entity[0]).is_in(entities))
    ours, theirs = (_comparable(table, frame, key, columns) for frame in (sampled, recomputed))
    both = ours.join(theirs, on=key, how="full", coalesce=True, suffix=_RECOMPUTED)
    mismatches = pl.concat(_mismatches(both, key, column) for column in columns)
    return AuditOutcome(both.height * len(columns), mismatches.sort([*key, "column"]))


def _comparable(table: FeatureTable, frame: pl.DataFrame, key: list[str], columns: list[str]) -> pl.DataFrame:
    """Key and columns in the types that are compared: whatever a query calls a number, as Float64 (cents and counts are
    exact in it below 2**53)."""
    schema = table.schema()
    compared = {name: pl.Float64() if schema[name].is_numeric() else schema[name] for name in columns}
    types = {name: schema[name] for name in key} | compared
    return frame.select(pl.col(name).cast(dtype) for name, dtype in types.items())


def _mismatches(both: pl.DataFrame, key: list[str], column: str) -> pl.DataFrame:
    """The rows whose two values of the column differ: [key…, column, published, recomputed]."""
    published, recomputed = pl.col(column), pl.col(column + _RECOMPUTED)
    dtype = both.schema[column]
    nothing = pl.lit([] if isinstance(dtype, pl.List) else "" if dtype == pl.String else 0, dtype=dtype)
    return both.filter(published.fill_null(nothing) != recomputed.fill_null(nothing)).select(
        *key,
        pl.lit(column).alias("column"),
        _text(published, dtype).alias("published"),
        _text(recomputed, dtype).alias("recomputed"),
    )


def _text(value: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    return value.cast(pl.List(pl.String)).list.join(" ") if isinstance(dtype, pl.List) else value.cast(pl.String)
