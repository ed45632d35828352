"""Realised performance: predictions that were made at the time, met with the labels that have matured since.

Invariants: a prediction is judged on the score it was published with, never on a new one; only matured labels count;
households are drawn, not rows, wherever there is an interval. What cannot be measured (no rows, one class, too few
households) is None or a state, and never a crash: a dull week is not a fault.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any, Literal

import numpy as np
import polars as pl

from ml_platform.errors import PlatformError
from ml_platform.evaluation.bootstrap import CANDIDATE, REPLICATES, Group, Measurement, measure
from ml_platform.evaluation.gates import Verdict
from ml_platform.training.spec import ModelSpec

State = Literal["empty", "one_class", "measured"]
_RIVAL = "rival"


class CannotCompare(PlatformError):
    """Predictions or labels name a row twice, or lack a column: their figures would be of other rows than they say."""


@dataclass(frozen=True)
class Figure:
    """A metric and its 95 % interval; None for what is not defined."""

    value: float | None
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        if self.value is None:
            return "not defined"
        return f"{self.value:.4f}" + ("" if self.low is None else f" [{self.low:.4f}, {self.high:.4f}]")


@dataclass(frozen=True)
class WeekFigures:
    """How one version did on one Monday's rows, in one role."""

    as_of: date
    role: str
    model_version: int
    rows: int
    positives: int
    state: State
    auc: Figure
    log_loss: Figure
    ece: Figure

    def row(self) -> dict[str, str | int]:
        """For a table people read."""
        return {name: value if isinstance(value, int) else str(value) for name, value in vars(self).items()}


@dataclass(frozen=True)
class Promise:
    """What an evaluation said of a model before it served.

    `auc` and `log_loss` are over all its rows; the bounds are the least that it showed on them or on any single
    Monday: labels are rarer in some weeks than in others, and that alone moves a log loss.
    """

    auc: Figure
    log_loss: Figure
    lowest_auc: float | None
    highest_log_loss: float | None


@dataclass(frozen=True)
class Paired:
    """How much better version b did than version a on the same rows: `gain` is a's log loss minus b's, in nats a row,
    with its 95 % interval; None where there are no rows, or too few households for an interval."""

    a_version: int
    b_version: int
    weeks: int
    rows: int
    positives: int
    a_log_loss: float | None
    b_log_loss: float | None
    gain: float | None
    low: float | None
    high: float | None

    def to_json(self) -> dict[str, int | float | None]:
        return asdict(self)


def is_mature(as_of: date, cutoff: date, spec: ModelSpec) -> bool:
    """Whether labels as of that Monday can no longer change, by what had landed before the cutoff."""
    return as_of + spec.label.maturity <= cutoff


def realised(predictions: pl.DataFrame, labels: pl.DataFrame, spec: ModelSpec) -> pl.DataFrame:
    """Predictions that have a label: [entity…, as_of, role, model_version, score, label], sorted by key and role.

    predictions: entity…, as_of, score, model_version, and role (without one, all are the champion's); labels: entity…,
    as_of, label, matured. What has no partner is left out; `unmatched` says how much. Raises CannotCompare.
    """
    key = [*spec.entity, "as_of"]
    predictions = _with_role(predictions)
    _demand_unique(predictions, [*key, "role"], "predictions", spec)
    _demand_unique(labels, key, "labels", spec)
    known = labels.select(*key, pl.col("label").cast(pl.Int8)).drop_nulls("label")
    joined = predictions.select(*key, "role", "model_version", "score").join(known, on=key, how="inner")
    return joined.sort("as_of", *spec.entity, "role")


def unmatched(predictions: pl.DataFrame, labels: pl.DataFrame, spec: ModelSpec) -> str:
    """What `realised` left out, in one sentence; empty when every prediction met its label and every label one."""
    key = [*spec.entity, "as_of"]
    known = labels.drop_nulls("label")
    alone = known.join(predictions, on=key, how="anti").height
    said = [f"{alone:,} of {known.height:,} labels have no prediction"] if alone else []
    for (role,), made in _with_role(predictions).group_by("role", maintain_order=True):
        bare = made.join(known, on=key, how="anti").height
        if bare:
            said.append(f"{bare:,} of {made.height:,} predictions of the {role} have no label")
    return "; ".join(said)


def state_of(frame: pl.DataFrame) -> State:
    """What can be measured on rows with a label."""
    if frame.is_empty():
        return "empty"
    return "one_class" if frame["label"].n_unique() == 1 else "measured"


def week_figures(frame: pl.DataFrame, spec: ModelSpec, replicates: int = REPLICATES) -> tuple[WeekFigures, ...]:
    """AUC, log loss and calibration error of each version in each role on each Monday of a `realised` frame.

    In order of Monday, role and version; none for an empty frame. Raises BadScores.
    """
    figures = []
    parts = frame.sort("as_of", "role", "model_version").group_by("as_of", "role", "model_version", maintain_order=True)
    for (as_of, role, version), rows in parts:
        measured = {m.metric: _figure(m) for m in _measure(rows, {CANDIDATE: rows["score"]}, spec, replicates)}
        assert isinstance(as_of, date)
        figures.append(
            WeekFigures(
                as_of=as_of,
                role=str(role),
                model_version=int(str(version)),
                rows=rows.height,
                positives=int(rows["label"].sum()),
                state=state_of(rows),
                auc=measured["auc"],
                log_loss=measured["log_loss"],
                ece=measured["ece"],
            )
        )
    return tuple(figures)


def paired(
    frame: pl.DataFrame, a_version: int, b_version: int, spec: ModelSpec, replicates: int = REPLICATES
) -> Paired:
    """Both versions on the rows that both scored, whatever their roles, over all weeks of a `realised` frame."""
    key = [*spec.entity, "as_of"]
    a, b = (
        frame.filter(pl.col("model_version") == version).unique(key, keep="first", maintain_order=True)
        for version in (a_version, b_version)
    )
    both = a.join(b.select(*key, pl.col("score").alias("score_b")), on=key, how="inner").sort(key)
    weeks, rows = both["as_of"].n_unique(), both.height
    if not rows:
        return Paired(a_version, b_version, 0, 0, 0, None, None, None, None, None)
    found = _measure(both, {CANDIDATE: both["score_b"], _RIVAL: both["score"]}, spec, replicates)
    mine, rival = (
        next(m for m in found if (m.model, m.metric) == (model, "log_loss")) for model in (CANDIDATE, _RIVAL)
    )
    return Paired(
        a_version=a_version,
        b_version=b_version,
        weeks=weeks,
        rows=rows,
        positives=mine.positives,
        a_log_loss=rival.value,
        b_log_loss=mine.value,
        gain=rival.gain,
        low=rival.gain_low,
        high=rival.gain_high,
    )


def promised(verdict_body: Mapping[str, Any]) -> Promise:
    """What the verdict said of its candidate. Raises VerdictCorrupt for a body that does not verify."""
    mine = [m for m in Verdict.from_json(verdict_body).measurements if m.model == CANDIDATE]
    overall = {m.metric: _figure(m) for m in mine if m.kind == "all"}
    shown = [m for m in mine if m.kind in ("all", "as_of")]
    lows = [m.low for m in shown if m.metric == "auc" and m.low is not None]
    highs = [m.high for m in shown if m.metric == "log_loss" and m.high is not None]
    return Promise(
        overall.get("auc", Figure(None)),
        overall.get("log_loss", Figure(None)),
        min(lows, default=None),
        max(highs, default=None),
    )


def breached(figures: WeekFigures, promise: Promise) -> tuple[str, ...]:
    """Each promise the week broke, as a sentence; none when it kept them, or when nothing can be said.

    A promise is broken when the week's whole interval is worse than the bound.
    """
    broken = []
    auc, loss = figures.auc, figures.log_loss
    if auc.high is not None and promise.lowest_auc is not None and auc.high < promise.lowest_auc:
        broken.append(f"AUC {auc}, promised at least {promise.lowest_auc:.4f}")
    if loss.low is not None and promise.highest_log_loss is not None and loss.low > promise.highest_log_loss:
        broken.append(f"log loss {loss}, promised at most {promise.highest_log_loss:.4f}")
    return tuple(broken)


def _measure(
    rows: pl.DataFrame, scores: Mapping[str, pl.Series], spec: ModelSpec, replicates: int
) -> list[Measurement]:
    return measure(
        rows["label"].to_numpy(),
        rows[spec.cluster].to_numpy(),
        {model: values.to_numpy() for model, values in scores.items()},
        [Group("all", "all", np.arange(rows.height))],
        seed=spec.seed,
        replicates=replicates,
        threads=spec.resources.cpu,
    )


def _figure(measurement: Measurement) -> Figure:
    return Figure(measurement.value, measurement.low, measurement.high)


def _with_role(predictions: pl.DataFrame) -> pl.DataFrame:
    """Predictions from before there were roles were the champion's."""
    return predictions if "role" in predictions.columns else predictions.with_columns(role=pl.lit("champion"))


def _demand_unique(frame: pl.DataFrame, key: list[str], what: str, spec: ModelSpec) -> None:
    missing = [name for name in key if name not in frame.columns]
    twice = 0 if missing else frame.height - frame.n_unique(key)
    if missing or twice:
        trouble = f"lack {', '.join(missing)}" if missing else f"name {twice} rows twice"
        raise CannotCompare(f"the {what} {trouble}", where=spec.name, next_step=f"materialise the {what} again")
