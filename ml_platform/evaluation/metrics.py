"""Metrics of binary scores, in numpy: AUC, average precision, log loss and expected calibration error.

Ties are exact everywhere: rows of equal score are indistinguishable, so no figure depends on the row order. What has
no answer is refused, never guessed: a score that is not finite, a label that is not 0 or 1, a ranking of one class.
"""

import numpy as np

from ml_platform.errors import PlatformError

ECE_BINS = 15
_SMALLEST = float(np.finfo(np.float64).eps)
"""Probabilities are kept this far from 0 and 1 in the log loss, as scikit-learn does."""


class BadScores(PlatformError):
    """Scores or labels that cannot be measured: wrong shape, not finite, outside [0, 1], labels other than 0 and 1."""


class OneClass(PlatformError):
    """A ranking metric was asked of rows that are all positive or all negative: it is not defined there."""


def check_labels(labels: np.ndarray) -> np.ndarray:
    """Labels as int64 [n_rows]. Raises BadScores unless there is at least one and each is 0 or 1."""
    if labels.ndim != 1 or len(labels) == 0:
        raise BadScores(f"labels have the shape {labels.shape}", next_step="give one label a row, and at least one row")
    if not np.isin(labels, (0, 1)).all():
        raise BadScores("labels hold something besides 0 and 1", next_step="correct the label's SQL")
    return labels.astype(np.int64)


def check_scores(labels: np.ndarray, scores: np.ndarray, probabilities: bool = False, where: str = "") -> np.ndarray:
    """Scores as float64 [n_rows]. Raises BadScores when they do not match the labels, are not finite, or (where
    `probabilities` are wanted) leave [0, 1]."""
    if scores.shape != labels.shape:
        raise BadScores(
            f"scores have the shape {scores.shape} for labels of {labels.shape}",
            where=where,
            next_step="score the very rows that are evaluated",
        )
    scores = scores.astype(np.float64)
    if not np.isfinite(scores).all():
        count = int((~np.isfinite(scores)).sum())
        raise BadScores(
            f"{count} of {len(scores)} scores are not finite", where=where, next_step="look at the model's inputs"
        )
    if probabilities and (scores.min() < 0 or scores.max() > 1):
        raise BadScores(
            f"scores run from {scores.min():.4g} to {scores.max():.4g}, outside [0, 1]",
            where=where,
            next_step="give calibrated probabilities, not margins",
        )
    return scores


def rank_cells(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, int]:
    """The cell [n_rows] of each row by ascending score, and how many cells there are.

    Rows of equal score share a cell. So do neighbouring scores that no positive has: nothing that ranks can tell them
    apart. Raises BadScores for unfit input and OneClass when only one class is there.
    """
    labels = check_labels(labels)
    scores = check_scores(labels, scores)
    if labels.min() == labels.max():
        raise OneClass(
            f"all {len(labels)} rows have the label {labels[0]}: a ranking metric is not defined",
            next_step="evaluate more rows, or use log loss",
        )
    _, distinct = np.unique(scores, return_inverse=True)
    has_positives = np.bincount(distinct, labels) > 0
    starts = np.ones(len(has_positives), np.bool_)
    starts[1:] = has_positives[1:] | has_positives[:-1]
    cell_of_distinct = np.cumsum(starts) - 1
    return cell_of_distinct[distinct], int(cell_of_distinct[-1]) + 1


def rank_metrics(positives: np.ndarray, negatives: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(AUC [n], average precision [n]) from counts by cell, float64 [n_cells, n], cells by ascending score.

    Each of the n columns is one weighting of the same rows. Counts are whole numbers, so their sums are exact in any
    order. NaN where a column has only one class. `negatives` is used as scratch space.
    """
    negatives_through = np.cumsum(negatives, axis=0)
    hits = np.cumsum(positives, axis=0)
    all_positives, all_negatives = hits[-1].copy(), negatives_through[-1].copy()
    hits -= positives
    np.subtract(all_positives, hits, out=hits)  # positives in this cell or above it
    ties = np.einsum("cn,cn->n", positives, negatives)
    outranked = np.einsum("cn,cn->n", positives, negatives_through) - ties / 2
    negatives_through -= negatives
    called = np.subtract(all_negatives, negatives_through, out=negatives)  # … and the negatives among them
    called += hits
    precision = np.divide(hits, np.maximum(called, 1, out=called), out=hits)
    with np.errstate(invalid="ignore"):
        auc = outranked / (all_positives * all_negatives)
        return auc, np.where(all_negatives > 0, np.einsum("cn,cn->n", positives, precision) / all_positives, np.nan)


def _ranked(labels: np.ndarray, scores: np.ndarray) -> tuple[float, float]:
    cells, n_cells = rank_cells(labels, scores)
    positives = np.bincount(cells, labels, n_cells)
    negatives = np.bincount(cells, 1 - labels, n_cells)
    auc, average_precision = rank_metrics(positives[:, None], negatives[:, None])
    return float(auc[0]), float(average_precision[0])


def compute_auc(labels: np.ndarray, scores: np.ndarray) -> float:
    """Area under the ROC curve: the chance that a positive outranks a negative, ties counting half.

    labels, scores [n_rows]. Raises BadScores and OneClass.
    """
    return _ranked(labels, scores)[0]


def compute_average_precision(labels: np.ndarray, scores: np.ndarray) -> float:
    """Area under the precision-recall curve as a sum of steps, one a distinct score (scikit-learn's definition).

    labels, scores [n_rows]. Raises BadScores and OneClass.
    """
    return _ranked(labels, scores)[1]


def log_losses(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Each row's log loss in nats [n_rows]; scores are probabilities. Raises BadScores."""
    labels = check_labels(labels)
    scores = np.clip(check_scores(labels, scores, probabilities=True), _SMALLEST, 1 - _SMALLEST)
    return -np.log(np.where(labels == 1, scores, 1 - scores))


def compute_log_loss(labels: np.ndarray, scores: np.ndarray) -> float:
    """Mean log loss in nats. Defined for one class too. Raises BadScores."""
    return float(log_losses(labels, scores).mean())


def mass_bins(scores: np.ndarray, bins: int = ECE_BINS) -> np.ndarray:
    """The equal-mass bin [n_rows] of each score, by its mid-rank: equal scores always share a bin."""
    _, distinct, counts = np.unique(scores, return_inverse=True, return_counts=True)
    twice_mid_rank = 2 * np.cumsum(counts) - counts
    return (twice_mid_rank * bins // (2 * len(scores)))[distinct]


def compute_ece(labels: np.ndarray, scores: np.ndarray, bins: int = ECE_BINS) -> float:
    """Expected calibration error: |mean score - label rate| over equal-mass bins, weighted by their rows
    (Naeini et al., AAAI 2015, with the bins of Nguyen and O'Connor, EMNLP 2015). Raises BadScores."""
    labels = check_labels(labels)
    scores = check_scores(labels, scores, probabilities=True)
    gaps = np.bincount(mass_bins(scores, bins), weights=scores - labels, minlength=bins)
    return float(np.abs(gaps).sum()) / len(labels)
