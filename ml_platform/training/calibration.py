"""Calibration: centred isotonic regression, so that a score of .3 means that three in ten come true.

Isotonic regression by pooling adjacent violators (PAVA; Ayer et al. 1955), then each pooled block put at its mean score
and joined by straight lines (Oron & Flournoy 2017, https://doi.org/10.1080/19466315.2017.1286256): the fit stays
calibrated, and unlike plain isotonic steps it keeps scores distinct, so it does not cost ranking.
Invariants: the curve is strictly increasing from (0, 0) to (1, 1); no score is made certain by a block that happened to
hold one class only.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

KIND = "centred_isotonic"


@dataclass(frozen=True)
class Calibration:
    """A piecewise linear curve from raw scores `x` to calibrated scores `y`, both strictly increasing in [0, 1]."""

    x: tuple[float, ...]
    y: tuple[float, ...]

    def apply(self, raw: np.ndarray) -> np.ndarray:
        """Calibrated scores [n] float64 of raw scores [n] in [0, 1]."""
        return np.interp(raw.astype(np.float64), self.x, self.y)

    def to_json(self) -> dict[str, Any]:
        return {"kind": KIND, "x": list(self.x), "y": list(self.y)}

    @classmethod
    def from_json(cls, stated: Mapping[str, Any]) -> "Calibration":
        """Raises ValueError for a curve of another kind or shape."""
        x, y = tuple(map(float, stated["x"])), tuple(map(float, stated["y"]))
        if stated["kind"] != KIND or len(x) != len(y) or (np.diff(x) <= 0).any() or (np.diff(y) <= 0).any():
            raise ValueError(f"not a {KIND} curve")
        return cls(x, y)


def fit_calibration(raw: np.ndarray, labels: np.ndarray) -> Calibration:
    """The curve for raw scores [n] in [0, 1] and labels [n] 0/1, both classes present."""
    scores, inverse, counts = np.unique(raw.astype(np.float64), return_inverse=True, return_counts=True)
    positives = np.bincount(inverse, weights=labels.astype(np.float64))
    starts = pool_adjacent_violators(positives, counts)
    block_rows = np.add.reduceat(counts, starts)
    block_positives = np.add.reduceat(positives, starts)
    x = np.add.reduceat(scores * counts, starts) / block_rows
    y = block_positives / block_rows
    # A block of one class only says "rare", not "never": half a row of doubt (Krichevsky & Trofimov 1981).
    if block_positives[0] == 0:
        y[0] = min(0.5 / (block_rows[0] + 1.0), y[1] / 2.0)
    if block_positives[-1] == block_rows[-1]:
        y[-1] = 1.0 - min(0.5 / (block_rows[-1] + 1.0), (1.0 - y[-2]) / 2.0)
    inside = (x > 0.0) & (x < 1.0)
    return Calibration((0.0, *x[inside].tolist(), 1.0), (0.0, *y[inside].tolist(), 1.0))


def pool_adjacent_violators(positives: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """First index of each block of the isotonic fit to positives[i] / counts[i], in rising order of score.

    Exact: means are compared by cross-multiplied whole numbers, so blocks of equal means are pooled whatever the
    machine.
    """
    starts: list[int] = []
    sums: list[tuple[int, int]] = []
    for index, (hits, rows) in enumerate(zip(positives.tolist(), counts.tolist(), strict=True)):
        start, hits, rows = index, int(hits), int(rows)
        while sums and sums[-1][0] * rows >= hits * sums[-1][1]:
            earlier_hits, earlier_rows = sums.pop()
            start = starts.pop()
            hits, rows = hits + earlier_hits, rows + earlier_rows
        starts.append(start)
        sums.append((hits, rows))
    return np.array(starts, dtype=np.intp)
