"""Two engines' rows of one relation, side by side."""

from dataclasses import dataclass

import polars as pl
import polars.selectors as cs

FLOAT_TOLERANCE = 1e-12
"""Relative. Sums are of integers and exact on both engines; a ratio is one division of doubles, a deviation a root."""


@dataclass(frozen=True)
class Compared:
    """`different`: rows that only one of the two has, their doubles left out; `largest`: relative, of any double."""

    relation: str
    rows: int
    columns: int
    doubles: int
    different: int
    largest: float

    @property
    def same(self) -> bool:
        return self.different == 0 and self.largest <= FLOAT_TOLERANCE


def compare(relation: str, expected: pl.DataFrame, found: pl.DataFrame) -> Compared:
    """Compares row by row. What is no double tells the rows apart and must be equal to the bit."""
    assert found.schema == expected.schema, f"{relation}: {found.schema} is not {expected.schema}"
    doubles = expected.select(cs.float()).columns
    # Lists do not sort; as texts they do, and are equal when their texts are.
    told = [pl.col(name).cast(pl.List(pl.String)).list.join(",") for name in expected.select(cs.list()).columns]
    exact = [name for name in expected.columns if name not in doubles]
    left, right = (frame.with_columns(told).sort(exact + doubles, nulls_last=True) for frame in (expected, found))
    different = abs(left.height - right.height)
    if not different:
        different = left.select(exact).with_row_index().join(
            right.select(exact).with_row_index(), on=["index", *exact], how="anti", nulls_equal=True
        ).height  # fmt: skip
    largest = max((_difference(left[name], right[name]) for name in doubles), default=0.0) if not different else 0.0
    return Compared(relation, expected.height, expected.width, len(doubles), different, largest)


def _difference(left: pl.Series, right: pl.Series) -> float:
    """The largest relative difference; infinite where one is null and the other not."""
    if (left.is_null() != right.is_null()).any():
        return float("inf")
    scale = pl.max_horizontal(pl.col("left").abs(), pl.col("right").abs())
    apart = (
        pl.when(pl.col("left") == pl.col("right")).then(0.0).otherwise((pl.col("left") - pl.col("right")).abs() / scale)
    )
    return pl.DataFrame({"left": left, "right": right}).select(apart.max()).item() or 0.0


def as_markdown(compared: list[Compared]) -> str:
    """The table of docs/snowflake.md."""
    head = "| relation | rows | columns | of them doubles | rows that differ | largest difference of a double |"
    return "\n".join(
        [head, "|---|--:|--:|--:|--:|--:|"]
        + [
            f"| {each.relation} | {each.rows:,} | {each.columns} | {each.doubles} | {each.different} "
            f"| {each.largest:g} |"
            for each in compared
        ]
    )
