"""Questions and answers of a basket recommender as flat arrays: what a household bought, and what it bought next.

A query is a household on a Monday: its last baskets, oldest first, and the products of the basket that followed.
Invariants: ragged data is one flat array and its offsets, never a list a row (offsets start at 0, end at the flat
length, never fall); nothing is padded; a missing list is an empty one, so a household without history is a query like
any other; a catalogue's products rise, so a product's number in it is a binary search away. Only numpy and pyarrow are
needed: the training worker reads its data with these functions.

Ranked lists are int64 [n, k] product ids everywhere, best first, padded with NOTHING.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from ml_platform.errors import PlatformError

if TYPE_CHECKING:
    import pyarrow as pa

NOTHING = -1
"""Fills a ranked list that has fewer products than places; no product has this id."""
BASKETS, PRODUCT = "household_baskets__", "product__"
CATEGORY = f"{PRODUCT}category"


class BadBaskets(PlatformError):
    """Baskets or a catalogue that contradict themselves: a column missing, lengths that differ, ids out of order."""


@dataclass(frozen=True, eq=False)
class Queries:
    """n queries with b baskets of m lines in all, and t target products. Baskets are oldest first in each query."""

    households: np.ndarray  # int64 [n]
    as_ofs: np.ndarray  # int32 [n], days since 1970-01-01
    basket_offsets: np.ndarray  # int64 [n + 1] into the baskets
    days_ago: np.ndarray  # int32 [b]
    line_offsets: np.ndarray  # int64 [b + 1] into products
    products: np.ndarray  # int64 [m]
    target_offsets: np.ndarray  # int64 [n + 1]; all zero where nothing is known yet
    targets: np.ndarray  # int64 [t]

    def __len__(self) -> int:
        return len(self.households)

    @property
    def basket_queries(self) -> np.ndarray:
        """The query int64 [b] that each basket belongs to."""
        return owners(self.basket_offsets)

    @property
    def line_baskets(self) -> np.ndarray:
        """The basket int64 [m] that each line belongs to."""
        return owners(self.line_offsets)

    @property
    def target_queries(self) -> np.ndarray:
        """The query int64 [t] that each target belongs to."""
        return owners(self.target_offsets)

    @cached_property
    def targets_known(self) -> np.ndarray:
        """Does the query's listed history hold this target? bool [t]."""
        if not len(self.targets) or not len(self.products):
            return np.zeros(len(self.targets), np.bool_)
        # One number a (query, product) pair; those of the targets rise, as a query's targets do.
        span = max(self.targets.max(), self.products.max()) + 1
        asked = self.target_queries * span + self.targets
        bought = self.basket_queries[self.line_baskets] * span + self.products
        places = np.minimum(np.searchsorted(asked, bought), len(asked) - 1)
        known = np.zeros(len(asked), np.bool_)
        known[places[asked[places] == bought]] = True
        return known

    @property
    def baskets_ago(self) -> np.ndarray:
        """How many listed baskets of the query came after each, int64 [b]: 0 is the newest."""
        return self.basket_offsets[1:][self.basket_queries] - 1 - np.arange(len(self.days_ago))

    def take(self, rows: np.ndarray) -> "Queries":
        """The queries of these numbers (or of a mask [n]), in the order given; a number may repeat."""
        rows = np.arange(len(self))[rows]
        baskets, basket_offsets = _gather(self.basket_offsets, rows)
        lines, line_offsets = _gather(self.line_offsets, baskets)
        targets, target_offsets = _gather(self.target_offsets, rows)
        return Queries(
            households=self.households[rows],
            as_ofs=self.as_ofs[rows],
            basket_offsets=basket_offsets,
            days_ago=self.days_ago[baskets],
            line_offsets=line_offsets,
            products=self.products[lines],
            target_offsets=target_offsets,
            targets=self.targets[targets],
        )


@dataclass(frozen=True, eq=False)
class Catalogue:
    """The k products that may be recommended on one Monday, and s statistics of each as known then."""

    as_of: int  # days since 1970-01-01
    products: np.ndarray  # int64 [k], rising
    categories: np.ndarray  # object (str) [k]
    statistics: np.ndarray  # float32 [k, s], NaN where unknown
    names: tuple[str, ...]  # of the s statistics

    def numbers(self, products: np.ndarray) -> np.ndarray:
        """The place int64 of each product in the catalogue, NOTHING for one that is not in it; any shape."""
        if not len(self.products):
            return np.full(products.shape, NOTHING, np.int64)
        places = np.minimum(np.searchsorted(self.products, products), len(self.products) - 1)
        return np.where(self.products[places] == products, places, NOTHING)


def read_queries(table: "pa.Table", role: str | None = None) -> Queries:
    """The queries of a training set, or of its features alone (no column `label`: no targets), in the table's order.

    Of `role` only, where one is given. Raises BadBaskets for missing columns, null ids, baskets whose sizes, days and
    products do not fit together, baskets that are not oldest first, and baskets or labels whose products do not rise.
    """
    import pyarrow.compute as pc

    names = [f"{BASKETS}{name}" for name in ("products", "basket_sizes", "days_ago")]
    _require(table, "household_id", "as_of", *names, *(["role"] if role is not None else []))
    if role is not None:
        table = table.filter(pc.equal(table.column("role"), role))  # type: ignore[attr-defined]
    lines_by_query, products = _lists(table, names[0])
    basket_offsets, sizes = _lists(table, names[1])
    days_offsets, days_ago = _lists(table, names[2])
    line_offsets = _offsets(sizes)
    if not np.array_equal(days_offsets, basket_offsets):
        raise BadBaskets("some baskets have no day, or days no basket", where=names[2], next_step=_MEND)
    if (sizes < 1).any() or not np.array_equal(line_offsets[basket_offsets], lines_by_query):
        raise BadBaskets("basket sizes do not add up to the products listed", where=names[1], next_step=_MEND)
    no_targets = np.zeros(table.num_rows + 1, np.int64), np.zeros(0, np.int64)
    target_offsets, targets = _lists(table, "label") if "label" in table.column_names else no_targets
    if (_steps(days_ago, basket_offsets) > 0).any():
        raise BadBaskets("baskets are not listed oldest first", where=names[2], next_step=_MEND)
    for name, values, offsets in ((names[0], products, line_offsets), ("label", targets, target_offsets)):
        if (_steps(values, offsets) <= 0).any():
            raise BadBaskets("a basket's products do not rise, each listed once", where=name, next_step=_MEND)
    return Queries(
        households=_numbers(table.column("household_id"), "household_id"),
        as_ofs=_days(table),
        basket_offsets=basket_offsets,
        days_ago=days_ago.astype(np.int32),
        line_offsets=line_offsets,
        products=products,
        target_offsets=target_offsets,
        targets=targets,
    )


def read_catalogues(table: "pa.Table") -> Mapping[int, Catalogue]:
    """The catalogue of every Monday in the table, by as_of (days since 1970-01-01).

    Every numeric `product__` column is a statistic, in the table's order. Raises BadBaskets for missing columns, and
    unless rows are sorted by as_of and product_id with no product twice on a Monday.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    _require(table, "product_id", "as_of", CATEGORY)
    days, products = _days(table), _numbers(table.column("product_id"), "product_id")
    newer, same = days[1:] > days[:-1], days[1:] == days[:-1]
    if not (newer | (same & (products[1:] > products[:-1]))).all():
        raise BadBaskets(
            "products are out of order or listed twice",
            where="product_id",
            next_step="sort the catalogue by as_of and product_id",
        )
    numeric = [
        field.name
        for field in table.schema
        if field.name.startswith(PRODUCT) and (pa.types.is_integer(field.type) or pa.types.is_floating(field.type))
    ]
    statistics = np.empty((table.num_rows, len(numeric)), np.float32)
    for position, name in enumerate(numeric):
        values = pc.fill_null(pc.cast(table.column(name), pa.float64()), float("nan"))  # type: ignore[attr-defined]
        statistics[:, position] = values.to_numpy()
    categories = table.column(CATEGORY).to_numpy()
    names = tuple(name.removeprefix(PRODUCT) for name in numeric)
    found, starts = np.unique(days, return_index=True)
    spans = [slice(start, end) for start, end in zip(starts, [*starts[1:], len(days)])]
    return {
        int(day): Catalogue(int(day), products[span], categories[span], statistics[span], names)
        for day, span in zip(found, spans)
    }


def owners(offsets: np.ndarray) -> np.ndarray:
    """The row int64 that each element of a ragged array belongs to, from the rows' offsets [n + 1]."""
    return np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))


_MEND = "mend the feature table's SQL: its lists describe the same baskets"


def _offsets(lengths: np.ndarray) -> np.ndarray:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])


def _steps(values: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """From each element of a ragged array to the next of the same row."""
    rows = owners(offsets)
    return np.diff(values)[rows[1:] == rows[:-1]]


def _gather(offsets: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(positions of the rows' elements in the flat array, offsets of the rows once they are gathered)."""
    lengths = np.diff(offsets)[rows]
    gathered = _offsets(lengths)
    return np.arange(gathered[-1]) + np.repeat(offsets[rows] - gathered[:-1], lengths), gathered


def _require(table: "pa.Table", *names: str) -> None:
    missing = [name for name in names if name not in table.column_names]
    if missing:
        raise BadBaskets(
            f"there is no column {', '.join(missing)}", next_step="build the table from the model's features"
        )


def _lists(table: "pa.Table", name: str) -> tuple[np.ndarray, np.ndarray]:
    """(offsets int64 [n + 1], values int64) of a column of lists; a null list is an empty one."""
    import pyarrow.compute as pc

    column = table.column(name)
    lengths = pc.fill_null(pc.list_value_length(column), 0)  # type: ignore[attr-defined]
    return _offsets(lengths.to_numpy()), _numbers(pc.list_flatten(column), name)  # type: ignore[attr-defined]


def _numbers(column: "pa.ChunkedArray", name: str) -> np.ndarray:
    import pyarrow as pa

    if column.null_count:
        raise BadBaskets("a number is null", where=name, next_step="mend the SQL that lists it")
    return column.cast(pa.int64()).to_numpy()


def _days(table: "pa.Table") -> np.ndarray:
    import pyarrow as pa

    if table.column("as_of").null_count:
        raise BadBaskets("a Monday is null", where="as_of", next_step="mend the SQL that lists it")
    return table.column("as_of").cast(pa.date32()).cast(pa.int32()).to_numpy()
