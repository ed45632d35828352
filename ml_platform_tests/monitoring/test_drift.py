"""Drift: figures by hand, verdicts on weeks whose story is known."""

import io
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from assets.feature_tables import FEATURE_TABLES
from ml_platform.errors import ConfigurationError
from ml_platform.monitoring.drift import (
    DriftReport,
    compute_js,
    compute_psi,
    count_parquet,
    growing_features,
    judge_drift,
    noise_floor,
)
from ml_platform.monitoring.plots import drift_markdown, score_shift_plot, shifts_plot
from ml_platform.monitoring.policy import DriftPolicy
from ml_platform.monitoring.sketch import Sketch, SketchMismatch, build_sketch, count_into, nothing_in
from ml_platform.training.job import TrainingFailed

GAINS = {"shop:spend": 60.0, "shop:trips": 30.0, "shop:gap": 10.0, "shop:ever": 100.0}


def week(seed: int, rows: int = 5000, **moved: float) -> dict[str, np.ndarray]:
    """A week of the shop; `moved` shifts a column: spend, trips, ever or score, by so much."""
    random = np.random.default_rng(seed)
    return {
        "shop:spend": random.normal(moved.get("spend", 0), 1, rows),
        "shop:trips": random.poisson(2 + moved.get("trips", 0), rows).astype(np.float64),
        "shop:gap": np.where(random.random(rows) < moved.get("gap_missing", 0.2), np.nan, random.gamma(2, 3, rows)),
        "shop:ever": random.poisson(20 + moved.get("ever", 0), rows).astype(np.float64),
        "score": np.clip(random.beta(2, 8, rows) + moved.get("score", 0), 0, 1),
    }


REFERENCE = build_sketch(week(0, rows=20_000))


def judged(columns: dict[str, np.ndarray], growing: frozenset[str] = frozenset()) -> DriftReport:
    return judge_drift(REFERENCE, count_into(REFERENCE, columns), GAINS, growing)


def test_psi_is_what_it_is_by_hand() -> None:
    # Half a row is added to each cell: these shares are (1/2, 1/2) and (1/4, 3/4).
    found = compute_psi(np.array([49.5, 49.5]), np.array([24.5, 74.5]))
    assert found == pytest.approx(0.25 * math.log(2) + 0.25 * math.log(1.5))
    assert compute_psi(np.array([10, 20, 70]), np.array([10, 20, 70])) == 0


def test_psi_stays_finite_where_a_cell_is_empty() -> None:
    # (100.5, .5) / 101 against (.5, 100.5) / 101.
    assert compute_psi(np.array([100, 0]), np.array([0, 100])) == pytest.approx(2 * 100 / 101 * math.log(201))


def test_js_is_what_it_is_by_hand_in_bits() -> None:
    assert compute_js(np.array([5, 0]), np.array([0, 7])) == 1.0
    assert compute_js(np.array([3, 9]), np.array([1, 3])) == pytest.approx(0, abs=1e-12)
    by_hand = (0.5 * math.log2(0.5 / 0.75) + 0.5 * math.log2(0.5 / 0.25) + math.log2(1 / 0.75)) / 2
    assert compute_js(np.array([8, 8]), np.array([8, 0])) == pytest.approx(by_hand)


def test_missing_values_are_a_cell_of_the_psi_and_their_shares_are_shown() -> None:
    report = judged(week(1, gap_missing=0.6))
    (gap,) = [shift for shift in report.shifts if shift.column == "shop:gap"]
    assert gap.missing_then == pytest.approx(0.2, abs=0.01) and gap.missing_now == pytest.approx(0.6, abs=0.03)
    expected = (0.6 - 0.2) * math.log(0.6 / 0.2) + (0.8 - 0.4) * math.log(0.8 / 0.4)
    assert gap.psi == pytest.approx(expected, abs=0.05)
    assert report.shifts[0] is gap and "shop:gap" in report.cause and "missing 20% → " in report.cause


def test_the_noise_floor_is_what_a_week_like_training_exceeds_one_time_in_twenty() -> None:
    column = REFERENCE.column("shop:spend")
    random, floor = np.random.default_rng(3), noise_floor(column, 1000, DriftPolicy(replicates=1000))
    drawn = random.multinomial(1000, column.cells / column.cells.sum(), 2000)
    assert (compute_psi(column.cells, drawn) > floor).mean() == pytest.approx(0.05, abs=0.02)


def test_fewer_rows_have_more_noise_and_a_seed_gives_the_same_floor() -> None:
    column = REFERENCE.column("score")
    floors = [noise_floor(column, rows) for rows in (50, 500, 5000)]
    assert floors == sorted(floors, reverse=True) and floors[0] > 50 * floors[2]
    assert noise_floor(column, 500) == floors[1] != noise_floor(column, 500, DriftPolicy(seed=1))


def test_a_week_like_training_is_calm() -> None:
    report = judged(week(1))
    assert (report.verdict, report.rows) == ("calm", 5000)
    assert max(shift.psi for shift in (report.score, *report.shifts)) < 0.02
    assert report.figures() == {
        "rows": 5000,
        "score_psi": round(report.score.psi, 4),
        "score_noise": round(report.score.noise, 4),
        "feature_psi": round(report.feature_psi, 4),
    }


def test_a_moved_score_is_drift_and_the_cause_has_its_figure_and_the_columns_that_moved() -> None:
    report = judged(week(1, score=0.1, trips=0.7))
    assert report.verdict == "drifted" and report.score.psi > 0.25 > report.feature_psi
    assert f"score {report.score.psi:.2f} (above 0.25)" in report.cause and "shop:trips" in report.cause


def test_features_that_moved_are_drift_even_under_a_score_that_did_not() -> None:
    report = judged(week(1, spend=2.0), growing=frozenset({"shop:ever"}))
    assert report.verdict == "drifted" and report.score.psi < 0.02
    spend = report.shifts[0]
    assert spend.column == "shop:spend" and report.feature_psi == pytest.approx(0.6 * spend.psi, rel=0.01)
    assert "above 0.5) by importance; most moved: shop:spend" in report.cause


def test_a_column_that_grows_by_nature_is_shown_and_not_counted() -> None:
    moved = week(1, ever=20)
    assert judged(moved).verdict == "drifted"
    report = judged(moved, growing=frozenset({"shop:ever"}))
    assert report.verdict == "calm"
    (ever,) = [shift for shift in report.shifts if shift.column == "shop:ever"]
    assert ever.psi > 1 and ever.grows and ever.weight == 0 and "shop:ever" not in report.cause


def test_a_column_without_any_value_is_a_fault_of_the_data_and_named_as_one() -> None:
    report = judged(week(1, gap_missing=1.1))
    assert report.verdict == "calm" and report.vanished == ("shop:gap",)
    assert report.cause.endswith("without any value: shop:gap") and report.shifts[0].column == "shop:gap"


def test_a_shift_that_chance_explains_is_not_drift_however_large() -> None:
    report = judged(week(5, rows=12))
    assert 0.25 < report.score.psi < report.score.noise and report.verdict == "calm"


def test_a_week_without_rows_is_neither_calm_nor_drifted() -> None:
    report = judge_drift(REFERENCE, nothing_in(REFERENCE), GAINS)
    assert (report.verdict, report.rows, report.shifts) == ("empty", 0, ())
    assert drift_markdown(report, REFERENCE, nothing_in(REFERENCE)) == report.cause


def test_columns_are_ranked_by_importance_times_what_exceeds_the_noise() -> None:
    report = judged(week(1, spend=0.5, gap_missing=0.6))
    assert [shift.column for shift in report.shifts[:2]] == ["shop:spend", "shop:gap"]
    assert report.shifts[0].psi < report.shifts[1].psi and report.shifts[0].importance == 0.3
    assert sum(shift.importance for shift in report.shifts) == pytest.approx(1)
    for shift in report.shifts:
        assert shift.weight == pytest.approx(shift.importance * max(0, shift.psi - shift.noise))
    heavier = judge_drift(REFERENCE, count_into(REFERENCE, week(1, spend=0.5)), {"shop:spend": 1.0})
    assert heavier.shifts[0].column == "shop:spend" and heavier.feature_psi == heavier.shifts[0].psi


def test_the_order_of_columns_moves_no_figure() -> None:
    now = count_into(REFERENCE, week(1, spend=0.5))
    turned = [Sketch(sketch.rows, sketch.columns[::-1]) for sketch in (REFERENCE, now)]
    assert judge_drift(turned[0], turned[1], GAINS).table() == judge_drift(REFERENCE, now, GAINS).table()


def test_a_model_without_importance_weighs_its_features_alike() -> None:
    report = judge_drift(REFERENCE, count_into(REFERENCE, week(1)), {})
    assert {shift.importance for shift in report.shifts} == {0.25}


def test_a_sketch_of_other_bins_or_without_a_score_is_refused() -> None:
    other = build_sketch(week(9))
    with pytest.raises(SketchMismatch, match="different bins"):
        judge_drift(REFERENCE, other, GAINS)
    bare = build_sketch({"shop:spend": np.arange(5)})
    with pytest.raises(SketchMismatch, match="no such column"):
        judge_drift(bare, bare, GAINS)


def test_parquet_is_counted_batch_by_batch_as_the_same_rows_in_memory(tmp_path: Path) -> None:
    parts = [week(1, rows=70_000), week(2, rows=100)]
    paths = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    for part, path in zip(parts, paths):
        named = {name.replace(":", "__"): pa.array(values, from_pandas=True) for name, values in part.items()}
        pq.write_table(pa.table({**named, "household_id": pa.array(["x"] * len(part["score"]))}), path)
    whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    assert count_parquet(REFERENCE, paths) == count_into(REFERENCE, whole)
    with pytest.raises(TrainingFailed, match=r"feature column is missing \[elsewhere\]"):
        count_parquet(REFERENCE, paths, dict.fromkeys(REFERENCE.names, "elsewhere"))


def test_lifetime_counts_are_the_columns_declared_to_grow() -> None:
    every = [f"{table.name}:{column.name}" for table in FEATURE_TABLES.values() for column in table.values]
    assert growing_features(every, FEATURE_TABLES) == {
        "household:trips_ever",
        "household:redemptions_ever",
        "household_category:days_ever",
        "household_baskets:baskets",
        "household_baskets:distinct_products",
    }


@pytest.mark.parametrize("wrong", [{"score_psi": 0}, {"feature_psi": -1}, {"replicates": 5}])
def test_a_policy_that_cannot_decide_is_refused(wrong: dict) -> None:
    with pytest.raises(ConfigurationError, match="DriftPolicy"):
        DriftPolicy(**wrong)


def test_pictures_are_small_pngs_of_the_same_width() -> None:
    now = count_into(REFERENCE, week(1, score=0.1, spend=1.0))
    report = judge_drift(REFERENCE, now, GAINS, frozenset({"shop:ever"}))
    pictures = [shifts_plot(report), score_shift_plot(REFERENCE.column("score"), now.column("score"))]
    for png in pictures:
        assert Image.open(io.BytesIO(png)).size[0] == 700 and len(png) < 60_000
    assert drift_markdown(report, REFERENCE, now).count("data:image/png") == 2
    assert shifts_plot(report, shown=1) != pictures[0]
