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
from ml_platform.evaluation.bootstrap import CANDIDATE, REPLICATES, Group, Measurement
from ml_platform.evaluation.gates import METRIC_WORDS, Verdict
from ml_platform.tasks import task_of
from ml_platform.training.spec import HIGHER_IS_BETTER, Metric, ModelSpec

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
    figures: Mapping[Metric, Figure]

    def row(self) -> dict[str, str | int]:
        """For a table people read."""
        stated = {name: value for name, value in vars(self).items() if name != "figures"} | dict(self.figures)
        return {name: value if isinstance(value, int) else str(value) for name, value in stated.items()}


@dataclass(frozen=True)
class Promise:
    """What an evaluation said of a model before it served.

    `figures` are over all its rows; `bounds` are the worst that it showed on them or on any single Monday: labels are
    rarer in some weeks than in others, and that alone moves a log loss.
    """

    figures: Mapping[Metric, Figure]
    bounds: Mapping[Metric, float]


@dataclass(frozen=True)
class Paired:
    """How much better version b did than version a on the same rows: `gain` is how far b's `metric` lies to the better
    side of a's, with its 95 % interval; None where there are no rows, or too few households for an interval."""

    a_version: int
    b_version: int
    metric: Metric
    weeks: int = 0
    rows: int = 0
    positives: int = 0
    a: float | None = None
    b: float | None = None
    gain: float | None = None
    low: float | None = None
    high: float | None = None

    def to_json(self) -> dict[str, str | int | float | None]:
        return asdict(self)


def is_mature(as_of: date, cutoff: date, spec: ModelSpec) -> bool:
    """Whether labels as of that Monday can no longer change, by what had landed before the cutoff."""
    return as_of + spec.label.maturity <= cutoff


def realised(predictions: pl.DataFrame, labels: pl.DataFrame, spec: ModelSpec) -> pl.DataFrame:
    """Predictions that have a label: [entity…, as_of, role, model_version, answer, label], sorted by key and role.

    predictions: as `predictions.contract` (without a role, all are the champion's); labels: entity…, as_of, label,
    matured. What has no partner is left out; `unmatched` says how much. Raises CannotCompare.
    """
    task, key = task_of(spec), [*spec.entity, "as_of"]
    folded = task.fold(_with_role(predictions), [*key, "role"])
    _demand_unique(folded, [*key, "role"], "predictions", spec)
    _demand_unique(labels, key, "labels", spec)
    known = labels.select(*key, pl.col("label").cast(task.LABEL)).drop_nulls("label")
    met = folded.join(known, on=key, how="inner").sort("as_of", *spec.entity, "role")
    return met.select(*key, "role", "model_version", task.ANSWER[0], "label")


def nothing_realised(spec: ModelSpec, key: Mapping[str, pl.DataType]) -> pl.DataFrame:
    """No rows, in the shape of `realised`; `key`: types of the entity and as_of."""
    task = task_of(spec)
    stated = {name: key[name] for name in (*spec.entity, "as_of")}
    answered = {"role": pl.String(), "model_version": pl.Int64(), task.ANSWER[0]: task.ANSWER[1]}
    return pl.DataFrame(schema={**stated, **answered, "label": task.LABEL})


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


def state_of(frame: pl.DataFrame, spec: ModelSpec) -> State:
    """What can be measured on rows with a label."""
    if frame.is_empty():
        return "empty"
    return "one_class" if task_of(spec).one_class(frame["label"]) else "measured"


def week_figures(frame: pl.DataFrame, spec: ModelSpec, replicates: int = REPLICATES) -> tuple[WeekFigures, ...]:
    """Every metric of the task for each version in each role on each Monday of a `realised` frame.

    In order of Monday, role and version; none for an empty frame. Raises BadScores.
    """
    figures = []
    parts = frame.sort("as_of", "role", "model_version").group_by("as_of", "role", "model_version", maintain_order=True)
    for (as_of, role, version), rows in parts:
        found = {m.metric: m for m in _measure(rows, {CANDIDATE: rows}, spec, replicates)}
        assert isinstance(as_of, date)
        figures.append(
            WeekFigures(
                as_of=as_of,
                role=str(role),
                model_version=int(str(version)),
                rows=rows.height,
                positives=next(iter(found.values())).positives,
                state=state_of(rows, spec),
                figures={metric: _figure(found[metric]) for metric in task_of(spec).METRICS},
            )
        )
    return tuple(figures)


def paired(
    frame: pl.DataFrame, a_version: int, b_version: int, spec: ModelSpec, replicates: int = REPLICATES
) -> Paired:
    """Both versions on the rows that both answered, whatever their roles, over all weeks of a `realised` frame."""
    task, key = task_of(spec), [*spec.entity, "as_of"]
    a, b = (
        frame.filter(pl.col("model_version") == version).unique(key, keep="first", maintain_order=True)
        for version in (a_version, b_version)
    )
    a, b = a.join(b, on=key, how="semi").sort(key), b.join(a, on=key, how="semi").sort(key)
    if a.is_empty():
        return Paired(a_version, b_version, task.HEADLINE)
    found = _measure(a, {CANDIDATE: b, _RIVAL: a}, spec, replicates)
    mine, rival = (
        next(m for m in found if (m.model, m.metric) == (model, task.HEADLINE)) for model in (CANDIDATE, _RIVAL)
    )
    return Paired(
        a_version=a_version,
        b_version=b_version,
        metric=task.HEADLINE,
        weeks=a["as_of"].n_unique(),
        rows=a.height,
        positives=mine.positives,
        a=rival.value,
        b=mine.value,
        gain=rival.gain,
        low=rival.gain_low,
        high=rival.gain_high,
    )


def promised(spec: ModelSpec, verdict_body: Mapping[str, Any]) -> Promise:
    """What the verdict said of its candidate. Raises VerdictCorrupt for a body that does not verify."""
    mine = [m for m in Verdict.from_json(verdict_body).measurements if m.model == CANDIDATE]
    figures: dict[Metric, Figure] = {m.metric: _figure(m) for m in mine if m.kind == "all"}
    bounds: dict[Metric, float] = {}
    for metric in task_of(spec).PROMISED:
        shown = [m for m in mine if m.kind in ("all", "as_of") and m.metric == metric]
        ends = [m.low if HIGHER_IS_BETTER[metric] else m.high for m in shown]
        known = [end for end in ends if end is not None]
        if known:
            bounds[metric] = min(known) if HIGHER_IS_BETTER[metric] else max(known)
    return Promise(figures, bounds)


def breached(figures: WeekFigures, promise: Promise) -> tuple[str, ...]:
    """Each promise the week broke, as a sentence; none when it kept them, or when nothing can be said.

    A promise is broken when the week's whole interval is worse than the bound.
    """
    broken = []
    for metric, bound in promise.bounds.items():
        found, word = figures.figures[metric], METRIC_WORDS[metric]
        if HIGHER_IS_BETTER[metric] and found.high is not None and found.high < bound:
            broken.append(f"{word} {found}, promised at least {bound:.4f}")
        if not HIGHER_IS_BETTER[metric] and found.low is not None and found.low > bound:
            broken.append(f"{word} {found}, promised at most {bound:.4f}")
    return tuple(broken)


def _measure(
    rows: pl.DataFrame, answered: Mapping[str, pl.DataFrame], spec: ModelSpec, replicates: int
) -> list[Measurement]:
    """The answers of each frame to the same `rows`, over all of them."""
    task = task_of(spec)
    answers = {model: task.array(frame[task.ANSWER[0]]) for model, frame in answered.items()}
    return task.measure(spec, rows, answers, [Group("all", "all", np.arange(rows.height))], replicates)


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
