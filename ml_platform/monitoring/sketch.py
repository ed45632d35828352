"""A reference sketch: how a model's inputs and scores were spread when it was trained, as counts in fixed bins.

Invariants: the bins are made once, from the training rows, and whatever comes later is counted in the very same bins;
values are compared in float32, as the model sees them; a missing value has a place of its own; the same rows in any
order give the same sketch. Columns are named as the model names its features (`table:column`), the calibrated score is
`score`. Only the standard library and numpy: the training worker makes sketches.

Raise FORMAT_VERSION when the meaning of a field changes; a sketch of another version is refused, never misread.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from ml_platform.errors import PlatformError

FORMAT_VERSION = 1
BINS = 10
SCORE = "score"
_AGAIN = "train the model again: its bundle then holds a sketch that fits"


class SketchUnreadable(PlatformError):
    """The sketch has another format version, or does not have the fields of one."""


class SketchMismatch(PlatformError):
    """The columns at hand are not those of the sketch, or two sketches do not have the same bins."""


@dataclass(frozen=True)
class ColumnSketch:
    """Counts of one column. Bin i holds edges[i-1] <= value < edges[i]; the first and the last bin are open.

    edges: rising, at least one where any value was seen; counts: one more than edges; missing: rows without a value.
    """

    name: str
    edges: tuple[float, ...]
    counts: tuple[int, ...]
    missing: int

    def __post_init__(self) -> None:
        whole = all(isinstance(count, int) and count >= 0 for count in (*self.counts, self.missing))
        rising = all(low < high for low, high in zip(self.edges, self.edges[1:]))
        if not whole or not rising or len(self.counts) != len(self.edges) + 1:
            raise SketchUnreadable("its edges and counts do not fit", where=self.name, next_step=_AGAIN)

    @property
    def cells(self) -> np.ndarray:
        """Counts of the bins, then of the missing values: int64 [n_edges + 2]."""
        return np.array([*self.counts, self.missing], dtype=np.int64)


@dataclass(frozen=True)
class Sketch:
    """The columns of the same `rows` rows."""

    rows: int
    columns: tuple[ColumnSketch, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)

    def column(self, name: str) -> ColumnSketch:
        """Raises SketchMismatch for a column the sketch does not have."""
        for column in self.columns:
            if column.name == name:
                return column
        raise SketchMismatch("the reference sketch has no such column", where=name, next_step=_AGAIN)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; floats survive the way there and back."""
        return {"format_version": FORMAT_VERSION, "rows": self.rows, "columns": [asdict(c) for c in self.columns]}

    @classmethod
    def from_json(cls, stated: Mapping[str, Any]) -> "Sketch":
        """Reads what `to_json` gave. Raises SketchUnreadable."""
        version = stated.get("format_version") if isinstance(stated, Mapping) else None
        if version != FORMAT_VERSION:
            raise SketchUnreadable(
                f"the reference sketch has format version {version!r}, this release reads {FORMAT_VERSION}",
                next_step=_AGAIN,
            )
        try:
            columns = tuple(
                ColumnSketch(
                    str(c["name"]), tuple(map(float, c["edges"])), tuple(map(int, c["counts"])), int(c["missing"])
                )
                for c in stated["columns"]
            )
            sketch = cls(int(stated["rows"]), columns)
        except (KeyError, TypeError, ValueError) as error:
            raise SketchUnreadable(f"the reference sketch cannot be read: {error!r}", next_step=_AGAIN) from error
        if len(set(sketch.names)) != len(columns) or any(c.cells.sum() != sketch.rows for c in columns):
            raise SketchUnreadable("the reference sketch's columns do not add up to its rows", next_step=_AGAIN)
        return sketch


def build_sketch(columns: Mapping[str, np.ndarray], bins: int = BINS) -> Sketch:
    """The sketch of the columns, each [n_rows] of numbers, NaN for missing; they define the bins. Raises
    SketchMismatch when they differ in length."""
    sketches = []
    for name, values in columns.items():
        single = _single(values)
        sketches.append(_counted(name, _edges(single[~np.isnan(single)], len(single), bins), single))
    return Sketch(_rows(columns), tuple(sketches))


def count_into(sketch: Sketch, columns: Mapping[str, np.ndarray]) -> Sketch:
    """The columns, each [n_rows], counted in the bins of the sketch. Raises SketchMismatch for any other columns."""
    missing, unknown = sorted(set(sketch.names) - set(columns)), sorted(set(columns) - set(sketch.names))
    if missing or unknown:
        raise SketchMismatch(
            f"the columns have changed since the sketch was made: missing {missing}, unknown {unknown}",
            where="reference sketch",
            next_step=_AGAIN,
        )
    counted = (_counted(column.name, column.edges, _single(columns[column.name])) for column in sketch.columns)
    return Sketch(_rows(columns), tuple(counted))


def nothing_in(sketch: Sketch) -> Sketch:
    """The same bins, and no row yet."""
    return Sketch(0, tuple(replace(c, counts=(0,) * len(c.counts), missing=0) for c in sketch.columns))


def demand_same_bins(one: Sketch, other: Sketch) -> None:
    """Raises SketchMismatch unless both have the same columns with the same bins, in the same order."""
    bins_of_one, bins_of_other = ({c.name: c.edges for c in sketch.columns} for sketch in (one, other))
    if one.names != other.names or bins_of_one != bins_of_other:
        odd = sorted(n for n in {*one.names, *other.names} if bins_of_one.get(n) != bins_of_other.get(n))
        raise SketchMismatch(f"two sketches have different bins for {odd}", next_step="count into the reference")


def merged(one: Sketch, other: Sketch) -> Sketch:
    """Counts over the rows of both. Raises SketchMismatch when their bins differ."""
    demand_same_bins(one, other)
    columns = (
        replace(a, counts=tuple(x + y for x, y in zip(a.counts, b.counts)), missing=a.missing + b.missing)
        for a, b in zip(one.columns, other.columns)
    )
    return Sketch(one.rows + other.rows, tuple(columns))


def model_columns(references: Sequence[str], matrix: np.ndarray, scores: np.ndarray) -> dict[str, np.ndarray]:
    """What a model's sketch is made of: its matrix [n_rows, n_features] by feature, and its calibrated scores [n_rows]
    under the name `score`."""
    return {**dict(zip(references, matrix.T, strict=True)), SCORE: scores}


def _single(values: np.ndarray) -> np.ndarray:
    """The values as float32, side by side in memory."""
    return np.ascontiguousarray(values, dtype=np.float32)


def _edges(known: np.ndarray, rows: int, bins: int) -> tuple[float, ...]:
    """Edges for the values [n_known] float32 of a column of `rows` rows.

    No more values than bins: each is one, with room for what is smaller, and for what is greater. More values: one
    that alone holds a bin's share of the rows is a bin of its own (counts are mostly zero), the others are parted into
    bins of about that share at values that do occur: bins of a few rows would call every week drifted.
    """
    if not len(known):
        return ()
    values, counts = np.unique(known, return_counts=True)
    after = np.append(values[1:], np.nextafter(values[-1], np.float32(np.inf), dtype=np.float32))
    if len(values) <= bins:
        return tuple(np.append(values, after[-1]).astype(np.float64).tolist())
    heavy = counts * bins >= rows
    light_values, through = values[~heavy], np.cumsum(counts[~heavy])
    edges = [values[heavy], after[heavy]]
    if len(light_values):
        parts = max(2, round(bins * int(through[-1]) / rows))
        cuts = np.searchsorted(through, np.arange(1, parts) * int(through[-1]) // parts, side="right")
        edges.append(light_values[cuts])
    return tuple(np.unique(np.concatenate(edges)).astype(np.float64).tolist())


def _counted(name: str, edges: tuple[float, ...], values: np.ndarray) -> ColumnSketch:
    """Counts of float32 values [n_rows]. To compare them with each of a few edges is ten times as fast as a search."""
    missing = int(np.isnan(values).sum())
    below = [int(np.count_nonzero(values < np.float32(edge))) for edge in edges]
    counts = np.diff([0, *below, len(values) - missing])
    return ColumnSketch(name, edges, tuple(counts.tolist()), missing)


def _rows(columns: Mapping[str, np.ndarray]) -> int:
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        raise SketchMismatch(f"columns of different length: {lengths}", next_step="give the columns of the same rows")
    return next(iter(lengths.values()), 0)
