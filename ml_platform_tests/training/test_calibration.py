"""Isotonic calibration: the fit itself, and what its curve promises."""

import json

import numpy as np
import pytest

from ml_platform.training.calibration import Calibration, fit_calibration, pool_adjacent_violators


@pytest.fixture
def over_confident() -> tuple[np.ndarray, np.ndarray]:
    """Raw scores [20000] that claim twice the log-odds that the labels [20000] follow."""
    rng = np.random.default_rng(3)
    margin = rng.normal(-0.5, 1.0, 20_000)
    labels = (rng.random(20_000) < 1 / (1 + np.exp(-margin))).astype(np.float32)
    return (1 / (1 + np.exp(-2 * margin))).astype(np.float32), labels


@pytest.mark.parametrize("seed", range(5))
def test_the_pooled_blocks_are_the_isotonic_fit_by_its_max_min_formula(seed: int) -> None:
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, 5, 40)
    positives = rng.binomial(counts, np.linspace(0.2, 0.8, 40)).astype(np.float64)
    starts = pool_adjacent_violators(positives, counts)
    fitted = np.repeat(np.add.reduceat(positives, starts) / np.add.reduceat(counts, starts), np.diff([*starts, 40]))

    def mean(first: int, last: int) -> float:
        return positives[first : last + 1].sum() / counts[first : last + 1].sum()

    by_formula = [max(min(mean(j, k) for k in range(i, 40)) for j in range(i + 1)) for i in range(40)]
    np.testing.assert_allclose(fitted, by_formula, rtol=1e-12)


def test_blocks_of_equal_means_are_pooled() -> None:
    assert pool_adjacent_violators(np.array([1.0, 2.0, 1.0]), np.array([3, 6, 1])).tolist() == [0, 2]


def test_calibration_mends_over_confidence_on_rows_it_has_not_seen(
    over_confident: tuple[np.ndarray, np.ndarray],
) -> None:
    raw, labels = over_confident
    calibrated = fit_calibration(raw[:10_000], labels[:10_000]).apply(raw[10_000:])
    bins = np.array_split(np.argsort(calibrated), 15)
    gap = np.mean([abs(calibrated[b].mean() - labels[10_000:][b].mean()) for b in bins])
    before = np.mean([abs(raw[10_000:][b].mean() - labels[10_000:][b].mean()) for b in bins])
    assert gap < 0.02 < 0.08 < before


def test_calibration_keeps_the_ranking_without_ties(over_confident: tuple[np.ndarray, np.ndarray]) -> None:
    raw, labels = over_confident
    distinct = np.unique(raw)
    assert (np.diff(fit_calibration(raw, labels).apply(distinct)) > 0).all()


def test_no_score_is_made_certain_by_blocks_of_one_class() -> None:
    raw = np.linspace(0.01, 0.99, 200, dtype=np.float32)
    scores = fit_calibration(raw, (raw > 0.5).astype(np.float32)).apply(raw)
    assert 0.0 < scores.min() < 0.01 and 0.99 < scores.max() < 1.0


@pytest.mark.parametrize("labels", [[1, 0, 1, 0], [1, 1, 0, 0], [0, 0, 0, 1], [0, 1, 1, 1], [0, 0, 1, 1]])
@pytest.mark.parametrize("raw", [[0.1, 0.2, 0.3, 0.4], [0.0, 0.5, 0.5, 1.0], [0.5, 0.5, 0.5, 0.5]])
def test_the_curve_always_rises_strictly_from_zero_to_one(raw: list[float], labels: list[int]) -> None:
    curve = fit_calibration(np.array(raw, dtype=np.float32), np.array(labels, dtype=np.float32))
    assert (curve.x[0], curve.y[0], curve.x[-1], curve.y[-1]) == (0.0, 0.0, 1.0, 1.0)
    assert (np.diff(curve.x) > 0).all() and (np.diff(curve.y) > 0).all()


def test_a_curve_survives_json_to_the_bit(over_confident: tuple[np.ndarray, np.ndarray]) -> None:
    curve = fit_calibration(*over_confident)
    assert Calibration.from_json(json.loads(json.dumps(curve.to_json()))) == curve


@pytest.mark.parametrize("change", [{"kind": "platt"}, {"y": [0.0, 0.5]}, {"y": [0.0, 0.6, 0.5]}])
def test_a_curve_of_another_kind_or_shape_is_refused(change: dict) -> None:
    with pytest.raises(ValueError, match="not a centred_isotonic curve"):
        Calibration.from_json({"kind": "centred_isotonic", "x": [0.0, 0.5, 1.0], "y": [0.0, 0.3, 1.0], **change})
