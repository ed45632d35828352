"""Gates: what a candidate has to show before it may become champion, judged from measurements alone.

Pure functions. A gate whose figure is not defined has not passed; slices that cannot be measured are named. A
verdict binds the outcome to one artifact and one frozen evaluation set by their digests, and its own digest binds the
verdict; its JSON is versioned, and one that does not verify is refused.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ml_platform.errors import PlatformError
from ml_platform.evaluation.bootstrap import CANDIDATE, CHAMPION, Measurement
from ml_platform.training.spec import (
    BeatsBaseline,
    BeatsChampion,
    Calibrated,
    Gate,
    Metric,
    ModelSpec,
    NoSliceWorse,
    Reproducible,
    gate_name,
)

FORMAT_VERSION = 1
METRIC_WORDS: Mapping[Metric, str] = {
    "auc": "AUC",
    "average_precision": "AP",
    "log_loss": "log loss",
    "ece": "ECE",
    "recall_at_10": "Recall@10",
    "recall_at_20": "Recall@20",
    "ndcg_at_10": "NDCG@10",
    "repeat_recall_at_10": "repeat Recall@10",
    "explore_recall_at_10": "explore Recall@10",
}


class VerdictCorrupt(PlatformError):
    """A verdict's JSON is of an unknown version, lacks a field, or does not match its own digest."""


@dataclass(frozen=True)
class GateResult:
    """The outcome of one gate. `figure` is None where it is not defined; how the two compare is in `explanation`."""

    name: str
    passed: bool
    figure: float | None
    threshold: float
    explanation: str


@dataclass(frozen=True)
class Verdict:
    """What an evaluation says of one artifact on one frozen evaluation set. Digests are SHA-256 in hex."""

    model: str
    artifact_digest: str
    champion_digest: str | None
    evaluation_digest: str
    gates: tuple[GateResult, ...]
    measurements: tuple[Measurement, ...]

    @property
    def passed(self) -> bool:
        """Whether every gate passed; a verdict without gates has not."""
        return bool(self.gates) and all(gate.passed for gate in self.gates)

    @property
    def metrics(self) -> dict[str, dict[str, float | None]]:
        """Each model's metrics on the whole evaluation set: model → metric → value."""
        metrics: dict[str, dict[str, float | None]] = {}
        for each in self.measurements:
            if each.kind == "all":
                metrics.setdefault(each.model, {})[each.metric] = each.value
        return metrics

    @property
    def digest(self) -> str:
        """SHA-256 of everything the verdict states."""
        return _digest(self._stated())

    def _stated(self) -> dict[str, Any]:
        return {
            "format_version": FORMAT_VERSION,
            **asdict(self),
            "metrics": self.metrics,
            "passed": self.passed,
        }

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, `digest` among them; tuples are lists."""
        return json.loads(json.dumps({**self._stated(), "digest": self.digest}, allow_nan=False))

    @classmethod
    def from_json(cls, stated: Mapping[str, Any]) -> "Verdict":
        """Reads what `to_json` gave. Raises VerdictCorrupt for another version or a digest that does not match."""
        where = f"verdict on {stated.get('model')}"
        if stated.get("format_version") != FORMAT_VERSION:
            raise VerdictCorrupt(
                f"its format version is {stated.get('format_version')!r}, this release reads {FORMAT_VERSION}",
                where=where,
                next_step="evaluate again with this release",
            )
        if stated.get("digest") != _digest({key: value for key, value in stated.items() if key != "digest"}):
            raise VerdictCorrupt("it does not match its own digest", where=where, next_step="evaluate again")
        return cls(
            model=stated["model"],
            artifact_digest=stated["artifact_digest"],
            champion_digest=stated["champion_digest"],
            evaluation_digest=stated["evaluation_digest"],
            gates=tuple(GateResult(**gate) for gate in stated["gates"]),
            measurements=tuple(Measurement(**each) for each in stated["measurements"]),
        )


def _digest(stated: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(stated, sort_keys=True, allow_nan=False).encode()).hexdigest()


def judge(spec: ModelSpec, measurements: Sequence[Measurement], reproducible: bool) -> list[GateResult]:
    """The result of every gate of the spec, in its order. There is a champion if one was measured."""
    return [_judge_one(gate, measurements, reproducible, bool(spec.slices)) for gate in spec.gates]


def _judge_one(
    gate: Gate, measurements: Sequence[Measurement], reproducible: bool, slices_declared: bool
) -> GateResult:
    if isinstance(gate, BeatsBaseline):
        return _beats_baseline(gate, measurements)
    if isinstance(gate, BeatsChampion):
        return _beats_champion(gate, measurements)
    if isinstance(gate, Calibrated):
        return _calibrated(gate, measurements)
    if isinstance(gate, NoSliceWorse):
        return _no_slice_worse(gate, measurements, slices_declared)
    return _reproducible(gate, reproducible)


def _overall(measurements: Sequence[Measurement], model: str, metric: Metric) -> Measurement | None:
    found = [m for m in measurements if (m.kind, m.model, m.metric) == ("all", model, metric)]
    return found[0] if found else None


def _beats_baseline(gate: BeatsBaseline, measurements: Sequence[Measurement]) -> GateResult:
    measured = _overall(measurements, gate.baseline, gate.metric)
    low, gain = (measured.gain_low, measured.gain) if measured else (None, None)
    passed = low is not None and gain is not None and low > gate.margin and gain >= gate.least_gain
    explanation = (
        f"The candidate's {METRIC_WORDS[gate.metric]} is {_gain(measured)} better than that of {gate.baseline}; "
        f"the lower bound has to exceed {gate.margin:.4f}"
    )
    explanation += f", and the gain itself to reach {gate.least_gain:.4f}." if gate.least_gain else "."
    return GateResult(gate_name(gate), passed, low, gate.margin, explanation)


def _beats_champion(gate: BeatsChampion, measurements: Sequence[Measurement]) -> GateResult:
    name, threshold = gate_name(gate), 0.0 - gate.tolerance
    if not any(m.model == CHAMPION for m in measurements):
        return GateResult(name, True, None, threshold, "There is no champion to compare with yet.")
    measured = _overall(measurements, CHAMPION, gate.metric)
    low, gain = (measured.gain_low, measured.gain) if measured else (None, None)
    passed = low is not None and gain is not None and low > threshold and gain > gate.margin
    explanation = (
        f"The candidate's {METRIC_WORDS[gate.metric]} is {_gain(measured)} better than the champion's on the same "
        f"rows; the lower bound has to exceed {threshold:.4f} and the gain itself {gate.margin:.4f}."
    )
    return GateResult(name, passed, low, threshold, explanation)


def _calibrated(gate: Calibrated, measurements: Sequence[Measurement]) -> GateResult:
    measured = _overall(measurements, CANDIDATE, "ece")
    error = measured.value if measured else None
    passed = error is not None and error <= gate.max_ece
    words = "not defined" if error is None else f"{error:.4f}"
    explanation = f"The expected calibration error is {words}; it may be {gate.max_ece:.4f} at most."
    return GateResult(gate_name(gate), passed, error, gate.max_ece, explanation)


def _no_slice_worse(gate: NoSliceWorse, measurements: Sequence[Measurement], slices_declared: bool) -> GateResult:
    """`figure` is the upper bound of the gain in the slice where it is lowest."""
    name, threshold = gate_name(gate), 0.0 - gate.tolerance
    if not slices_declared:
        return GateResult(name, True, None, threshold, "The model declares no slices.")
    reference = CHAMPION if any(m.model == CHAMPION for m in measurements) else gate.baseline
    large = [
        m
        for m in measurements
        if (m.kind, m.model, m.metric) == ("slice", reference, gate.metric) and m.rows >= gate.min_rows
    ]
    bounds = [(m.gain_high, m) for m in large if m.gain_high is not None]
    if not bounds:
        explanation = (
            f"No slice of at least {gate.min_rows} rows could be compared with {reference}: nothing was judged."
        )
        return GateResult(name, False, None, threshold, explanation)
    high, worst = min(bounds, key=lambda each: each[0])
    worse = [m.group for bound, m in bounds if bound < threshold]
    unmeasured = [m.group for m in large if m.gain_high is None]
    explanation = (
        f"Judged on {METRIC_WORDS[gate.metric]} against {reference} in {len(bounds)} slices: "
        f"{'worse in ' + '; '.join(worse) if worse else 'worse in none'}. "
        f"The lowest gain, in {worst.group}, is {_gain(worst)}; its upper bound may not be below {threshold:.4f}."
    )
    if unmeasured:
        explanation += f" Not defined in {'; '.join(unmeasured)}."
    return GateResult(name, not worse, high, threshold, explanation)


def _reproducible(gate: Reproducible, reproducible: bool) -> GateResult:
    outcome = "gave the same bits" if reproducible else "gave other bits"
    explanation = f"The first {gate.rounds} rounds, trained again in a fresh process, {outcome}."
    return GateResult(gate_name(gate), reproducible, float(reproducible), 1.0, explanation)


def _gain(measured: Measurement | None) -> str:
    """`+0.0046 [+0.0035, +0.0056]`"""
    if measured is None or measured.gain is None:
        return "not measurably"
    if measured.gain_low is None or measured.gain_high is None:
        return f"{measured.gain:+.4f} [no interval]"
    return f"{measured.gain:+.4f} [{measured.gain_low:+.4f}, {measured.gain_high:+.4f}]"
