from collections.abc import Sequence

import numpy as np
import polars as pl
import pytest

from ml_platform.evaluation.baselines import BadFrame, fit_baseline
from ml_platform.evaluation.metrics import BadScores, compute_auc, compute_log_loss
from ml_platform.training.spec import Baseline
from ml_platform_tests.evaluation.conftest import GAP, SPEND, TRIPS, Workshop

TABLE = Baseline("table", "rate_table", (TRIPS,))
LOGISTIC = Baseline("logistic", "logistic", (SPEND, TRIPS, GAP))


def flags(train: Sequence[tuple[float | None, int]], stop: Sequence[tuple[float | None, int]]) -> pl.DataFrame:
    rows = [("train", *row) for row in train] + [("stop", *row) for row in stop]
    schema = {"role": pl.String, "household__trips": pl.Float64, "label": pl.Int8}
    return pl.DataFrame(rows, schema=schema, orient="row")


def asked(*values: float | None) -> pl.DataFrame:
    return pl.DataFrame({"household__trips": values}, schema={"household__trips": pl.Float64})


def test_a_rate_table_gives_the_label_rate_of_each_value():
    train = [(0.0, 0)] * 900 + [(0.0, 1)] * 100 + [(1.0, 0)] * 200 + [(1.0, 1)] * 800
    fitted = fit_baseline(TABLE, flags(train, train))
    assert fitted.settings["smoothing_rows"] == 1.0
    assert fitted.score(asked(0.0, 1.0)) == pytest.approx([100.45 / 1001, 800.45 / 1001])


def test_a_missing_value_is_a_cell_of_its_own_and_an_unseen_one_has_the_base_rate():
    train = [(0.0, 0)] * 50 + [(1.0, 1)] * 50 + [(None, 1)] * 30 + [(None, 0)] * 70
    fitted = fit_baseline(TABLE, flags(train, train))
    assert fitted.score(asked(None))[0] == pytest.approx(0.3, abs=0.01)
    without = fit_baseline(TABLE, flags(train[:100], train[:100]))
    assert without.score(asked(None))[0] == 0.5


def test_what_is_tuned_is_tuned_on_the_stop_rows_only():
    generator = np.random.default_rng(0)
    noise = [(float(value), int(label)) for value, label in zip(range(200), generator.random(200) < 0.5)]
    # On the training rows the finest table is best; the stop rows show that it says nothing.
    unlike = [(value, 1 - label) for value, label in noise]
    smoothed = fit_baseline(TABLE, flags(noise, unlike))
    trusted = fit_baseline(TABLE, flags(noise, noise))
    assert smoothed.settings["smoothing_rows"] == 1000.0
    assert (trusted.settings["bins"], trusted.settings["smoothing_rows"]) == (50, 1.0)
    moved = flags(noise, noise).with_columns(
        role=pl.when(pl.col("role") == "stop").then(pl.lit("evaluate")).otherwise("role")
    )
    with pytest.raises(BadFrame, match="no rows of role stop"):
        fit_baseline(TABLE, moved)


def test_only_training_rows_are_fitted_on(workshop: Workshop):
    spoilt = workshop.training_set.with_columns(
        label=pl.when(pl.col("role") == "evaluate").then(1 - pl.col("label")).otherwise("label")
    )
    for baseline in (TABLE, LOGISTIC):
        fitted, refitted = fit_baseline(baseline, workshop.training_set), fit_baseline(baseline, spoilt)
        assert (fitted.score(workshop.evaluate_rows) == refitted.score(workshop.evaluate_rows)).all()


def test_the_logistic_regression_comes_close_to_the_truth_despite_missing_values(workshop: Workshop):
    rows, labels = workshop.evaluate_rows, workshop.labels
    assert rows["household__gap"].null_count() > 100
    scores = fit_baseline(LOGISTIC, workshop.training_set).score(rows)
    assert compute_auc(labels, scores) > compute_auc(labels, workshop.truth) - 0.005
    assert compute_log_loss(labels, scores) < compute_log_loss(labels, workshop.truth) + 0.005


def test_a_skewed_column_is_logged_where_the_stop_rows_say_so():
    generator = np.random.default_rng(2)
    spend = generator.lognormal(3, 1.5, 6000)
    chance = 1 / (1 + np.exp(-1.5 * (np.log1p(spend) - 3)))
    frame = pl.DataFrame(
        {
            "role": ["train"] * 4000 + ["stop"] * 2000,
            "household__spend": spend,
            "label": (generator.random(6000) < chance).astype(np.int8),
        }
    )
    assert fit_baseline(Baseline("logistic", "logistic", (SPEND,)), frame).settings["transform"] == "log1p"
    linear = frame.with_columns(household__spend=np.log1p(spend) - 3)
    assert fit_baseline(Baseline("logistic", "logistic", (SPEND,)), linear).settings["transform"] == "plain"


def test_fitting_twice_gives_the_same_bits_whatever_the_row_order(workshop: Workshop):
    shuffled = workshop.training_set.sample(fraction=1, shuffle=True, seed=1)
    for baseline in (TABLE, LOGISTIC):
        scores = [
            fit_baseline(baseline, frame).score(workshop.evaluate_rows) for frame in (workshop.training_set, shuffled)
        ]
        assert (scores[0] == scores[1]).all()


def test_a_column_that_never_varies_is_harmless(workshop: Workshop):
    frame = workshop.training_set.with_columns(
        household__gap=pl.lit(None, dtype=pl.Float64), household__spend=pl.lit(3)
    )
    scores = fit_baseline(LOGISTIC, frame).score(frame.filter(pl.col("role") == "evaluate"))
    assert np.isfinite(scores).all() and len(np.unique(scores)) > 3


def test_unfit_frames_are_refused_with_the_reason(workshop: Workshop):
    frame = workshop.training_set
    with pytest.raises(BadFrame, match="lacks household__trips"):
        fit_baseline(TABLE, frame.drop("household__trips"))
    with pytest.raises(BadFrame, match="hold no numbers"):
        fit_baseline(TABLE, frame.with_columns(household__trips=pl.lit("many")))
    with pytest.raises(BadFrame, match="infinite"):
        fit_baseline(TABLE, frame.with_columns(household__trips=pl.lit(float("inf"))))
    with pytest.raises(BadFrame, match="all training labels are 0"):
        fit_baseline(TABLE, frame.with_columns(label=pl.lit(0, dtype=pl.Int8)))
    with pytest.raises(BadScores, match="besides 0 and 1"):
        fit_baseline(TABLE, frame.with_columns(label=pl.lit(None, dtype=pl.Int8)))
    many = [f"spend_{number}" for number in range(9)]
    wide = frame.with_columns(pl.col("household__spend").alias(f"household__{name}") for name in many)
    with pytest.raises(BadFrame, match="more than 1000000 cells"):
        fit_baseline(Baseline("wide", "rate_table", tuple(f"household:{name}" for name in many)), wide)
