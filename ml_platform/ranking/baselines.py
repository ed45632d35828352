"""Simple rankers a candidate has to beat, tuned on the queries that stop training and on nothing else.

A ranker is a function of a query's listed baskets and its Monday's catalogue: there is nothing to fit but the few
settings below. They are tuned one after another on mean Recall@10, each over its values with the others held (the
first value is where tuning starts, and wins ties); so two runs on the same queries choose alike. Products outside the
catalogue are never listed. Where a household has too few products of its own, the most popular others fill its list;
equal scores are ordered by popularity (POPULARITY of the catalogue), then by rising product id.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np

from ml_platform.ranking.baskets import NOTHING, BadBaskets, Catalogue, Queries
from ml_platform.ranking.lists import Rank, best_of_pairs, by_popularity, products_of, rank_by_monday
from ml_platform.ranking.metrics import LONGEST_LIST, compute_recall
from ml_platform.ranking.tifu import rank_tifu_knn

RankerKind = Literal["global_frequency", "personal_frequency", "decayed_frequency", "tifu_knn"]
POPULARITY = "lines_84d"
TUNED_PLACES = 10


@dataclass(frozen=True, eq=False)
class FittedRanker:
    """A baseline ready to rank. `settings` are the tuned choices and the Recall@10 they had on the stop queries."""

    kind: RankerKind
    settings: Mapping[str, float | int | str]
    rank: Rank


def fit_ranker(kind: RankerKind, tuning: Queries, catalogues: Mapping[int, Catalogue]) -> FittedRanker:
    """Tunes a baseline on queries whose targets are known, best those of role `stop`.

    Raises BadBaskets when no query has a target, or a Monday no catalogue.
    """
    if not len(tuning.targets):
        raise BadBaskets("no query to tune on has a target", where=kind, next_step="look at the spec's split")
    ranker, choices = RANKERS[kind]
    settings = {name: values[0] for name, values in choices.items()}

    def recall(tried: Mapping[str, float | int | str]) -> float:
        ranked = rank_by_monday(partial(ranker, **tried), tuning, catalogues, LONGEST_LIST)
        return float(np.nanmean(compute_recall(ranked, tuning, TUNED_PLACES)))

    best = recall(settings)
    for name, values in choices.items():
        held = settings
        for value in values[1:]:
            reached = recall(held | {name: value})
            if reached > best:
                best, settings = reached, held | {name: value}
    return FittedRanker(kind, settings | {"stop_recall_at_10": best}, partial(ranker, **settings))


def rank_global_frequency(queries: Queries, catalogue: Catalogue, k: int, statistic: str = POPULARITY) -> np.ndarray:
    """The same list int64 [n, k] for everyone: the products with the highest statistic."""
    best = np.full(k, NOTHING, np.int64)
    popular = by_popularity(catalogue, statistic)[:k]
    best[: len(popular)] = catalogue.products[popular]
    return np.tile(best, (len(queries), 1))


def rank_personal_frequency(queries: Queries, catalogue: Catalogue, k: int, baskets: int = 20) -> np.ndarray:
    """By the number of the household's last `baskets` baskets that hold the product, then by popularity. [n, k]"""
    return _rank_weighted(queries, catalogue, k, (queries.baskets_ago < baskets).astype(np.float64))


def rank_decayed_frequency(queries: Queries, catalogue: Catalogue, k: int, decay: float = 0.97) -> np.ndarray:
    """As personal frequency, each basket weighing `decay` to the number of baskets since. [n, k]"""
    return _rank_weighted(queries, catalogue, k, decay ** queries.baskets_ago.astype(np.float64))


def _rank_weighted(queries: Queries, catalogue: Catalogue, k: int, weights: np.ndarray) -> np.ndarray:
    """Lists by the summed weights [b] of the baskets that hold a product, filled up with popular products."""
    popular = by_popularity(catalogue, POPULARITY)
    # A household with c < k products of its own needs k - c others: they are among the k + c most popular.
    fill = popular[: 2 * k]
    numbers = catalogue.numbers(queries.products)
    there = numbers != NOTHING
    baskets = queries.line_baskets[there]
    rows = np.concatenate([queries.basket_queries[baskets], np.repeat(np.arange(len(queries)), len(fill))])
    numbers = np.concatenate([numbers[there], np.tile(fill, len(queries))])
    added = np.concatenate([weights[baskets], np.zeros(len(queries) * len(fill))])
    pairs, pair = np.unique(rows * len(popular) + numbers, return_inverse=True)
    scores = np.bincount(pair, added, len(pairs))
    rows, numbers = np.divmod(pairs, max(len(popular), 1))
    return products_of(best_of_pairs(rows, numbers, scores, popular, (len(queries), k)), catalogue)


Ranker = Callable[..., np.ndarray]
Choices = Mapping[str, Sequence[float | int | str]]
RANKERS: Mapping[RankerKind, tuple[Ranker, Choices]] = {
    "global_frequency": (rank_global_frequency, {"statistic": (POPULARITY, "lines_28d", "buyers_84d")}),
    "personal_frequency": (rank_personal_frequency, {"baskets": (20, 15, 10, 5)}),
    "decayed_frequency": (rank_decayed_frequency, {"decay": (0.97, 0.99, 0.98, 0.96, 0.95, 0.93, 0.9, 0.85, 0.8)}),
    "tifu_knn": (
        rank_tifu_knn,
        {
            "groups": (7, 3, 20),
            "group_decay": (0.7, 0.9, 1.0),
            "basket_decay": (0.9, 0.8, 1.0),
            "neighbours": (300, 100, 900),
            "own_share": (0.7, 0.5, 0.3),
        },
    ),
}
