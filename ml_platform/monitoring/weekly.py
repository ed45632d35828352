"""What is known of a model's Monday, measured once and kept: its drift, and how well it turned out.

Two tables of the lake, one partition a Monday. `drift/<model>`: a row a column (see `drift.DriftReport.table`).
`performance/<model>`: every matured prediction with its label (see `performance.realised`), under the Monday on which
its labels had matured. What was concluded stands in the partition's metadata, and `drift_records` and
`performance_records` read it back: every reaction of the platform is a function of these records, the ledger and the
clock, so it can be decided again after any crash and comes out the same.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import date
from typing import Literal

import polars as pl

from ml_platform.calendar import last_monday
from ml_platform.contracts import FeatureTable
from ml_platform.features.store import FeatureStore
from ml_platform.lake import PartitionedTable, Published
from ml_platform.monitoring.drift import DriftReport, growing_features, judge_drift
from ml_platform.monitoring.performance import WeekFigures, breached, nothing_realised, promised, realised, week_figures
from ml_platform.monitoring.sketch import Sketch, count_into
from ml_platform.predictions import Scorer, joined
from ml_platform.tasks import task_of
from ml_platform.training.spec import ModelSpec

DriftVerdict = Literal["calm", "drifted", "empty", "data_bug"]


@dataclass(frozen=True)
class DriftRecord:
    """What was concluded of the inputs and scores of a Monday, for the champion of that time."""

    as_of: date
    verdict: DriftVerdict
    cause: str
    version: int
    figures: Mapping[str, float]


@dataclass(frozen=True)
class PerformanceRecord:
    """How the predictions as of a Monday turned out. `judged_on`: the Monday their labels had matured by.

    `breached`: each promise of the champion's evaluation that the week broke. Versions are None where nobody predicted.
    """

    judged_on: date
    as_of: date
    champion: int | None
    challenger: int | None
    rows: int
    positives: int
    breached: tuple[str, ...]
    figures: Mapping[str, float | None]


def matured_monday(spec: ModelSpec, judged_on: date) -> date:
    """The newest Monday whose labels have matured by `judged_on`."""
    return last_monday(judged_on - spec.label.maturity)


@dataclass(frozen=True, eq=False)
class MondayDrift:
    """A drift measurement: `inputs` [n_rows, key + features] is what was counted into `current`."""

    report: DriftReport
    record: DriftRecord
    inputs: pl.DataFrame
    current: Sketch


def measure_drift(
    spec: ModelSpec,
    champion: Scorer,
    store: FeatureStore,
    predictions: pl.DataFrame,
    as_of: date,
    tables: Mapping[str, FeatureTable],
) -> MondayDrift:
    """The champion's inputs and scores of a Monday against the sketch it was trained on.

    A Monday before the spec's first usable one has windows that are not full: that is no drift, it is a data bug.
    Raises ReferenceMissing for a bundle without a reference.
    """
    task, key = task_of(spec), [*spec.entity, "as_of"]
    answered = task.fold(predictions.filter(pl.col("role") == "champion"), key).sort(key)
    inputs = joined(spec, champion.bundle, store, answered.select(key))
    reference = champion.bundle.reference()
    current = count_into(reference, task.watched(champion.bundle, inputs, answered))
    gains = champion.bundle.json("importance.json")["gain"]
    report = judge_drift(reference, current, gains, growing_features(champion.bundle.features, tables), spec.drift)
    verdict, cause = report.verdict, report.cause
    if as_of < spec.split.first:
        verdict, cause = "data_bug", f"windows are not full before {spec.split.first}; nothing is concluded of a shift"
    record = DriftRecord(as_of, verdict, cause, champion.version, report.figures())
    return MondayDrift(report, record, inputs, current)


def publish_drift(table: PartitionedTable, report: DriftReport, record: DriftRecord) -> Published:
    """Keeps the report under its Monday."""
    stated = json.dumps(asdict(record), default=str)
    frame = pl.DataFrame(report.table())
    return table.publish(table.stage(record.as_of.isoformat(), frame, {"record": stated}))


def drift_records(table: PartitionedTable) -> list[DriftRecord]:
    """Every record of a model, oldest first."""
    read = (json.loads(table.require(partition).metadata["record"]) for partition in table.partitions())
    return [DriftRecord(**stated | {"as_of": date.fromisoformat(stated["as_of"])}) for stated in read]


def measure_performance(
    spec: ModelSpec, predictions: pl.DataFrame | None, labels: pl.DataFrame, verdict: Mapping | None, judged_on: date
) -> tuple[pl.DataFrame, tuple[WeekFigures, ...], PerformanceRecord]:
    """The predictions of the Monday that has just matured, met with their labels, against what `verdict` promised.

    Without predictions (nobody served then) there are no rows, and the record says so.
    """
    as_of = matured_monday(spec, judged_on)
    nothing = nothing_realised(spec, labels.schema)
    frame = nothing if predictions is None else realised(predictions, labels, spec)
    weeks = week_figures(frame, spec)
    of = {week.role: week for week in weeks}
    mine = of.get("champion")
    broken = breached(mine, promised(spec, verdict)) if mine and verdict else ()
    figures: dict[str, float | None] = {}
    for week in weeks:
        figures |= {f"{week.role}_{metric}": figure.value for metric, figure in week.figures.items()}
    record = PerformanceRecord(
        judged_on=judged_on,
        as_of=as_of,
        champion=mine.model_version if mine else None,
        challenger=of["challenger"].model_version if "challenger" in of else None,
        rows=mine.rows if mine else 0,
        positives=mine.positives if mine else 0,
        breached=broken,
        figures=figures,
    )
    return frame, weeks, record


def publish_performance(table: PartitionedTable, frame: pl.DataFrame, record: PerformanceRecord) -> Published:
    """Keeps the matured rows under the Monday they were judged on."""
    stated = json.dumps(asdict(record), default=str)
    return table.publish(table.stage(record.judged_on.isoformat(), frame, {"record": stated}))


def performance_records(table: PartitionedTable) -> list[PerformanceRecord]:
    """Every record of a model, oldest first."""
    records = []
    for partition in table.partitions():
        stated = json.loads(table.require(partition).metadata["record"])
        days = {name: date.fromisoformat(stated[name]) for name in ("judged_on", "as_of")}
        records.append(PerformanceRecord(**stated | days | {"breached": tuple(stated["breached"])}))
    return records
