"""Drift: how far a week's features and scores lie from those a model was trained on, ranked by what matters to it.

Two sketches with the same bins are all that is needed. A column's shift is its population stability index and its
Jensen-Shannon divergence over the bins, missing values being one bin more. What chance alone would show is its *noise*:
the 95 % quantile of the PSI of as many rows drawn from the reference itself. Columns are ranked by importance times
what exceeds the noise. Invariants: the same counts give the same report, whatever the order of columns; a column that
grows with observed history is shown and never counted; nor is one that lost its last value, for that is a fault of the
data and nothing to retrain for; a week without rows is `empty`, not calm and not drifted.
"""

import zlib
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from ml_platform.contracts import FeatureTable
from ml_platform.monitoring.policy import DriftPolicy
from ml_platform.monitoring.sketch import (
    SCORE,
    ColumnSketch,
    Sketch,
    count_into,
    demand_same_bins,
    merged,
    nothing_in,
)
from ml_platform.training.data import feature_values
from ml_platform.training.job import column_of

PSEUDO_COUNT = 0.5
"""Added to every cell before shares are taken, so that an empty one stays finite (Krichevsky and Trofimov, 1981)."""
NOISE_QUANTILE = 0.95
BATCH_ROWS = 65_536
NAMED_IN_CAUSE = 3


@dataclass(frozen=True)
class Shift:
    """One column's way from the reference. `psi` in nats, `js` in bits [0, 1]; `missing_*`: shares of the rows.

    `importance`: share of the model's gain; `weight`: importance times what of the PSI exceeds the noise, 0 for a
    column that grows.
    """

    column: str
    psi: float
    js: float
    noise: float
    importance: float
    weight: float
    missing_now: float
    missing_then: float
    grows: bool

    @property
    def vanished(self) -> bool:
        """Whether not one row has a value any more."""
        return self.missing_now == 1.0 and self.missing_then < 1.0

    @property
    def counted(self) -> bool:
        """Whether it is among the features whose mean PSI is judged."""
        return not (self.grows or self.vanished)


@dataclass(frozen=True)
class DriftReport:
    """A week's `rows`, its features by falling weight, its score, and what to call it.

    `feature_psi`: mean PSI of the features that count (see Shift.counted), weighted by importance, and `feature_noise`
    that of their noise. An empty week has no shifts, and zeros for its score.
    """

    rows: int
    shifts: tuple[Shift, ...]
    score: Shift
    feature_psi: float
    feature_noise: float
    verdict: Literal["calm", "drifted", "empty"]
    cause: str

    @property
    def vanished(self) -> tuple[str, ...]:
        """Columns without any value: late or lost inputs, unless the feature means to be null (no active campaign)."""
        return tuple(shift.column for shift in self.shifts if shift.vanished)

    def table(self) -> list[dict[str, str | float | bool]]:
        """One row a column, the score first; figures rounded to 4 places."""
        return [
            {name: round(value, 4) if isinstance(value, float) else value for name, value in asdict(shift).items()}
            for shift in (self.score, *self.shifts)
        ]

    def figures(self) -> dict[str, float]:
        """What a story or a tag says of it."""
        return {
            "rows": self.rows,
            "score_psi": round(self.score.psi, 4),
            "score_noise": round(self.score.noise, 4),
            "feature_psi": round(self.feature_psi, 4),
        }


def judge_drift(
    reference: Sketch,
    current: Sketch,
    importance: Mapping[str, float],
    growing: AbstractSet[str] = frozenset(),
    policy: DriftPolicy = DriftPolicy(),
) -> DriftReport:
    """The report of a week that was counted into the reference's bins.

    `importance`: any non-negative measure by feature, such as a bundle's gains. Raises SketchMismatch when the sketches
    have different bins or no score.
    """
    demand_same_bins(reference, current)
    then = reference.column(SCORE)
    if current.rows == 0 or reference.rows == 0:
        nothing = Shift(SCORE, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, grows=False)
        return DriftReport(0, (), nothing, 0.0, 0.0, "empty", "there are no rows to compare")
    features = [column for column in reference.columns if column.name != SCORE]
    total = sum(importance.get(column.name, 0.0) for column in features)
    share = {c.name: importance.get(c.name, 0.0) / total if total else 1 / len(features) for c in features}
    found = [_shift(c, current.column(c.name), share[c.name], c.name in growing, policy) for c in features]
    shifts = tuple(sorted(found, key=lambda shift: (-shift.weight, -shift.psi, shift.column)))
    score = _shift(then, current.column(SCORE), 1.0, False, policy)
    psi, noise = _mean(found, "psi"), _mean(found, "noise")
    by_score = score.psi > max(policy.score_psi, score.noise)
    by_features = psi > max(policy.feature_psi, noise)
    cause = _cause(score, psi, shifts, by_score, by_features, policy)
    verdict = "drifted" if by_score or by_features else "calm"
    return DriftReport(current.rows, shifts, score, psi, noise, verdict, cause)


def growing_features(references: Sequence[str], tables: Mapping[str, FeatureTable]) -> set[str]:
    """Those of the references (`table:column`) that drift by construction, as their contracts say."""
    named = [(reference, *reference.split(":")) for reference in references]
    return {reference for reference, table, column in named if tables[table].column(column).grows}


def compute_psi(then: np.ndarray, now: np.ndarray) -> np.ndarray:
    """Population stability index in nats, Σ (p - q) ln(p / q), of counts [..., n_cells] against each other: [...]."""
    p, q = _shares(then, PSEUDO_COUNT), _shares(now, PSEUDO_COUNT)
    return ((p - q) * np.log(p / q)).sum(axis=-1)


def compute_js(then: np.ndarray, now: np.ndarray) -> float:
    """Jensen-Shannon divergence in bits, from 0 (the same) to 1 (nothing in common), of counts [n_cells] (Lin, 1991).

    It is finite without smoothing. Its square root is the distance that Evidently and SciPy show.
    """
    p, q = _shares(then, 0.0), _shares(now, 0.0)
    middle = (p + q) / 2

    def relative(part: np.ndarray) -> float:
        there = part > 0
        return float((part[there] * np.log2(part[there] / middle[there])).sum())

    return max(0.0, (relative(p) + relative(q)) / 2)


def noise_floor(column: ColumnSketch, rows: int, policy: DriftPolicy = DriftPolicy()) -> float:
    """The PSI that `rows` rows drawn from the reference exceed one time in twenty. Rows are drawn as if independent."""
    cells = column.cells
    random = np.random.default_rng((policy.seed, zlib.crc32(column.name.encode())))
    drawn = random.multinomial(rows, cells / cells.sum(), size=policy.replicates)
    return float(np.quantile(compute_psi(cells, drawn), NOISE_QUANTILE))


def count_parquet(reference: Sketch, paths: Sequence[Path], columns: Mapping[str, str] | None = None) -> Sketch:
    """Rows of Parquet files counted into the reference's bins in one pass, a batch of them in memory at a time.

    `columns`: the file's name of each of the sketch's columns; by default `table:column` is `table__column`, as in a
    training set. Raises TrainingFailed for a column that is missing or not numeric.
    """
    from pyarrow import parquet

    named = columns or {name: column_of(name) if ":" in name else name for name in reference.names}
    counted = nothing_in(reference)
    for path in paths:
        with parquet.ParquetFile(path, pre_buffer=False) as file:
            there = [name for name in named.values() if name in file.schema_arrow.names]
            for batch in file.iter_batches(BATCH_ROWS, columns=there):
                values = {name: feature_values(batch, column) for name, column in named.items()}
                counted = merged(counted, count_into(reference, values))
    return counted


def _shift(then: ColumnSketch, now: ColumnSketch, importance: float, grows: bool, policy: DriftPolicy) -> Shift:
    rows_then, rows_now = int(then.cells.sum()), int(now.cells.sum())
    psi, noise = float(compute_psi(then.cells, now.cells)), noise_floor(then, rows_now, policy)
    return Shift(
        column=then.name,
        psi=psi,
        js=compute_js(then.cells, now.cells),
        noise=noise,
        importance=importance,
        weight=0.0 if grows else importance * max(psi - noise, 0.0),
        missing_now=now.missing / rows_now,
        missing_then=then.missing / rows_then,
        grows=grows,
    )


def _shares(counts: np.ndarray, pseudo_count: float) -> np.ndarray:
    smoothed = np.asarray(counts, dtype=np.float64) + pseudo_count
    return smoothed / smoothed.sum(axis=-1, keepdims=True)


def _mean(shifts: Sequence[Shift], figure: Literal["psi", "noise"]) -> float:
    counted = [shift for shift in shifts if shift.counted]
    total = sum(shift.importance for shift in counted)
    return sum(shift.importance * getattr(shift, figure) for shift in counted) / total if total else 0.0


def _cause(
    score: Shift, psi: float, shifts: Sequence[Shift], by_score: bool, by_features: bool, policy: DriftPolicy
) -> str:
    """One sentence for an alert: the figures that decided, and the columns that moved most."""

    def against(value: float, threshold: float) -> str:
        return f"{value:.2f} ({'above' if value > threshold else 'at most'} {threshold:g})"

    led = [shift for shift in shifts if shift.weight > 0 and shift.counted][:NAMED_IN_CAUSE]
    moved = "; most moved: " + ", ".join(f"{s.column} {s.psi:.2f}{_missing(s)}" for s in led) if led else ""
    gone = [shift.column for shift in shifts if shift.vanished]
    moved += f"; without any value: {', '.join(gone)}" if gone else ""
    if not (by_score or by_features):
        return f"PSI of the score {score.psi:.2f}, of the features {psi:.2f} by importance{moved}"
    parts = [f"PSI of the score {against(score.psi, policy.score_psi)}"]
    parts.append(f"of the features {against(psi, policy.feature_psi)} by importance")
    return ", ".join(parts) + moved


def _missing(shift: Shift) -> str:
    """Said where the missing values are the shift."""
    if abs(shift.missing_now - shift.missing_then) < 0.1:
        return ""
    return f" (missing {shift.missing_then:.0%} → {shift.missing_now:.0%})"
