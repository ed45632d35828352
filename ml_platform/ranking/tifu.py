"""TIFU-KNN: a household's decayed item frequencies, mixed with those of its nearest neighbours.

Hu, He, Gao and Zhang, *Modeling Personalized Item Frequency Information for Next-basket Recommendation*, SIGIR 2020.
The listed baskets, oldest first, are cut into m groups of consecutive baskets (as equal as can be, the newer ones the
larger; fewer baskets than groups are a group each). A group's vector is the mean of its 0/1 basket vectors, each
weighed by basket_decay to the number of baskets after it *in the group*; the household's vector is the mean of the
group vectors, each weighed by group_decay to the number of groups after it. Scores are own_share (the paper's alpha)
of the household's vector and the rest of the mean vector of its neighbours by Euclidean distance.

Neighbours are the other households asked about on the same Monday, by their baskets alone, so no target is seen. Ties
between neighbours go to the earlier query, ties between products to the lower product id; a product that neither the
household nor a neighbour bought is not listed.
"""

from typing import Any

import numpy as np

from ml_platform.ranking.baskets import NOTHING, Catalogue, Queries
from ml_platform.ranking.lists import best_of_matrix, products_of

CHUNK_QUERIES = 256
"""Queries scored at a time: [256, 20k products] float32 are 20 MB."""


def rank_tifu_knn(
    queries: Queries,
    catalogue: Catalogue,
    k: int,
    groups: int = 7,
    group_decay: float = 0.7,
    basket_decay: float = 0.9,
    neighbours: int = 300,
    own_share: float = 0.7,
) -> np.ndarray:
    """Lists int64 [n, k] of queries of one Monday, padded with NOTHING."""
    from scipy.sparse import csr_array

    shape = len(queries), len(catalogue.products)
    numbers = catalogue.numbers(queries.products)
    there = numbers != NOTHING
    baskets = queries.line_baskets[there]
    weights = basket_weights(queries, groups, group_decay, basket_decay)[baskets].astype(np.float32)
    vectors = csr_array((weights, (queries.basket_queries[baskets], numbers[there])), shape=shape)
    nearest = nearest_rows(vectors, neighbours)
    ids = np.arange(shape[1])
    ranked = np.full((shape[0], k), NOTHING, np.int64)
    for start in range(0, shape[0], CHUNK_QUERIES):
        rows = np.arange(start, min(start + CHUNK_QUERIES, shape[0]))
        shares = np.zeros((shape[0], len(rows)), np.float32)  # how much of each household is in each row's scores
        shares[nearest[rows].T, np.arange(len(rows))] = (1 - own_share) / max(nearest.shape[1], 1)
        shares[rows, np.arange(len(rows))] = own_share
        scores = np.ascontiguousarray((vectors.T @ shares).T)
        best = best_of_matrix(scores, ids, k)
        worth = np.take_along_axis(scores, np.maximum(best, 0), axis=1) > 0 if shape[1] else best > 0
        ranked[rows] = products_of(np.where(worth, best, NOTHING), catalogue)
    return ranked


def basket_weights(queries: Queries, groups: int, group_decay: float, basket_decay: float) -> np.ndarray:
    """What each basket weighs in its household's vector, float64 [b]."""
    counts = np.diff(queries.basket_offsets)[queries.basket_queries]
    used = np.minimum(counts, groups)
    position = counts - 1 - queries.baskets_ago  # 0 is the oldest
    # The first groups hold `size` baskets each, the last `larger` ones one more.
    size, larger = np.divmod(counts, used)
    in_small = (used - larger) * size
    small = position < in_small
    past = np.where(small, position, position - in_small)
    length = np.where(small, size, size + 1)
    group = np.where(small, 0, used - larger) + past // length
    after_in_group = length - 1 - past % length
    return group_decay ** (used - 1 - group) * basket_decay**after_in_group / (length * used)


def nearest_rows(vectors: Any, neighbours: int) -> np.ndarray:
    """The other rows int64 [n, min(neighbours, n - 1)] nearest to each row of a sparse [n, m], nearest first."""
    squares = vectors.multiply(vectors).sum(axis=1)
    distances = squares[:, None] + squares[None, :] - 2 * (vectors @ vectors.T).toarray()
    np.fill_diagonal(distances, -np.inf)  # itself comes first, and is cut off
    return np.argsort(distances, axis=1, kind="stable")[:, 1 : neighbours + 1]
