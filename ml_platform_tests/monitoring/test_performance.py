"""Realised performance: what was predicted then, met with what came."""

from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest

from ml_platform.evaluation.bootstrap import Measurement
from ml_platform.evaluation.gates import GateResult, Verdict, VerdictCorrupt
from ml_platform.evaluation.metrics import compute_auc, compute_ece, compute_log_loss
from ml_platform.monitoring.performance import (
    CannotCompare,
    Figure,
    Promise,
    breached,
    is_mature,
    paired,
    promised,
    realised,
    state_of,
    unmatched,
    week_figures,
)
from ml_platform_tests.evaluation.conftest import a_spec

SPEC = a_spec()
MONDAYS = [date(2017, 6, 5), date(2017, 6, 12)]
HOUSEHOLDS = 400


def truth(week: int) -> np.ndarray:
    return np.random.default_rng(week).uniform(0.02, 0.7, HOUSEHOLDS)


def labels_of(week: int) -> pl.DataFrame:
    came = np.random.default_rng(100 + week).random(HOUSEHOLDS) < truth(week)
    return pl.DataFrame({"household_id": np.arange(HOUSEHOLDS), "as_of": MONDAYS[week], "label": came.astype(np.int8)})


def predictions_of(week: int, version: int, role: str, noise: float = 0.0) -> pl.DataFrame:
    """Scores that miss the true chances by `noise`."""
    off = np.random.default_rng(200 + week).normal(0, noise, HOUSEHOLDS) if noise else 0
    return pl.DataFrame(
        {
            "household_id": np.arange(HOUSEHOLDS),
            "as_of": MONDAYS[week],
            "score": np.clip(truth(week) + off, 0.01, 0.99),
            "model_version": version,
            "role": role,
        }
    )


def weeks(champion_noise: float, challenger_noise: float) -> pl.DataFrame:
    """Two matured Mondays of version 1 as champion and version 2 in its shadow."""
    return pl.concat(
        realised(
            pl.concat(
                [
                    predictions_of(week, 1, "champion", champion_noise),
                    predictions_of(week, 2, "challenger", challenger_noise),
                ]
            ),
            labels_of(week),
            SPEC,
        )
        for week in (0, 1)
    )


def test_predictions_meet_the_labels_that_came_and_keep_the_scores_they_were_made_with() -> None:
    made = predictions_of(0, 1, "champion")
    frame = realised(made.sample(fraction=1, shuffle=True, seed=1), labels_of(0), SPEC)
    assert frame.columns == ["household_id", "as_of", "role", "model_version", "score", "label"]
    assert frame["score"].to_list() == made["score"].to_list()
    assert frame["label"].to_list() == labels_of(0)["label"].to_list()
    assert unmatched(made, labels_of(0), SPEC) == ""


def test_rows_without_a_partner_are_left_out_and_said() -> None:
    both = pl.concat([predictions_of(0, 1, "champion")[10:], predictions_of(0, 2, "challenger")[10:]])
    some = labels_of(0).with_columns(label=pl.when(pl.col("household_id") >= 397).then(None).otherwise(pl.col("label")))
    assert realised(both, some, SPEC).height == 2 * 387
    said = unmatched(both, some, SPEC)
    assert "10 of 397 labels have no prediction" in said
    assert "3 of 390 predictions of the champion have no label" in said and "of the challenger" in said


def test_predictions_from_before_there_were_roles_are_the_champions() -> None:
    frame = realised(predictions_of(0, 1, "champion").drop("role"), labels_of(0), SPEC)
    assert frame["role"].unique().to_list() == ["champion"]


def test_rows_that_are_there_twice_are_refused() -> None:
    with pytest.raises(CannotCompare, match="labels name 400 rows twice"):
        realised(predictions_of(0, 1, "champion"), pl.concat([labels_of(0)] * 2), SPEC)
    with pytest.raises(CannotCompare, match="predictions name 400 rows twice"):
        realised(pl.concat([predictions_of(0, 1, "champion")] * 2), labels_of(0), SPEC)


def test_a_label_is_mature_when_horizon_and_lateness_have_passed() -> None:
    assert is_mature(MONDAYS[0], MONDAYS[0] + timedelta(days=35), SPEC)
    assert not is_mature(MONDAYS[0], MONDAYS[0] + timedelta(days=34), SPEC)


def test_each_week_role_and_version_has_its_figures_with_intervals_round_them() -> None:
    frame = weeks(0.0, 0.2)
    figures = week_figures(frame, SPEC, replicates=60)
    assert [(f.as_of, f.role, f.model_version) for f in figures] == [
        (MONDAYS[0], "challenger", 2),
        (MONDAYS[0], "champion", 1),
        (MONDAYS[1], "challenger", 2),
        (MONDAYS[1], "champion", 1),
    ]
    rows = frame.filter(as_of=MONDAYS[1], role="champion")
    labels, scores = rows["label"].to_numpy(), rows["score"].to_numpy()
    last = figures[-1]
    assert (last.rows, last.positives, last.state) == (HOUSEHOLDS, labels.sum(), "measured")
    for name, metric in (("auc", compute_auc), ("log_loss", compute_log_loss), ("ece", compute_ece)):
        assert last.figures[name].value == pytest.approx(metric(labels, scores))
    for figure in (last.figures["auc"], last.figures["log_loss"]):
        assert figure.value is not None and figure.low is not None and figure.high is not None
        assert figure.low < figure.value < figure.high
    assert str(last.figures["log_loss"]) == last.row()["log_loss"] and "[" in str(last.figures["log_loss"])


def test_a_week_of_one_class_has_a_log_loss_and_no_ranking_and_an_empty_one_has_no_figures() -> None:
    nobody = labels_of(0).with_columns(label=pl.lit(0, dtype=pl.Int8))
    frame = realised(predictions_of(0, 1, "champion"), nobody, SPEC)
    (figures,) = week_figures(frame, SPEC, replicates=20)
    assert (figures.state, figures.positives, figures.figures["auc"]) == ("one_class", 0, Figure(None))
    assert figures.figures["log_loss"].value is not None and str(figures.figures["auc"]) == "not defined"
    none = realised(predictions_of(0, 1, "champion"), labels_of(1), SPEC)
    assert (state_of(none, SPEC), week_figures(none, SPEC)) == ("empty", ())


def test_a_better_challenger_gains_over_the_champion_on_the_same_rows() -> None:
    frame = weeks(0.25, 0.0)
    found = paired(frame, 1, 2, SPEC, replicates=100)
    losses = {
        version: compute_log_loss(rows["label"].to_numpy(), rows["score"].to_numpy())
        for version in (1, 2)
        for rows in [frame.filter(model_version=version)]
    }
    assert (found.weeks, found.rows, found.positives) == (2, 2 * HOUSEHOLDS, frame["label"].sum() // 2)
    assert found.a == pytest.approx(losses[1]) and found.b == pytest.approx(losses[2])
    assert found.gain == pytest.approx(losses[1] - losses[2])
    assert found.low is not None and found.high is not None and 0 < found.low < found.gain < found.high
    back = paired(frame, 2, 1, SPEC, replicates=100)
    assert (back.gain, back.low, back.high) == pytest.approx((-found.gain, -found.high, -found.low))


def test_the_interval_of_a_pair_draws_whole_households() -> None:
    """Copies of the same households' weeks bring no more certainty, as copies of rows would."""
    frame = weeks(0.25, 0.0).filter(as_of=MONDAYS[0])
    copies = pl.concat(frame.with_columns(as_of=pl.lit(MONDAYS[0] + timedelta(weeks=week))) for week in range(4))
    once, often = (paired(each, 1, 2, SPEC, replicates=100) for each in (frame, copies))
    assert often.rows == 4 * once.rows and often.weeks == 4
    assert (often.low, often.high) == pytest.approx((once.low, once.high))


def test_versions_are_paired_only_on_rows_that_both_scored_and_none_is_no_crash() -> None:
    frame = weeks(0.1, 0.0)
    less = frame.filter((pl.col("model_version") == 1) | (pl.col("household_id") < 100))
    assert paired(less, 1, 2, SPEC, replicates=20).rows == 200
    nothing = paired(frame, 1, 7, SPEC)
    assert (nothing.rows, nothing.weeks, nothing.gain, nothing.low) == (0, 0, None, None)
    assert nothing.to_json()["b_version"] == 7


def a_verdict() -> Verdict:
    def measurement(kind: str, group: str, metric: str, value: float, model: str = "candidate") -> Measurement:
        return Measurement(kind, group, 100, 10, model, metric, value, value - 0.02, value + 0.02)  # type: ignore[arg-type]

    return Verdict(
        model="toy",
        artifact_digest="a" * 64,
        champion_digest=None,
        evaluation_digest="e" * 64,
        gates=(GateResult("calibrated", True, 0.01, 0.02, "fine"),),
        measurements=(
            measurement("all", "all", "auc", 0.90),
            measurement("all", "all", "log_loss", 0.12),
            measurement("as_of", "2017-07-03", "auc", 0.85),
            measurement("as_of", "2017-07-03", "log_loss", 0.20),
            measurement("slice", "spend below 20", "log_loss", 0.9),
            measurement("all", "all", "log_loss", 0.5, model="champion"),
        ),
    )


def test_a_promise_is_what_the_candidate_showed_at_its_least_on_all_rows_or_on_one_monday() -> None:
    promise = promised(SPEC, a_verdict().to_json())
    assert promise.figures == {"auc": Figure(0.90, 0.88, 0.92), "log_loss": Figure(0.12, 0.12 - 0.02, 0.12 + 0.02)}
    assert promise.bounds == pytest.approx({"auc": 0.83, "log_loss": 0.22})
    with pytest.raises(VerdictCorrupt):
        promised(SPEC, {**a_verdict().to_json(), "model": "another"})


def test_a_promise_is_broken_only_by_a_week_whose_whole_interval_is_worse() -> None:
    (figures,) = week_figures(weeks(0.0, 0.0).filter(as_of=MONDAYS[0], role="champion"), SPEC, replicates=60)
    low, high = figures.figures["log_loss"].low, figures.figures["auc"].high
    assert low is not None and high is not None
    assert breached(figures, Promise({}, {"auc": high - 1e-6, "log_loss": low + 1e-6})) == ()
    auc, loss = breached(figures, Promise({}, {"auc": high + 1e-3, "log_loss": low - 1e-3}))
    assert auc.startswith(f"AUC {figures.figures['auc']}, promised at least") and loss.startswith("log loss")
    assert breached(figures, Promise({}, {})) == ()
