"""Queries and catalogues as the sequence model reads them: flat arrays made once, then resident on the device.

Everything here is numpy over whole arrays; a query is never a Python object. Beside the baskets themselves each query
has its pairs: the distinct products of its listed baskets that are in its Monday's catalogue, with what the repeat
head knows of them (PAIR_INPUTS). Times are in days and logarithms; standardising is the model's, from what it saw in
training. Queries must be grouped by Monday, as training sets and predictions are.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from ml_platform.ranking.baskets import Catalogue, Queries
from ml_platform.training.job import TrainingFailed
from ml_platform.training.sequence.vocabulary import Vocabulary, VocabularyMismatch, category_slots

HISTORY = 20
"""The newest baskets of a query, which the transformer reads; the repeat head knows all that are listed."""
BUCKETS = 24
"""Buckets of a time or a size: whole numbers to 8, then in steps of a third of an octave or so."""
QUERIES_AT_ONCE = 2048
_BASKET_DECAYS = (0.97, 0.85, 0.6)
_DAY_DECAYS = (14.0, 56.0)
_NEVER_DAYS = 400.0
PAIR_INPUTS: tuple[str, ...] = (
    "times",
    "share_of_baskets",
    *(f"decayed_by_basket_{decay}" for decay in _BASKET_DECAYS),
    *(f"decayed_by_days_{days:g}" for days in _DAY_DECAYS),
    "baskets_since",
    "days_since",
    "mean_gap_days",
    "days_since_over_mean_gap",
    "bought_once",
    "days_since_first",
)
QUERY_INPUTS: tuple[str, ...] = ("baskets", "days_since_basket", "mean_gap_days", "mean_basket_size", "distinct_share")


@dataclass(frozen=True, eq=False)
class Shelf:
    """One Monday's catalogue: slots and categories' slots int64 [k], statistics float32 [k, s] as logarithms."""

    products: np.ndarray
    slots: np.ndarray
    categories: np.ndarray
    statistics: np.ndarray

    @classmethod
    def of(cls, catalogue: Catalogue, vocabulary: Vocabulary) -> "Shelf":
        """Raises VocabularyMismatch for other statistics than the vocabulary's."""
        if catalogue.names != vocabulary.statistics:
            raise VocabularyMismatch(
                f"the catalogue's statistics are {', '.join(catalogue.names)}; the model was trained on"
                f" {', '.join(vocabulary.statistics)}",
                next_step="build the catalogue from the model's features",
            )
        slots = vocabulary.slots(catalogue.products)
        named = category_slots(vocabulary.categories, catalogue.categories)
        categories = np.where(slots > 0, vocabulary.slot_categories[slots], named)
        return cls(catalogue.products, slots, categories, np.log1p(catalogue.statistics))


@dataclass(frozen=True, eq=False)
class Examples:
    """n queries of Mondays `mondays` (by number), b baskets, m lines, p pairs and t targets.

    Places are in the catalogue of the query's Monday; targets that are not in it are left out.
    """

    mondays: np.ndarray  # int32 [n]
    basket_offsets: np.ndarray  # int64 [n + 1]
    times: np.ndarray  # int64 [b, 3]: buckets of days ago, of days to the basket before, and of size
    line_offsets: np.ndarray  # int64 [b + 1]
    lines: np.ndarray  # int32 [m], slots
    pair_offsets: np.ndarray  # int64 [n + 1]
    pair_places: np.ndarray  # int32 [p]
    pairs: np.ndarray  # float16 [p, len(PAIR_INPUTS)]: the largest array, and three digits of a logarithm do
    target_offsets: np.ndarray  # int64 [n + 1]
    target_places: np.ndarray  # int64 [t]
    queries: np.ndarray  # float32 [n, len(QUERY_INPUTS)]

    def __len__(self) -> int:
        return len(self.mondays)

    def rows_by_monday(self) -> Mapping[int, np.ndarray]:
        """The numbers of each Monday's queries."""
        return {int(monday): np.flatnonzero(self.mondays == monday) for monday in np.unique(self.mondays)}


def build_examples(queries: Queries, catalogues: Mapping[int, Catalogue], vocabulary: Vocabulary) -> Examples:
    """The queries' inputs. Raises TrainingFailed for a Monday without a catalogue."""
    missing = sorted(set(np.unique(queries.as_ofs).tolist()) - set(catalogues))
    if missing:
        days = ", ".join(map(str, np.array(missing, "datetime64[D]")))
        raise TrainingFailed(f"there is no catalogue as of {days}", next_step="publish the product features")
    recent = _newest(queries)
    pair_offsets, pair_places, pairs = _pairs(queries, catalogues)
    target_places = _places(queries.as_ofs[queries.target_queries], queries.targets, catalogues)
    offered = target_places >= 0
    return Examples(
        mondays=queries.as_ofs,
        basket_offsets=recent.basket_offsets,
        times=_times(recent),
        line_offsets=recent.line_offsets,
        lines=vocabulary.slots(recent.products).astype(np.int32),
        pair_offsets=pair_offsets,
        pair_places=pair_places,
        pairs=pairs,
        target_offsets=_offsets(queries.target_queries[offered], len(queries)),
        target_places=target_places[offered],
        queries=_query_inputs(queries, np.diff(pair_offsets)),
    )


def bucket(values: np.ndarray) -> np.ndarray:
    """Buckets int64 in [0, BUCKETS) of whole numbers: exact to 8, then coarser as they grow."""
    wide = 8 + np.floor(3 * np.log2(np.maximum(values, 8) / 8)).astype(np.int64)
    return np.clip(np.where(values < 8, values, wide), 0, BUCKETS - 1).astype(np.int64)


def _newest(queries: Queries) -> Queries:
    """The queries with the newest HISTORY of their baskets."""
    kept, sizes = queries.baskets_ago < HISTORY, np.diff(queries.line_offsets)
    return replace(
        queries,
        basket_offsets=_offsets(queries.basket_queries[kept], len(queries)),
        days_ago=queries.days_ago[kept],
        line_offsets=np.concatenate([[0], np.cumsum(sizes[kept])]).astype(np.int64),
        products=queries.products[np.repeat(kept, sizes)],
    )


def _times(queries: Queries) -> np.ndarray:
    days = queries.days_ago.astype(np.int64)
    gaps = np.zeros(len(days), np.int64)
    gaps[1:] = np.maximum(days[:-1] - days[1:], 0)
    starts = queries.basket_offsets[:-1]
    gaps[starts[np.diff(queries.basket_offsets) > 0]] = 0
    return np.stack([bucket(days), bucket(gaps), bucket(np.diff(queries.line_offsets))], axis=1)


def _query_inputs(queries: Queries, pairs: np.ndarray) -> np.ndarray:
    """[n, …]; pairs: how many each query has, int64 [n]."""
    baskets = np.diff(queries.basket_offsets)
    some = baskets > 0
    days = queries.days_ago.astype(np.float64)
    newest = np.where(some, _at(days, queries.basket_offsets[1:] - 1), _NEVER_DAYS)
    oldest = np.where(some, _at(days, queries.basket_offsets[:-1]), _NEVER_DAYS)
    lines = np.diff(queries.line_offsets[queries.basket_offsets])
    inputs = (
        np.log1p(baskets),
        np.log1p(newest),
        np.log1p((oldest - newest) / np.maximum(baskets - 1, 1)),
        np.log1p(lines / np.maximum(baskets, 1)),
        pairs / np.maximum(lines, 1),
    )
    return np.stack(inputs, axis=1).astype(np.float32)


def _pairs(queries: Queries, catalogues: Mapping[int, Catalogue]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(offsets [n + 1], places [p], inputs [p, …]) of each query's distinct products that its catalogue has.

    Worked out for QUERIES_AT_ONCE: the arrays on the way are many times as large as what comes out.
    """
    counts, end = np.zeros(len(queries), np.int64), 0
    # Room for the most there can be: what is not written to costs no memory.
    places = np.empty(len(queries.products), np.int32)
    inputs = np.empty((len(queries.products), len(PAIR_INPUTS)), np.float16)
    for start in range(0, len(queries), QUERIES_AT_ONCE):
        rows = np.arange(start, min(start + QUERIES_AT_ONCE, len(queries)))
        counts[rows], of_rows, values = _pairs_of(queries.take(rows), catalogues)
        begin, end = end, end + len(of_rows)
        places[begin:end], inputs[begin:end] = of_rows, values
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return offsets, places[:end], inputs[:end]


def _pairs_of(queries: Queries, catalogues: Mapping[int, Catalogue]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(how many [n], places [p], inputs [p, …]) of the queries' pairs."""
    line_queries = queries.basket_queries[queries.line_baskets]
    places = _places(queries.as_ofs[line_queries], queries.products, catalogues)
    width = 1 + max((len(catalogue.products) for catalogue in catalogues.values()), default=0)
    offered = np.flatnonzero(places >= 0)
    keys = line_queries[offered] * width + places[offered]
    order = np.argsort(keys, kind="stable")  # stable: each pair's lines stay oldest first
    keys, line = keys[order], offered[order]
    first = np.flatnonzero(np.diff(keys, prepend=-1))
    if not len(first):
        return np.zeros(len(queries), np.int64), first, np.zeros((0, len(PAIR_INPUTS)), np.float16)
    last = np.append(first[1:], len(keys)) - 1
    basket = queries.line_baskets[line]
    ago, days = queries.baskets_ago[basket].astype(np.float64), queries.days_ago[basket].astype(np.float64)
    of_query = keys[first] // width
    times = (last - first + 1).astype(np.float64)
    since, span = days[last], days[first] - days[last]
    gap = np.where(times > 1, span / np.maximum(times - 1, 1), 0.0)
    columns: tuple[Callable[[], np.ndarray], ...] = (
        lambda: np.log(times),
        lambda: times / np.diff(queries.basket_offsets)[of_query],
        *(partial(_decayed, -np.log(decay), ago, first) for decay in _BASKET_DECAYS),
        *(partial(_decayed, 1 / scale, days, first) for scale in _DAY_DECAYS),
        lambda: np.log1p(ago[last]),
        lambda: np.log1p(since),
        lambda: np.log1p(gap),
        lambda: np.where(times > 1, np.clip(np.log((since + 1) / (gap + 1)), -3, 3), 0.0),
        lambda: times == 1,
        lambda: np.log1p(days[first]),
    )
    inputs = np.empty((len(first), len(PAIR_INPUTS)), np.float16)
    for position, column in enumerate(columns):
        inputs[:, position] = column()  # one at a time: together they are half a gigabyte
    return np.bincount(of_query, minlength=len(queries)), keys[first] % width, inputs


def _decayed(rate: float, ages: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Logarithm of each pair's purchases, each worth exp(-rate * age), kept from the logarithm of nothing."""
    return np.log(np.add.reduceat(np.exp(-rate * ages), first) + 0.01)


def _places(mondays: np.ndarray, products: np.ndarray, catalogues: Mapping[int, Catalogue]) -> np.ndarray:
    """The place int64 of each product [n] in the catalogue of its Monday [n]; negative where it is not in it."""
    places = np.full(len(products), -1, np.int64)
    for monday in np.unique(mondays):
        mine = np.flatnonzero(mondays == monday)
        places[mine] = catalogues[int(monday)].numbers(products[mine])
    return places


def _offsets(owner: np.ndarray, rows: int) -> np.ndarray:
    """Offsets int64 [rows + 1] of elements that belong to the rising rows `owner`."""
    return np.concatenate([[0], np.cumsum(np.bincount(owner, minlength=rows))]).astype(np.int64)


def _at(values: np.ndarray, positions: np.ndarray) -> np.ndarray:
    return values[np.clip(positions, 0, max(len(values) - 1, 0))] if len(values) else np.zeros(len(positions))
