"""Queries and catalogues small enough to work out by hand, made the way they are read: from an Arrow table."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import pyarrow as pa

from ml_platform.ranking.baskets import Catalogue, Queries, read_queries

MONDAY = date(2017, 10, 30)
MONDAY_NUMBER = (MONDAY - date(1970, 1, 1)).days


@dataclass(frozen=True)
class Query:
    """One row of a training set. baskets: (days ago, products), oldest first."""

    baskets: Sequence[tuple[int, Sequence[int]]] = ()
    target: Sequence[int] = ()
    household: int = 1
    role: str = "stop"
    as_of: date = MONDAY


def table(*rows: Query) -> pa.Table:
    """A training set of these rows."""
    lists, small = pa.list_(pa.int64()), pa.list_(pa.int32())
    return pa.table(
        {
            "household_id": pa.array([row.household for row in rows], pa.int64()),
            "as_of": pa.array([row.as_of for row in rows], pa.date32()),
            "role": pa.array([row.role for row in rows], pa.string()),
            "label": pa.array([list(row.target) for row in rows], lists),
            "household_baskets__products": pa.array([[p for _, b in row.baskets for p in b] for row in rows], lists),
            "household_baskets__basket_sizes": pa.array([[len(b) for _, b in row.baskets] for row in rows], small),
            "household_baskets__days_ago": pa.array([[days for days, _ in row.baskets] for row in rows], small),
        }
    )


def queries(*rows: Query) -> Queries:
    return read_queries(table(*rows))


def catalogue(*products: int, statistics: np.ndarray | None = None, names: tuple[str, ...] = ()) -> Catalogue:
    figures = np.zeros((len(products), 0), np.float32) if statistics is None else statistics
    return Catalogue(MONDAY_NUMBER, np.array(products), np.full(len(products), "food", object), figures, names)
