"""Every figure of an evaluation with its interval: a paired bootstrap that resamples whole clusters.

Rows of one household are alike, so households are drawn, not rows (Cameron and Miller, 2015). One draw of cluster
multiplicities serves every model, metric and group of rows: differences between models are paired. Rows are counted
once into (score, cluster) cells; all replicates are then one sparse product and cumulative sums over whole numbers.
The result depends on the seed, not on row order or thread count. Figures are exact; where a model has more than
MAX_CELLS different scores, only the *spread* of its ranking metrics is taken from that many cells of neighbouring
scores (which moves a bound by less than 1e-5, far below what drawing 200 replicates does).
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from ml_platform.evaluation.metrics import (
    ECE_BINS,
    check_labels,
    check_scores,
    compute_auc,
    compute_average_precision,
    log_losses,
    mass_bins,
    rank_cells,
    rank_metrics,
)
from ml_platform.training.spec import HIGHER_IS_BETTER, Metric

REPLICATES = 200
CONFIDENCE = 0.95
MIN_CLUSTERS = 20
"""Below this a bootstrap over clusters says little: figures are given without an interval."""
MIN_DEFINED_SHARE = 0.95
"""An interval needs at least this share of replicates in which the metric is defined (both classes drawn)."""
MAX_CELLS = 4096
CANDIDATE = "candidate"
CHAMPION = "champion"


@dataclass(frozen=True, eq=False)
class Group:
    """Rows that are measured together. kind: `all`, `as_of` or `slice`; rows: their numbers [n_group_rows]."""

    kind: str
    name: str
    rows: np.ndarray


@dataclass(frozen=True)
class Measurement:
    """One metric of one model on one group of rows, and how much better the candidate is there.

    `gain` is positive where the candidate is better, whatever the metric's direction; it is None for the candidate
    itself. `low` and `high` bound the 95 % percentile interval. What is not defined (a ranking of one class, an
    interval from too few clusters) is None.
    """

    kind: str
    group: str
    rows: int
    positives: int
    model: str
    metric: Metric
    value: float | None
    low: float | None
    high: float | None
    gain: float | None = None
    gain_low: float | None = None
    gain_high: float | None = None


def cluster_multiplicities(clusters: int, replicates: int, seed: int) -> np.ndarray:
    """How often each cluster is drawn, int32 [replicates, clusters]; each row sums to `clusters`."""
    generator = np.random.default_rng(seed)
    draws = (generator.integers(0, clusters, clusters) for _ in range(replicates))
    return np.stack([np.bincount(draw, minlength=clusters) for draw in draws]).astype(np.int32)


def measure(
    labels: np.ndarray,
    clusters: np.ndarray,
    scores: Mapping[str, np.ndarray],
    groups: Sequence[Group],
    seed: int,
    replicates: int = REPLICATES,
    threads: int = 2,
) -> list[Measurement]:
    """Every metric of every model on every group, in that nesting of order: group, model, metric.

    labels [n_rows] 0/1; clusters [n_rows] any hashable values of one type; scores: model name → probabilities
    [n_rows], `candidate` among them. Raises BadScores for unfit labels or scores.
    """
    labels = check_labels(labels)
    checked = {model: check_scores(labels, values, probabilities=True, where=model) for model, values in scores.items()}
    distinct, cluster_numbers = np.unique(clusters, return_inverse=True)
    multiplicities = cluster_multiplicities(len(distinct), replicates, seed)

    def one(task: tuple[Group, str]) -> dict[Metric, np.ndarray]:
        group, model = task
        return _replicate(labels[group.rows], cluster_numbers[group.rows], checked[model][group.rows], multiplicities)

    tasks = [(group, model) for group in groups for model in checked]
    with ThreadPoolExecutor(threads) as pool:
        results = {(group.name, model): result for (group, model), result in zip(tasks, pool.map(one, tasks))}
    return state(groups, cluster_numbers, labels, results)


def state(
    groups: Sequence[Group],
    clusters: np.ndarray,
    positives: np.ndarray,
    figures: Mapping[tuple[str, str], Mapping[Metric, np.ndarray]],
) -> list[Measurement]:
    """The measurements of figures by (group name, model) and metric, [1 + replicates] each: first the rows as they are.

    Replicate by replicate, every model's figures come of the same draw. clusters, positives: [n_rows].
    """
    measurements = []
    for group in groups:
        enough = len(np.unique(clusters[group.rows])) >= MIN_CLUSTERS
        rows, answers = len(group.rows), int(positives[group.rows].sum())
        for model in (model for name, model in figures if name == group.name):
            for metric, values in figures[group.name, model].items():
                gains = (None, None, None)
                if model != CANDIDATE:
                    difference = figures[group.name, CANDIDATE][metric] - values
                    gains = _summary(difference if HIGHER_IS_BETTER[metric] else -difference, enough)
                stated = (*_summary(values, enough), *gains)
                measurements.append(Measurement(group.kind, group.name, rows, answers, model, metric, *stated))
    return measurements


def _replicate(
    labels: np.ndarray, clusters: np.ndarray, scores: np.ndarray, multiplicities: np.ndarray
) -> dict[Metric, np.ndarray]:
    """Each metric [1 + replicates]: first on the rows as they are, then in every replicate."""
    counts = np.vstack([np.ones(multiplicities.shape[1]), multiplicities])  # float64, still whole numbers
    # Log loss and ECE are sums over rows: sum them by cluster once, then weigh the clusters. einsum without
    # optimisation, unlike BLAS, adds in one fixed order.
    width = ECE_BINS + 2
    n_clusters = multiplicities.shape[1]
    gaps = np.bincount(clusters * ECE_BINS + mass_bins(scores), scores - labels, n_clusters * ECE_BINS)
    sums = np.empty((n_clusters, width))
    sums[:, :ECE_BINS] = gaps.reshape(n_clusters, ECE_BINS)
    sums[:, ECE_BINS] = np.bincount(clusters, log_losses(labels, scores), n_clusters)
    sums[:, ECE_BINS + 1] = np.bincount(clusters, minlength=n_clusters)
    totals = np.einsum("rc,ck->rk", counts, sums, optimize=False)
    rows = np.where(totals[:, -1] > 0, totals[:, -1], np.nan)
    auc, average_precision = _replicate_ranks(labels, clusters, scores, counts)
    return {
        "auc": auc,
        "average_precision": average_precision,
        "log_loss": totals[:, ECE_BINS] / rows,
        "ece": np.abs(totals[:, :ECE_BINS]).sum(axis=1) / rows,
    }


def _replicate_ranks(
    labels: np.ndarray, clusters: np.ndarray, scores: np.ndarray, counts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(AUC, average precision), each [n_counts], under cluster multiplicities float64 [n_counts, n_clusters]."""
    from scipy.sparse import csr_array

    if labels.min() == labels.max():
        return np.full(len(counts), np.nan), np.full(len(counts), np.nan)
    cells, n_cells = rank_cells(labels, scores)
    if n_cells > MAX_CELLS:
        cells, n_cells = rank_cells(labels, mass_bins(scores, MAX_CELLS))
    by_cell = [
        csr_array((np.ones(len(rows)), (cells[rows], clusters[rows])), shape=(n_cells, counts.shape[1]))
        for rows in (np.flatnonzero(labels == 1), np.flatnonzero(labels == 0))
    ]
    weights = np.ascontiguousarray(counts.T)
    auc, average_precision = rank_metrics(by_cell[0] @ weights, by_cell[1] @ weights)
    auc += compute_auc(labels, scores) - auc[0]
    average_precision += compute_average_precision(labels, scores) - average_precision[0]
    return auc, average_precision


def _summary(values: np.ndarray, enough_clusters: bool) -> tuple[float | None, float | None, float | None]:
    """(value, low, high) from [1 + replicates] figures; None for what is not defined."""
    value = None if np.isnan(values[0]) else float(values[0])
    drawn = values[1:][~np.isnan(values[1:])]
    if value is None or not enough_clusters or len(drawn) < MIN_DEFINED_SHARE * (len(values) - 1):
        return value, None, None
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(drawn, (tail, 1 - tail))
    return value, float(low), float(high)
