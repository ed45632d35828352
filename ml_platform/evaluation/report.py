"""An evaluation: a candidate, the champion and the baselines on the same frozen rows, and the verdict on it.

The evaluation set is the training set's rows of role `evaluate`; nothing here fits on them. Everything is a function of
the spec, the training set and the scores: the same inputs give the same verdict.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import polars as pl

from ml_platform.errors import PlatformError
from ml_platform.evaluation.baselines import frame_column
from ml_platform.evaluation.bootstrap import CANDIDATE, CHAMPION, REPLICATES, Group, Measurement
from ml_platform.evaluation.gates import Verdict, judge
from ml_platform.tasks import task_of
from ml_platform.training.spec import HIGHER_IS_BETTER, ModelSpec, Slice


class CannotEvaluate(PlatformError):
    """The training set has no rows to evaluate, lacks a column the spec names, or a baseline has a reserved name."""


@dataclass(frozen=True, eq=False)
class Answered:
    """A model's answers to the evaluate rows, in their order (see `tasks`), and its artifact's digest."""

    artifact_digest: str
    answers: np.ndarray


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The verdict with what its plots are drawn from.

    labels [n_evaluate]; answers: model name → [n_evaluate, …], the candidate first; `baseline_settings`: what was tuned
    of each baseline.
    """

    verdict: Verdict
    labels: pl.Series
    answers: Mapping[str, np.ndarray]
    baseline_settings: Mapping[str, Mapping[str, float | int | str]]


def evaluate(
    spec: ModelSpec,
    training_set: pl.DataFrame,
    candidate: Answered,
    champion: Answered | None,
    reproducible: bool,
    items: pl.DataFrame | None = None,
    replicates: int = REPLICATES,
) -> Evaluation:
    """Measures and judges the candidate.

    `training_set`: entity…, as_of, role, label and `table__column` features; `reproducible`: whether the rehearsal
    repeated the candidate's first rounds; `items`: of a ranker, the catalogue of its Mondays. Raises CannotEvaluate,
    BadScores, BadFrame, BadBaskets and BadRanking.
    """
    task, rows = task_of(spec), training_set.filter(pl.col("role") == "evaluate")
    _check(spec, rows)
    of_baselines, settings = task.baselines(spec, training_set, items)
    answers = {CANDIDATE: candidate.answers}
    if champion is not None:
        answers[CHAMPION] = champion.answers
    answers |= of_baselines
    measurements = task.measure(spec, rows, answers, evaluation_groups(spec, rows), replicates)
    verdict = Verdict(
        model=spec.name,
        artifact_digest=candidate.artifact_digest,
        champion_digest=champion.artifact_digest if champion else None,
        evaluation_digest=evaluation_digest(rows, spec.entity),
        gates=tuple(judge(spec, measurements, reproducible)),
        measurements=tuple(measurements),
    )
    return Evaluation(verdict, rows["label"], answers, settings)


def _check(spec: ModelSpec, rows: pl.DataFrame) -> None:
    where = f"evaluation of {spec.name}"
    if rows.is_empty():
        raise CannotEvaluate("no row has the role evaluate", where=where, next_step="look at the spec's split")
    wanted = [*spec.entity, "as_of", "label", *(frame_column(each.column) for each in spec.slices)]
    missing = [column for column in wanted if column not in rows.columns]
    if missing:
        raise CannotEvaluate(
            f"the training set lacks {', '.join(missing)}", where=where, next_step="materialise it again"
        )
    reserved = {baseline.name for baseline in spec.baselines} & {CANDIDATE, CHAMPION}
    if reserved:
        raise CannotEvaluate(f"a baseline is named {min(reserved)}", where=where, next_step="give it another name")


def evaluation_groups(spec: ModelSpec, rows: pl.DataFrame) -> list[Group]:
    """All rows, each Monday's, and each bin of every declared slice; empty bins are left out."""
    groups = [Group("all", "all", np.arange(len(rows)))]
    for as_of in rows["as_of"].unique().sort():
        groups.append(Group("as_of", str(as_of), np.flatnonzero((rows["as_of"] == as_of).to_numpy())))
    for each in spec.slices:
        groups += _slice_groups(each, rows)
    return groups


def _slice_groups(declared: Slice, rows: pl.DataFrame) -> list[Group]:
    values = rows[frame_column(declared.column)].cast(pl.Float64).to_numpy()
    missing = np.isnan(values)
    bins = np.where(missing, -1, np.searchsorted(declared.edges, values, side="right"))
    edges = [f"{edge:g}" for edge in declared.edges]
    names = [f"{low} to {high}" for low, high in pairwise(edges)]
    names = [f"below {edges[0]}", *names, f"{edges[-1]} or more", "missing"] if edges else ["known", "missing"]
    groups = [
        Group("slice", f"{declared.column} {name}", np.flatnonzero(bins == (number if name != "missing" else -1)))
        for number, name in enumerate(names)
    ]
    return [group for group in groups if len(group.rows)]


def evaluation_digest(rows: pl.DataFrame, entity: tuple[str, ...]) -> str:
    """SHA-256 over names, types, missing values and values of every column; row and column order do not matter.

    Hashed from the values themselves, not from a file, so it outlives releases of the file's writer.
    """
    rows = rows.sort("as_of", *entity)
    digest = hashlib.sha256(f"rows {len(rows)}\n".encode())
    for name in sorted(rows.columns):
        column = rows[name]
        digest.update(f"{name} {column.dtype}\n".encode())
        digest.update(np.packbits(column.is_null().to_numpy()).tobytes())
        if column.dtype == pl.String:
            known = column.fill_null("")
            digest.update(known.str.len_bytes().to_numpy().astype("<i8").tobytes())
            digest.update("".join(known.to_list()).encode())
        elif isinstance(column.dtype, pl.List):
            digest.update(column.list.len().fill_null(0).to_numpy().astype("<i8").tobytes())
            digest.update(column.explode(empty_as_null=False).drop_nulls().to_numpy().tobytes())
        else:
            known = column.to_physical() if column.dtype.is_temporal() else column
            values = known.cast(pl.Int8) if known.dtype == pl.Boolean else known
            digest.update(values.fill_null(0).to_numpy().tobytes())
    return digest.hexdigest()


def metrics_table(judged: Evaluation | Verdict, kind: str = "all") -> list[dict[str, str | int | float | None]]:
    """One row a group and model, the groups of `kind` (`all`, `as_of` or `slice`); figures rounded to 4 places.

    Columns: group, rows, positive_rate, model; then for each metric its value, its interval and how much better the
    candidate is, with the interval of that, as text.
    """
    verdict = judged.verdict if isinstance(judged, Evaluation) else judged
    table: dict[tuple[str, str], dict[str, str | int | float | None]] = {}
    for each in verdict.measurements:
        if each.kind != kind:
            continue
        row = table.setdefault(
            (each.group, each.model),
            {
                "group": each.group,
                "rows": each.rows,
                "positive_rate": round(each.positives / each.rows, 4),
                "model": each.model,
            },
        )
        row[each.metric] = None if each.value is None else round(each.value, 4)
        row[f"{each.metric}_interval"] = _interval(each.low, each.high)
        gain = "" if each.gain is None else f"{each.gain:+.4f} {_interval(each.gain_low, each.gain_high, '+')}".strip()
        row[f"candidate_gain_{each.metric}"] = gain
    return list(table.values())


def gates_table(judged: Evaluation | Verdict) -> list[dict[str, str | float | None]]:
    """One row a gate: gate, outcome (`passed` or `refused`), figure, threshold, explanation."""
    verdict = judged.verdict if isinstance(judged, Evaluation) else judged
    return [
        {
            "gate": gate.name,
            "outcome": "passed" if gate.passed else "refused",
            "figure": None if gate.figure is None else round(gate.figure, 4),
            "threshold": gate.threshold,
            "explanation": gate.explanation,
        }
        for gate in verdict.gates
    ]


def flat_metrics(judged: Evaluation | Verdict) -> dict[str, float]:
    """What tracking logs: `auc`, `auc_low`, … of the candidate, `<model>_auc`, `gain_over_<model>_auc`, … of others.

    Figures that are not defined are left out.
    """
    verdict = judged.verdict if isinstance(judged, Evaluation) else judged
    named: dict[str, float | None] = {}
    for each in verdict.measurements:
        if each.kind != "all":
            continue
        if each.model == CANDIDATE:
            named |= {each.metric: each.value, f"{each.metric}_low": each.low, f"{each.metric}_high": each.high}
        else:
            named |= {f"{each.model}_{each.metric}": each.value, f"gain_over_{each.model}_{each.metric}": each.gain}
    return {name: value for name, value in named.items() if value is not None}


def measured(judged: Evaluation | Verdict, kind: str, metric: str, model: str = CANDIDATE) -> list[Measurement]:
    """The measurements of one metric of one model, in group order. Raises KeyError for an unknown metric."""
    if metric not in HIGHER_IS_BETTER:
        raise KeyError(metric)
    verdict = judged.verdict if isinstance(judged, Evaluation) else judged
    return [m for m in verdict.measurements if (m.kind, m.metric, m.model) == (kind, metric, model)]


def _interval(low: float | None, high: float | None, sign: str = "") -> str:
    return "" if low is None or high is None else f"[{low:{sign}.4f}, {high:{sign}.4f}]"
