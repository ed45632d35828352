"""The point-in-time audit: a sample of every feature partition, recomputed from raw lines by another query.

A partition that holds data from a week later or earlier than it says, whatever its label and wherever the shift was
made, cannot agree with a recomputation that reads only what had landed before its Monday: the two are compared value by
value, to the bit. Metadata cannot prove this, for the code that leaks is the code that writes it.
"""

from dataclasses import dataclass

import polars as pl

from ml_platform.contracts import FeatureTable

SAMPLED_ENTITIES = 50


@dataclass(frozen=True)
class AuditOutcome:
    """`compared` counts values; `mismatches`: [key…, column, published, recomputed], values as text, null: no row."""

    compared: int
    mismatches: pl.DataFrame

    @property
    def passed(self) -> bool:
        return self.compared > 0 and self.mismatches.is_empty()


def sampled_entities(table: FeatureTable, frame: pl.DataFrame) -> list[int]:
    """At most SAMPLED_ENTITIES values of the first entity column (the household), spread by hash: the same for the
    same rows. All rows of a sampled household are audited, so a row that should be there and is not is found too."""
    ids = frame.select(pl.col(table.entity[0]).unique().alias("id"))
    return ids.sort(pl.col("id").hash(seed=0), "id")["id"].head(SAMPLED_ENTITIES).to_list()


def audit_point_in_time(
    table: FeatureTable, features: pl.DataFrame, recomputed: pl.DataFrame, entities: list[int]
) -> AuditOutcome:
    """Compares the published rows of the sampled entities with the recomputation, over the columns this has.

    A row that one side lacks counts as a row of zeros: a household without a line may stand in the table for another
    reason, but then it has bought nothing.
    """
    key = list(table.key)
    columns = [name for name in recomputed.columns if name not in key]
    sampled = features.filter(pl.col(table.entity[0]).is_in(entities))
    ours = _long(table, sampled, key, columns, "published")
    theirs = _long(table, recomputed, key, columns, "recomputed")
    both = ours.join(theirs, on=[*key, "column"], how="full", coalesce=True)
    differ = both.filter(pl.col("published").fill_null(0) != pl.col("recomputed").fill_null(0))
    shown = differ.with_columns(pl.col("published", "recomputed").cast(pl.String))
    return AuditOutcome(both.height, shown.sort([*key, "column"]))


def _long(table: FeatureTable, frame: pl.DataFrame, key: list[str], columns: list[str], name: str) -> pl.DataFrame:
    """One row a value. As Float64: cents and counts are exact in it below 2**53."""
    schema = table.schema()
    exact = frame.select(*(pl.col(each).cast(schema[each]) for each in key), pl.col(columns).cast(pl.Float64))
    return exact.unpivot(index=key, on=columns, variable_name="column", value_name=name)
