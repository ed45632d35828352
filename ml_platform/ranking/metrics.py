"""Metrics of ranked lists against the basket that was bought, a figure a query, in numpy.

`ranked` is int64 [n, places], best first, padded with NOTHING; targets are those of the n queries. Invariants: a target
outside the catalogue, or below the last place, is a miss and stays in the denominator; a figure is NaN where it is not
defined (a query without targets, or without targets of the kind asked for), and averages leave it out; a list that
names a product twice is refused, for it would count one hit twice. Repeat and explore recall divide the targets by
whether the query's *listed* history holds them, and look them up in the same one list (Li et al., *A Next Basket
Recommendation Reality Check*, TOIS 2023).
"""

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np

from ml_platform.errors import PlatformError
from ml_platform.ranking.baskets import NOTHING, Queries
from ml_platform.training.spec import RankingMetric


class BadRanking(PlatformError):
    """Ranked lists that cannot be measured: not one list a query, too short, or with a product twice."""


def compute_recall(ranked: np.ndarray, queries: Queries, places: int) -> np.ndarray:
    """Share of a query's targets among the first places, float64 [n]: divided by all targets, however many."""
    return _recall_of(np.ones(len(queries.targets), np.bool_), ranked, queries, places)


def compute_ndcg(ranked: np.ndarray, queries: Queries, places: int) -> np.ndarray:
    """Normalised discounted cumulative gain of the first places, float64 [n].

    Convention: gain 1 for a target and 0 otherwise, discount 1 / log2(place + 1) with places counted from 1, ideal
    list of min(places, targets) hits (Järvelin and Kekäläinen, TOIS 2002; the discount of Burges et al., ICML 2005).
    """
    discounts = 1 / np.log2(np.arange(places) + 2)
    ideal = np.concatenate([[0.0], np.cumsum(discounts)])
    # Past the last place nothing is gained.
    gains = np.append(discounts, 0.0)[target_places(ranked, queries, places)]
    return _share(
        np.bincount(queries.target_queries, gains, len(queries)),
        ideal[np.minimum(np.diff(queries.target_offsets), places)],
    )


def compute_repeat_recall(ranked: np.ndarray, queries: Queries, places: int) -> np.ndarray:
    """Recall of the targets that the listed history holds, float64 [n]; NaN where it holds none of them."""
    return _recall_of(queries.targets_known, ranked, queries, places)


def compute_explore_recall(ranked: np.ndarray, queries: Queries, places: int) -> np.ndarray:
    """Recall of the targets that the listed history does not hold, float64 [n]; NaN where it holds them all."""
    return _recall_of(~queries.targets_known, ranked, queries, places)


RANKING_METRICS: Mapping[RankingMetric, Callable[[np.ndarray, Queries], np.ndarray]] = {
    "recall_at_10": partial(compute_recall, places=10),
    "recall_at_20": partial(compute_recall, places=20),
    "ndcg_at_10": partial(compute_ndcg, places=10),
    "repeat_recall_at_10": partial(compute_repeat_recall, places=10),
    "explore_recall_at_10": partial(compute_explore_recall, places=10),
}
LONGEST_LIST = 20
"""Places a list needs for every metric."""


def check_ranked(ranked: np.ndarray, queries: Queries, where: str = "") -> np.ndarray:
    """The lists as int64 [n, places]. Raises BadRanking unless there is one a query, long enough, no product twice.

    Padding counts as places: a list of fewer products is padded, not cut.
    """
    if ranked.ndim != 2 or len(ranked) != len(queries) or ranked.shape[1] < LONGEST_LIST:
        raise BadRanking(
            f"lists of the shape {ranked.shape} for {len(queries)} queries",
            where=where,
            next_step=f"rank the very queries that are evaluated, at least {LONGEST_LIST} places each",
        )
    if not np.issubdtype(ranked.dtype, np.integer):
        raise BadRanking(f"lists of {ranked.dtype}, not of product ids", where=where, next_step="give int64 ids")
    rising = np.sort(ranked, axis=1)
    twice = ((rising[:, 1:] == rising[:, :-1]) & (rising[:, 1:] != NOTHING)).any(axis=1)
    if twice.any():
        raise BadRanking(
            f"{int(twice.sum())} lists name a product twice, the first is row {int(twice.argmax())}",
            where=where,
            next_step="rank every product once",
        )
    return ranked.astype(np.int64)


def target_places(ranked: np.ndarray, queries: Queries, places: int) -> np.ndarray:
    """Where in its query's list each target stands, int64 [t], counted from 0; `places` where not among the first."""
    there = ranked[queries.target_queries, :places] == queries.targets[:, None]
    return np.where(there.any(axis=1), there.argmax(axis=1), places)


def _recall_of(wanted: np.ndarray, ranked: np.ndarray, queries: Queries, places: int) -> np.ndarray:
    """Recall of the targets marked in wanted, bool [t]."""
    found = wanted & (target_places(ranked, queries, places) < places)
    hits, targets = (np.bincount(queries.target_queries[each], minlength=len(queries)) for each in (found, wanted))
    return _share(hits, targets)


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)
