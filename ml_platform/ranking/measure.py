"""Every ranking figure with its interval: the paired bootstrap over households, on means of per-query figures.

The same draws of whole clusters and the same rows of figures as for scores (`evaluation.bootstrap`); here a metric is
the mean over the queries where it is defined, so a replicate is a ratio of two weighted sums over clusters. A
measurement's `positives` are the group's target products.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from ml_platform.evaluation.bootstrap import REPLICATES, Group, Measurement, cluster_multiplicities, state
from ml_platform.ranking.baskets import Queries
from ml_platform.ranking.metrics import RANKING_METRICS, check_ranked
from ml_platform.training.spec import Metric, RankingMetric


def measure_rankings(
    queries: Queries,
    ranked: Mapping[str, np.ndarray],
    groups: Sequence[Group],
    seed: int,
    replicates: int = REPLICATES,
) -> list[Measurement]:
    """Every metric of every model on every group, in that nesting of order: group, model, metric.

    ranked: model name → lists int64 [n_queries, places], `candidate` among them; a group's rows are numbers of queries.
    Raises BadRanking for unfit lists.
    """
    households, clusters = np.unique(queries.households, return_inverse=True)
    drawn = cluster_multiplicities(len(households), replicates, seed)
    counts = np.vstack([np.ones(len(households)), drawn])  # the queries as they are, then every replicate
    columns: list[tuple[str, RankingMetric]] = [(model, metric) for model in ranked for metric in RANKING_METRICS]
    checked = {model: check_ranked(lists, queries, where=model) for model, lists in ranked.items()}
    values = np.stack([RANKING_METRICS[metric](checked[model], queries) for model, metric in columns], axis=1)
    figures: dict[tuple[str, str], dict[Metric, np.ndarray]] = {}
    for group in groups:
        means = _means(values[group.rows], clusters[group.rows], counts)
        for (model, metric), mean in zip(columns, means.T):
            figures.setdefault((group.name, model), {})[metric] = mean
    return state(groups, clusters, np.diff(queries.target_offsets), figures)


def _means(values: np.ndarray, clusters: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Means [n_counts, n_columns] of the columns [n_rows, n_columns] where they are numbers, clusters weighed by counts
    [n_counts, n_clusters]; NaN where no weight is left."""
    known = ~np.isnan(values)
    cells = (clusters[:, None] * values.shape[1] + np.arange(values.shape[1]))[known]
    shape = counts.shape[1], values.shape[1]
    sums = np.bincount(cells, values[known], np.prod(shape)).reshape(shape)
    defined = np.bincount(cells, minlength=np.prod(shape)).reshape(shape)
    # einsum without optimisation, unlike BLAS, adds in one fixed order.
    totals, weights = (np.einsum("rc,ck->rk", counts, each, optimize=False) for each in (sums, defined))
    return np.divide(totals, weights, out=np.full(totals.shape, np.nan), where=weights > 0)
