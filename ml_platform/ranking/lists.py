"""From scores to ranked lists: the best k products of each query, and lists over several Mondays.

Invariants: only a catalogue's products are listed; equal scores are ordered by a stated preference in which no two
products are equal, so a list depends on nothing but its query and catalogue.
"""

from collections.abc import Callable, Mapping

import numpy as np

from ml_platform.ranking.baskets import NOTHING, BadBaskets, Catalogue, Queries

Rank = Callable[[Queries, Catalogue, int], np.ndarray]
"""Lists int64 [n, k] of queries of one Monday, from that Monday's catalogue."""


def rank_by_monday(rank: Rank, queries: Queries, catalogues: Mapping[int, Catalogue], k: int) -> np.ndarray:
    """Lists int64 [n, k] of queries of any Mondays, each from its own Monday's catalogue. Raises BadBaskets where a
    Monday has none."""
    ranked = np.full((len(queries), k), NOTHING, np.int64)
    for monday in np.unique(queries.as_ofs).tolist():
        if monday not in catalogues:
            raise BadBaskets(
                f"there is no catalogue of {np.datetime64(monday, 'D')}",
                where="as_of",
                next_step="build the catalogue of every Monday that is asked about",
            )
        rows = np.flatnonzero(queries.as_ofs == monday)
        ranked[rows] = rank(queries.take(rows), catalogues[monday], k)
    return ranked


def by_popularity(catalogue: Catalogue, statistic: str) -> np.ndarray:
    """The catalogue's numbers int64 [n_products], the highest statistic first; ties by rising product id, the unknown
    last. Raises BadBaskets for a statistic the catalogue does not have."""
    if statistic not in catalogue.names:
        raise BadBaskets(
            f"the catalogue has no statistic {statistic}; it has {', '.join(catalogue.names) or 'none'}",
            where=statistic,
            next_step="add it to the product feature table",
        )
    # A stable sort keeps equal ones in the catalogue's order, which is that of rising ids.
    return np.argsort(-catalogue.statistics[:, catalogue.names.index(statistic)], kind="stable")


def best_of_pairs(
    rows: np.ndarray, numbers: np.ndarray, scores: np.ndarray, preferred: np.ndarray, shape: tuple[int, int]
) -> np.ndarray:
    """The highest scored catalogue numbers of each row int64 [n, k] = shape, padded with NOTHING.

    rows, numbers, scores: one entry a (row, number) pair, no pair twice. Ties follow `preferred`, all numbers
    [n_products] in the order of preference.
    """
    preference = np.empty(len(preferred), np.int64)
    preference[preferred] = np.arange(len(preferred))
    order = np.lexsort((preference[numbers], -scores, rows))
    rows, numbers = rows[order], numbers[order]
    place = np.arange(len(rows)) - np.searchsorted(rows, rows)
    kept = place < shape[1]
    best = np.full(shape, NOTHING, np.int64)
    best[rows[kept], place[kept]] = numbers[kept]
    return best


def best_of_matrix(scores: np.ndarray, preferred: np.ndarray, k: int) -> np.ndarray:
    """As best_of_pairs, from a score of every number: [n, n_products] → [n, k]."""
    k_there = min(k, scores.shape[1])
    if not k_there:
        return np.full((len(scores), k), NOTHING, np.int64)
    threshold = np.partition(scores, -k_there, axis=1)[:, -k_there]
    # All that reach the k-th best score: more than k only where it is tied.
    rows, numbers = np.divmod(np.flatnonzero(scores >= threshold[:, None]), scores.shape[1])
    return best_of_pairs(rows, numbers, scores[rows, numbers], preferred, (len(scores), k))


def products_of(numbers: np.ndarray, catalogue: Catalogue) -> np.ndarray:
    """The product ids of catalogue numbers, int64 of any shape; NOTHING stays NOTHING."""
    return np.concatenate([catalogue.products, [NOTHING]])[numbers]
