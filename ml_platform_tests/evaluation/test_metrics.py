import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, log_loss, roc_auc_score

from ml_platform.evaluation.metrics import (
    BadScores,
    OneClass,
    compute_auc,
    compute_average_precision,
    compute_ece,
    compute_log_loss,
    mass_bins,
    rank_cells,
    rank_metrics,
)

METRICS = (compute_auc, compute_average_precision, compute_log_loss, compute_ece)


def rows(n: int = 400, decimals: int = 9, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    labels = (generator.random(n) < 0.3).astype(np.int64)
    return labels, np.round(0.7 * generator.random(n) + 0.2 * labels, decimals)


def test_hand_computed_figures():
    labels, scores = np.array([0, 1, 0, 1]), np.array([0.1, 0.3, 0.3, 0.8])
    # Pairs: .3 beats .1, ties .3; .8 beats both → 3.5 of 4. Precision: 1 at .8, 2/3 at .3 → (1 + 2/3) / 2.
    assert compute_auc(labels, scores) == 3.5 / 4
    assert compute_average_precision(labels, scores) == pytest.approx((1 + 2 / 3) / 2)
    assert compute_log_loss(labels, scores) == pytest.approx(-np.log([0.9, 0.3, 0.7, 0.8]).mean())
    # Two bins of equal mass cannot part the tie at .3: |.1 - 0| * 1/4 and |1.4 - 2|/3 * 3/4, or the tie goes below.
    assert mass_bins(scores, 2).tolist() == [0, 1, 1, 1]
    assert compute_ece(labels, scores, bins=2) == pytest.approx(0.1 / 4 + 0.6 / 4)


@pytest.mark.parametrize("decimals", [9, 2, 1, 0])
def test_ranking_metrics_equal_scikit_learns_whatever_the_ties(decimals: int):
    labels, scores = rows(decimals=decimals)
    assert compute_auc(labels, scores) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    assert compute_average_precision(labels, scores) == pytest.approx(
        average_precision_score(labels, scores), abs=1e-12
    )


def test_log_loss_equals_scikit_learns_even_for_certain_scores():
    labels, scores = rows(decimals=2)
    scores[:3] = [0.0, 1.0, 0.0]
    labels[:3] = [1, 1, 0]
    assert compute_log_loss(labels, scores) == pytest.approx(log_loss(labels, scores), rel=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 5), st.integers(0, 3)), min_size=2, max_size=40))
def test_weighting_rows_is_repeating_them(drawn: list[tuple[int, int, int]]):
    labels, scores, times = (np.array(column) for column in zip(*drawn))
    repeated_labels, repeated_scores = np.repeat(labels, times), np.repeat(scores / 10, times)
    if labels.min() == labels.max() or len(set(repeated_labels)) < 2:
        return
    cells, count = rank_cells(labels, scores / 10)
    positives = np.bincount(cells, labels * times, count)[:, None]
    negatives = np.bincount(cells, (1 - labels) * times, count)[:, None]
    auc, average_precision = rank_metrics(positives, negatives)
    assert auc[0] == pytest.approx(roc_auc_score(repeated_labels, repeated_scores), abs=1e-12)
    assert average_precision[0] == pytest.approx(average_precision_score(repeated_labels, repeated_scores), abs=1e-12)


@pytest.mark.parametrize("metric", METRICS)
def test_row_order_does_not_matter(metric):
    labels, scores = rows(decimals=1)
    order = np.random.default_rng(1).permutation(len(labels))
    assert metric(labels[order], scores[order]) == pytest.approx(metric(labels, scores), abs=1e-14)


def test_a_constant_score_ranks_like_chance_and_has_the_calibration_error_of_its_mean():
    labels = np.array([1, 0, 0, 0] * 25)
    scores = np.full(100, 0.35)
    assert compute_auc(labels, scores) == 0.5
    assert compute_average_precision(labels, scores) == 0.25
    assert compute_ece(labels, scores) == pytest.approx(0.10)


def test_bins_hold_equal_shares_of_rows():
    _, scores = rows(n=3000)
    assert np.bincount(mass_bins(scores)).tolist() == [200] * 15


@pytest.mark.parametrize("metric", [compute_auc, compute_average_precision])
@pytest.mark.parametrize("label", [0, 1])
def test_ranking_one_class_is_refused(metric, label: int):
    with pytest.raises(OneClass, match=f"all 5 rows have the label {label}"):
        metric(np.full(5, label), np.linspace(0, 1, 5))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite_are_refused(metric, value: float):
    labels, scores = rows(n=20)
    scores[3] = value
    with pytest.raises(BadScores, match="1 of 20 scores are not finite"):
        metric(labels, scores)


@pytest.mark.parametrize("metric", METRICS)
def test_labels_besides_0_and_1_no_rows_and_unequal_lengths_are_refused(metric):
    with pytest.raises(BadScores, match="besides 0 and 1"):
        metric(np.array([0, 2]), np.array([0.1, 0.2]))
    with pytest.raises(BadScores, match="at least one row"):
        metric(np.array([]), np.array([]))
    with pytest.raises(BadScores, match="shape"):
        metric(np.array([0, 1]), np.array([0.1, 0.2, 0.3]))


@pytest.mark.parametrize("metric", [compute_log_loss, compute_ece])
def test_margins_are_refused_where_probabilities_are_wanted(metric):
    with pytest.raises(BadScores, match=r"outside \[0, 1\]"):
        metric(np.array([0, 1]), np.array([-1.2, 2.0]))
