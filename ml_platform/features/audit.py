"""The point-in-time audit: a sample of every feature partition, recomputed from raw lines by another query.

A partition that holds data landed on or after its own Monday (features a week late, say, whatever their label says) cannot
agree with a recomputation that reads only what landed before: the two are compared value by value, to the bit.
"""

from dataclasses import dataclass

import polars as pl

from ml_platform.contracts import FeatureTable

SAMPLED_HOUSEHOLDS = 50
MISSING = "no row"


@dataclass(frozen=True)
class AuditOutcome:
    """`compared` counts values; `mismatches`: [key…, as_of, column, published, recomputed] as text."""

    compared: int
    mismatches: pl.DataFrame

    @property
    def passed(self) -> bool:
        return self.compared > 0 and self.mismatches.is_empty()


def sampled_households(frame: pl.DataFrame) -> list[int]:
    """A stable sample: the same households for the same rows, spread by hash."""
    ids = frame.select(pl.col("household_id").unique())
    return ids.sort(pl.col("household_id").hash(seed=0), "household_id")["household_id"].head(SAMPLED_HOUSEHOLDS).to_list()


def audit_point_in_time(table: FeatureTable, features: pl.DataFrame, recomputed: pl.DataFrame) -> AuditOutcome:
    """Compares published features with the recomputation, over the recomputed columns and both sides' rows."""
    key = [*table.key]
    columns = [name for name in recomputed.columns if name not in key]
    households = features.filter(pl.col("household_id").is_in(sampled_households(features)))
    ours = _long(households.filter(pl.col("lines_84d") > 0), key, columns, "published")
    theirs = _long(recomputed, key, columns, "recomputed")
    both = ours.join(theirs, on=[*key, "column"], how="full", coalesce=True)
    differ = both.filter(pl.col("published").ne_missing(pl.col("recomputed")))
    shown = differ.with_columns(pl.col("published", "recomputed").cast(pl.String).fill_null(MISSING))
    return AuditOutcome(both.height, shown.sort([*key, "column"]))


def _long(frame: pl.DataFrame, key: list[str], columns: list[str], name: str) -> pl.DataFrame:
    return frame.select(*(pl.col(each).cast(frame.schema[each]) for each in key), *columns).unpivot(
        index=key, on=columns, variable_name="column", value_name=name
    ).with_columns(pl.col(name).cast(pl.Int64))
