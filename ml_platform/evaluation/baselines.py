"""Simple models a candidate has to beat: a rate table and a logistic regression, fitted on the same rows.

Fitted on the role `train`; what can be tuned (bins, smoothing, transformation, penalty) is tuned by log loss on the
role `stop`, never on what evaluates. A missing value is a value of its own. Fitting has no randomness, and a logistic
score lies on a fine grid, so last-bit differences between linear algebra libraries do not reach the figures.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from ml_platform.errors import PlatformError
from ml_platform.evaluation.metrics import check_labels, compute_log_loss
from ml_platform.training.spec import Baseline

TABLE_BINS = (5, 10, 20, 50)
TABLE_SMOOTHING_ROWS = (1.0, 30.0, 1000.0)
MAX_TABLE_CELLS = 1_000_000
LOGISTIC_TRANSFORMS = ("plain", "log1p")
LOGISTIC_STRENGTHS = (0.001, 0.03, 1.0, 30.0)
"""Inverse strengths of the L2 penalty, scikit-learn's C."""
TUNING_ROWS = 100_000
"""A logistic regression is tuned on at most about this many training rows, evenly spaced; it is fitted on all."""
SKEWED = 1.0
"""A nonnegative column of at least this skewness is a candidate for log1p."""
LOG_ODDS_GRID = 1 / 256


class BadFrame(PlatformError):
    """A frame that cannot be fitted on or scored: a missing column or role, one class, a value that is no number."""


def frame_column(reference: str) -> str:
    """`table:column` as a training set names it: `table__column`."""
    return reference.replace(":", "__")


@dataclass(frozen=True, eq=False)
class FittedBaseline:
    """A baseline ready to score. `settings` are the tuned choices and the log loss they had on the stop rows."""

    name: str
    columns: tuple[str, ...]
    settings: Mapping[str, float | int | str]
    predict: Callable[[np.ndarray], np.ndarray]

    def score(self, frame: pl.DataFrame) -> np.ndarray:
        """Probabilities float64 [n_rows] of a frame with this baseline's feature columns. Raises BadFrame."""
        return self.predict(_matrix(frame, self.columns, self.name))


def fit_baseline(baseline: Baseline, frame: pl.DataFrame) -> FittedBaseline:
    """Fits on the rows of role `train`, tunes on those of role `stop`.

    `frame` holds role, label and `table__column` features. Raises BadFrame, and BadScores for labels besides 0 and 1.
    """
    matrices: list[np.ndarray] = []
    labels: list[np.ndarray] = []
    for role in ("train", "stop"):
        rows = frame.filter(pl.col("role") == role)
        if rows.is_empty():
            raise BadFrame(f"no rows of role {role}", where=baseline.name, next_step="look at the spec's split")
        matrices.append(_matrix(rows, baseline.columns, baseline.name))
        labels.append(check_labels(rows["label"].to_numpy()))
    if labels[0].min() == labels[0].max():
        raise BadFrame(
            f"all training labels are {labels[0][0]}",
            where=baseline.name,
            next_step="train on more Mondays, or correct the label's SQL",
        )
    fit = {"rate_table": _fit_rate_table, "logistic": _fit_logistic}[baseline.kind]
    settings, predict = fit(baseline, matrices[0], labels[0], matrices[1], labels[1])
    return FittedBaseline(baseline.name, baseline.columns, settings, predict)


def _matrix(frame: pl.DataFrame, references: Sequence[str], where: str) -> np.ndarray:
    """float64 [n_rows, n_columns], NaN where a value is missing."""
    names = [frame_column(reference) for reference in references]
    missing = [name for name in names if name not in frame.columns]
    if missing:
        raise BadFrame(f"the frame lacks {', '.join(missing)}", where=where, next_step="join the baseline's features")
    texts = [name for name in names if not (frame.schema[name].is_numeric() or frame.schema[name] == pl.Boolean)]
    if texts:
        raise BadFrame(f"{', '.join(texts)} hold no numbers", where=where, next_step="use numeric features")
    matrix = frame.select(pl.col(names).cast(pl.Float64)).to_numpy()
    if np.isinf(matrix).any():
        raise BadFrame("a feature is infinite", where=where, next_step="look at the feature table's contract")
    return matrix


Fit = tuple[Mapping[str, float | int | str], Callable[[np.ndarray], np.ndarray]]


def _fit_rate_table(
    baseline: Baseline, train: np.ndarray, labels: np.ndarray, stop: np.ndarray, stop_labels: np.ndarray
) -> Fit:
    base_rate = float(labels.mean())
    best: tuple[float, Mapping[str, float | int | str], Callable[[np.ndarray], np.ndarray]] | None = None
    for bins in TABLE_BINS:
        edges = [_edges(column, bins) for column in train.T]
        n_cells = int(np.prod([len(each) + 2 for each in edges], dtype=np.float64))
        if n_cells > MAX_TABLE_CELLS:
            continue
        cells, stop_cells = _cells(train, edges), _cells(stop, edges)
        counts = np.bincount(cells, minlength=n_cells)
        positives = np.bincount(cells, labels, n_cells)
        for smoothing in TABLE_SMOOTHING_ROWS:
            rates = (positives + smoothing * base_rate) / (counts + smoothing)
            loss = compute_log_loss(stop_labels, rates[stop_cells])
            if best is None or loss < best[0]:
                settings = {"bins": bins, "smoothing_rows": smoothing, "stop_log_loss": loss}
                best = (loss, settings, _table_predict(edges, rates))
    if best is None:
        raise BadFrame(
            f"{len(baseline.columns)} columns make more than {MAX_TABLE_CELLS} cells",
            where=baseline.name,
            next_step="declare a rate table of fewer columns",
        )
    return best[1:]


def _table_predict(edges: Sequence[np.ndarray], rates: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    return lambda matrix: rates[_cells(matrix, edges)]


def _edges(values: np.ndarray, bins: int) -> np.ndarray:
    """Where a new bin begins: at each distinct value where those are few, at quantiles of the rows otherwise."""
    known = values[~np.isnan(values)]
    distinct = np.unique(known)
    if len(distinct) <= bins:
        return distinct[1:]
    return np.unique(np.quantile(known, np.arange(1, bins) / bins, method="higher"))


def _cells(matrix: np.ndarray, edges: Sequence[np.ndarray]) -> np.ndarray:
    """The number of each row's cell [n_rows]; a missing value has a bin of its own, the last."""
    cells = np.zeros(len(matrix), np.int64)
    for column, starts in zip(matrix.T, edges):
        bins = np.searchsorted(starts, column, side="right")
        cells = cells * (len(starts) + 2) + np.where(np.isnan(column), len(starts) + 1, bins)
    return cells


@dataclass(frozen=True, eq=False)
class _Preparation:
    """How features become the inputs of a logistic regression: median and flag for what is missing, log1p, scale."""

    medians: np.ndarray  # [n_columns]
    flagged: np.ndarray  # bool [n_columns]
    logged: np.ndarray  # bool [n_columns]
    mean: np.ndarray  # [n_inputs]
    scale: np.ndarray  # [n_inputs]

    @classmethod
    def learn(cls, train: np.ndarray, transform: str) -> "_Preparation":
        missing = np.isnan(train)
        known = [column[~gone] for column, gone in zip(train.T, missing.T)]
        medians = np.array([np.median(column) if len(column) else 0.0 for column in known])
        logged = np.array([transform == "log1p" and _is_skewed(column) for column in known])
        flagged = np.array([column.any() for column in missing.T])
        none = np.zeros(0)
        unscaled = cls(medians, flagged, logged, none, none)._inputs(train)
        deviation = unscaled.std(axis=0)
        scale = np.where(deviation > 0, deviation, 1.0)
        return cls(medians, flagged, logged, unscaled.mean(axis=0), scale)

    def _inputs(self, matrix: np.ndarray) -> np.ndarray:
        missing = np.isnan(matrix)
        inputs = np.where(missing, self.medians, matrix)
        # A value below 0 in a column that never was negative in training is taken for 0.
        inputs[:, self.logged] = np.log1p(np.maximum(inputs[:, self.logged], 0))
        return np.hstack([inputs, missing[:, self.flagged].astype(np.float64)])

    def apply(self, matrix: np.ndarray) -> np.ndarray:
        """float64 [n_rows, n_inputs], standardised."""
        return (self._inputs(matrix) - self.mean) / self.scale


def _is_skewed(known: np.ndarray) -> bool:
    if len(known) == 0 or known.min() < 0 or known.std() == 0:
        return False
    return float((((known - known.mean()) / known.std()) ** 3).mean()) > SKEWED


def _fit_logistic(
    baseline: Baseline, train: np.ndarray, labels: np.ndarray, stop: np.ndarray, stop_labels: np.ndarray
) -> Fit:
    from sklearn.linear_model import LogisticRegression

    def fitted(inputs: np.ndarray, labels: np.ndarray, strength: float) -> Callable[[np.ndarray], np.ndarray]:
        model = LogisticRegression(C=strength, solver="newton-cholesky", max_iter=200).fit(inputs, labels)
        weights, intercept = np.ravel(model.coef_), float(np.ravel(model.intercept_)[0])
        return lambda inputs: _sigmoid_on_grid(inputs @ weights + intercept)

    # Sorted by time, so evenly spaced rows come from every Monday.
    tuning_rows = slice(None, None, max(1, len(train) // TUNING_ROWS))
    if labels[tuning_rows].min() == labels[tuning_rows].max():
        tuning_rows = slice(None)
    preparations = {transform: _Preparation.learn(train, transform) for transform in LOGISTIC_TRANSFORMS}
    losses: dict[tuple[str, float], float] = {}
    for transform, preparation in preparations.items():
        inputs, stop_inputs = preparation.apply(train[tuning_rows]), preparation.apply(stop)
        for strength in LOGISTIC_STRENGTHS:
            predict = fitted(inputs, labels[tuning_rows], strength)
            losses[transform, strength] = compute_log_loss(stop_labels, predict(stop_inputs))
    transform, strength = min(losses, key=lambda choice: losses[choice])
    settings = {"transform": transform, "C": strength, "stop_log_loss": losses[transform, strength]}
    preparation = preparations[transform]
    predict = fitted(preparation.apply(train), labels, strength)
    return settings, lambda matrix: predict(preparation.apply(matrix))


def _sigmoid_on_grid(log_odds: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.round(np.clip(log_odds, -30, 30) / LOG_ODDS_GRID) * LOG_ODDS_GRID))
