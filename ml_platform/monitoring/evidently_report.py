"""Evidently's drift report as one HTML file: the pictures people look at. Verdicts are never taken from it.

It is drawn from a sample, because Evidently takes minutes and gigabytes on a million rows; the sample's sizes are part
of what `write_report` returns, to be stated wherever the file is linked. The file needs no network.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from ml_platform.errors import PlatformError
from ml_platform.lake import write_atomically

if TYPE_CHECKING:
    import pandas as pd

SAMPLE_ROWS = 5000
THRESHOLD = 0.25


class NothingToReport(PlatformError):
    """The two frames share no numeric column that has a value in both."""


@dataclass(frozen=True)
class WrittenReport:
    """Where the report lies, and what it was drawn from. `left_out`: columns that have no value on one of the sides."""

    path: Path
    columns: tuple[str, ...]
    left_out: tuple[str, ...]
    reference_rows: int
    current_rows: int
    reference_of: int
    current_of: int

    def sample(self) -> str:
        """The sample in words."""
        return (
            f"{self.reference_rows:,} of {self.reference_of:,} training rows, "
            f"{self.current_rows:,} of {self.current_of:,} rows of the week"
        )


def write_report(
    reference: pl.DataFrame,
    current: pl.DataFrame,
    path: Path,
    sample_rows: int = SAMPLE_ROWS,
    seed: int = 0,
) -> WrittenReport:
    """Draws the drift of every numeric or boolean column of `reference`, and puts the HTML at the path whole.

    The same frames and seed give the same sample. Raises NothingToReport, and LakeWriteFailed when the disk refuses.
    """
    wanted = [name for name, dtype in reference.schema.items() if dtype.is_numeric() or dtype == pl.Boolean]
    sides = [
        frame.sample(min(sample_rows, frame.height), seed=seed).select(
            pl.col(name).cast(pl.Float64) for name in wanted if name in frame.columns
        )
        for frame in (reference, current)
    ]
    usable = tuple(n for n in wanted if all(n in side.columns and side[n].count() for side in sides))
    if not usable:
        raise NothingToReport(
            "there is no column to compare", where=path, next_step="give both frames rows and the same columns"
        )
    then, now = (side.select(usable) for side in sides)
    write_atomically(path, _html(then.to_pandas(), now.to_pandas()).encode(), "drift.report")
    left_out = tuple(name for name in wanted if name not in usable)
    return WrittenReport(path, usable, left_out, then.height, now.height, reference.height, current.height)


def _html(reference: "pd.DataFrame", current: "pd.DataFrame") -> str:
    os.environ.setdefault("DO_NOT_TRACK", "1")
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    shape = DataDefinition(numerical_columns=list(reference.columns))
    report = Report([DataDriftPreset(method="psi", threshold=THRESHOLD)])
    drawn = report.run(Dataset.from_pandas(current, shape), Dataset.from_pandas(reference, shape))
    return drawn.get_html_str(as_iframe=False)
