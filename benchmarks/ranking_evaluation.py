"""Evaluation of a basket recommender: 6.7k queries on four Mondays, 17k products on each.

The purchases are synthetic, of the reference data's size and skew: households that come back to their favourites, out
of a catalogue of long-tailed popularity. Measured is what an evaluation does once the candidate's lists are there: the
frequency baselines rank every query, and every metric of every ranker gets its interval, overall and by Monday.
TIFU-KNN, which compares every household with every other, has a row of its own.
"""

import numpy as np

from benchmarks.rows import Row, seconds_of
from ml_platform.evaluation.bootstrap import CANDIDATE, REPLICATES, Group
from ml_platform.ranking.baselines import POPULARITY, RANKERS, RankerKind
from ml_platform.ranking.baskets import Catalogue, Queries
from ml_platform.ranking.lists import rank_by_monday
from ml_platform.ranking.measure import measure_rankings

MONDAYS, HOUSEHOLDS, PRODUCTS = 4, 1_676, 17_000
BASKETS, BASKET_LINES, TARGETS, FAVOURITES = 20, 8, 12, 80
FREQUENCIES: tuple[RankerKind, ...] = ("global_frequency", "personal_frequency", "decayed_frequency")
PLACES, REPEATS = 20, 3
GOAL_SECONDS = 5.0
FIRST_MONDAY = 17_469
"""2017-10-30 in days since 1970-01-01."""


def measure() -> list[Row]:
    """Seconds of the best of several evaluations, and of one ranking by TIFU-KNN."""
    queries, catalogues = make_world()
    candidate = rank_by_monday(RANKERS["decayed_frequency"][0], queries, catalogues, PLACES)
    seconds = min(seconds_of(lambda: evaluate(queries, catalogues, candidate)) for _ in range(REPEATS))
    slow = seconds_of(lambda: rank_by_monday(RANKERS["tifu_knn"][0], queries, catalogues, PLACES))
    note = (
        f"synthetic, {len(queries.products):,} lines of history; {len(FREQUENCIES)} frequency baselines ranked, all "
        f"metrics of {1 + len(FREQUENCIES)} rankers with {REPLICATES} household draws, overall and on each of "
        f"{MONDAYS} Mondays, best of {REPEATS}"
    )
    return [
        Row(
            f"Evaluation of {len(queries):,} queries × {PRODUCTS:,} products",
            seconds,
            "s",
            goal=GOAL_SECONDS,
            note=note,
        ),
        Row("… ranked by TIFU-KNN besides", slow, "s", note=f"untuned, {HOUSEHOLDS:,} households a Monday"),
    ]


def evaluate(queries: Queries, catalogues: dict[int, Catalogue], candidate: np.ndarray) -> None:
    """From a candidate's lists to every figure with its interval. Raises RuntimeError where a figure has none."""
    ranked = {CANDIDATE: candidate}
    for kind in FREQUENCIES:
        ranked[kind] = rank_by_monday(RANKERS[kind][0], queries, catalogues, PLACES)
    groups = [Group("all", "all", np.arange(len(queries)))]
    groups += [Group("as_of", str(day), np.flatnonzero(queries.as_ofs == day)) for day in catalogues]
    if any(each.low is None for each in measure_rankings(queries, ranked, groups, seed=0)):
        raise RuntimeError("a figure has no interval: the synthetic world is too small")


def make_world() -> tuple[Queries, dict[int, Catalogue]]:
    """Queries of every household on every Monday, and the catalogue of each."""
    random = np.random.default_rng(0)
    weights = 1 / (np.arange(PRODUCTS) + 10.0)
    popularity = weights / weights.sum()
    favourites = random.choice(PRODUCTS, (HOUSEHOLDS, FAVOURITES), p=popularity)
    n = MONDAYS * HOUSEHOLDS
    household = np.tile(np.arange(HOUSEHOLDS), MONDAYS)
    # The first favourites are bought the most often.
    chosen = (FAVOURITES * random.random((n, BASKETS * BASKET_LINES + TARGETS)) ** 2).astype(np.int64)
    bought = favourites[household[:, None], chosen]
    lines = bought[:, : BASKETS * BASKET_LINES].reshape(n * BASKETS, BASKET_LINES)
    explored = random.choice(PRODUCTS, (n, TARGETS), p=popularity)
    wanted = np.where(random.random((n, TARGETS)) < 0.4, bought[:, BASKETS * BASKET_LINES :], explored)
    line_offsets, products = _ragged(lines)
    target_offsets, targets = _ragged(wanted)
    mondays = FIRST_MONDAY + 14 * np.arange(MONDAYS)
    queries = Queries(
        households=household,
        as_ofs=np.repeat(mondays, HOUSEHOLDS).astype(np.int32),
        basket_offsets=np.arange(0, n * BASKETS + 1, BASKETS),
        days_ago=np.tile(np.arange(BASKETS, 0, -1, dtype=np.int32) * 4, n),
        line_offsets=line_offsets,
        products=products,
        target_offsets=target_offsets,
        targets=targets,
    )
    lines_84d = np.bincount(products, minlength=PRODUCTS)[:, None].astype(np.float32)
    ids, categories = np.arange(PRODUCTS), np.full(PRODUCTS, "food", object)
    return queries, {int(day): Catalogue(int(day), ids, categories, lines_84d, (POPULARITY,)) for day in mondays}


def _ragged(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(offsets, values) of the distinct values of each row, rising."""
    rising = np.sort(rows, axis=1)
    first = np.ones(rows.shape, np.bool_)
    first[:, 1:] = rising[:, 1:] != rising[:, :-1]
    return np.concatenate([[0], np.cumsum(first.sum(axis=1))]), rising[first]
