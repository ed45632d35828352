"""Evidently's report, and our figures beside Evidently's own on the same rows and the same bins."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest

from ml_platform.monitoring.drift import compute_js, compute_psi
from ml_platform.monitoring.evidently_report import NothingToReport, write_report
from ml_platform.monitoring.sketch import ColumnSketch, Sketch, build_sketch, count_into

ROWS = 4000
PSI_BOUND = 0.002
"""We add half a row to every cell, Evidently puts a small constant into empty ones. On bins that are all filled only
our half rows remain: at least 20 rows a bin and a PSI below 1 keep that within this bound. The Jensen-Shannon figures
are smoothed by neither, and equal."""


def a_week(seed: int, moved: float) -> pl.DataFrame:
    random = np.random.default_rng(seed)
    gap = random.uniform(0, 5 + moved, ROWS)
    return pl.DataFrame(
        {
            "trips": random.binomial(4, 0.5 + moved / 4, ROWS).astype(np.int32),
            "is_member": random.random(ROWS) < 0.3 + moved,
            "share": random.beta(1 + moved, 1, ROWS),
            "gap": pl.Series(gap).scatter(random.permutation(ROWS)[:800], [None] * 800),
        }
    )


THEN, NOW = a_week(1, 0.0), a_week(2, 0.3)


def evidently_figures() -> dict[tuple[str, str], float]:
    """(column, method) → Evidently's figure."""
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    methods = ("psi", "jensenshannon")
    frames = [frame.select(pl.all().cast(pl.Float64)).to_pandas() for frame in (NOW, THEN)]
    shape = DataDefinition(numerical_columns=THEN.columns)
    report = Report([DataDriftPreset(method=method) for method in methods])
    metrics = report.run(*(Dataset.from_pandas(frame, shape) for frame in frames)).dict()["metrics"]
    return {
        (metric["config"]["column"], metric["config"]["method"]): float(metric["value"])
        for metric in metrics
        if metric["metric_name"].startswith("ValueDrift")
    }


def sketches(column: str) -> tuple[np.ndarray, np.ndarray]:
    """Counts of our bins, then and now, without the missing values, which Evidently leaves out.

    A column of few values has one bin a value on both sides. For others Evidently parts the range of both weeks evenly
    (Sturges), so a sketch is given those bins; our own would be of equal mass.
    """
    then, now = (frame[column].cast(pl.Float64).to_numpy() for frame in (THEN, NOW))
    reference = build_sketch({column: then})
    if len(np.unique(then[~np.isnan(then)])) > 20:
        both = pd.concat([pd.Series(then).dropna(), pd.Series(now).dropna()]).to_numpy()
        edges = np.histogram_bin_edges(both, bins="sturges")[1:-1].astype(np.float32)
        empty = ColumnSketch(column, tuple(edges.astype(float).tolist()), (0,) * (len(edges) + 1), 0)
        reference = count_into(Sketch(0, (empty,)), {column: then})
    counted = count_into(reference, {column: now})
    return reference.columns[0].cells[:-1], counted.columns[0].cells[:-1]


def test_our_psi_and_js_are_evidentlys_on_the_same_rows_and_bins() -> None:
    theirs = evidently_figures()
    for column in THEN.columns:
        then, now = sketches(column)
        filled = (then > 0) | (now > 0)
        assert min(then[filled].min(), now[filled].min()) >= 20
        psi, js = float(compute_psi(then, now)), compute_js(then, now)
        assert psi == pytest.approx(theirs[column, "psi"], abs=PSI_BOUND), column
        # Evidently shows the distance in nats: the root of the divergence, whose bits we show.
        assert js * math.log(2) == pytest.approx(theirs[column, "jensenshannon"] ** 2, abs=1e-6), column
        assert 0.02 < psi < 1


def test_the_report_is_whole_and_says_what_it_was_drawn_from(tmp_path: Path) -> None:
    empty = pl.lit(None, dtype=pl.Float64)
    path = tmp_path / "week" / "report.html"
    written = write_report(
        THEN.with_columns(never=empty, household_id=pl.lit("h")), NOW.with_columns(never=empty), path, sample_rows=500
    )
    assert (written.columns, written.left_out) == (("trips", "is_member", "share", "gap"), ("never",))
    assert written.sample() == "500 of 4,000 training rows, 500 of 4,000 rows of the week"
    html = path.read_text()
    assert "</html>" in html and "is_member" in html and "household_id" not in html
    assert [each.name for each in path.parent.iterdir()] == ["report.html"]


def test_frames_that_share_no_column_with_values_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NothingToReport, match="no column to compare"):
        write_report(THEN, NOW.clear(), tmp_path / "report.html")
    assert list(tmp_path.iterdir()) == []
