"""Who should serve next, by what has turned out: promotion of a challenger, its retirement, or a rollback.

A pure reading of the ledger and of the matured weeks; `assets.champion` carries it out. A first model is promoted on
its offline verdict. After that a version that passed its gates has to prove itself on weeks it predicted in shadow,
and a champion that breaks its promises gives way to a former one that would have kept them better.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, Literal

import polars as pl

from ml_platform.evaluation.gates import METRIC_WORDS
from ml_platform.features.store import FeatureStore
from ml_platform.lake import PartitionedTable
from ml_platform.monitoring.performance import Paired, paired
from ml_platform.monitoring.weekly import PerformanceRecord, performance_records
from ml_platform.predictions import answer
from ml_platform.registry.bundles import open_bundle
from ml_platform.registry.challengers import challenger, former_champions
from ml_platform.registry.ledger import Ledger
from ml_platform.registry.records import ModelVersion
from ml_platform.tasks import task_of
from ml_platform.training.spec import ModelSpec, Trial

Act = Literal["promote", "retire", "rollback", "wait", "none"]


@dataclass(frozen=True)
class Succession:
    """What to do about the champion, with which version, and why. `evidence`: the figures it rests on."""

    act: Act
    version: int | None
    reason: str
    evidence: Mapping[str, Any] = field(default_factory=dict)


def decide_succession(spec: ModelSpec, book: Ledger, performance: PartitionedTable, store: FeatureStore) -> Succession:
    """What the record says should happen now; the same record gives the same answer."""
    champion = book.champion(spec.name)
    if champion is None:
        newest = max(book.versions(spec.name), key=lambda each: (each.cutoff, each.version), default=None)
        if newest is None:
            return Succession("none", None, "nothing was trained yet")
        return Succession("promote", newest.version, "first model that passed every gate")
    records = performance_records(performance)
    fallen = _fallen(spec, book, champion, records, performance, store)
    if fallen:
        return fallen
    rival = challenger(book, spec.name, spec.gate_names)
    if rival is None:
        return Succession("none", champion.version, "no version is on trial")
    if spec.trial is None:
        return Succession("promote", rival.version, "passed every gate; the model is declared without a trial")
    return judge_trial(spec, spec.trial, champion, rival, records, performance)


def judge_trial(
    spec: ModelSpec,
    trial: Trial,
    champion: ModelVersion,
    rival: ModelVersion,
    records: Sequence[PerformanceRecord],
    performance: PartitionedTable,
) -> Succession:
    """The challenger against the champion on the matured weeks that both predicted at the time."""
    weeks = [r.judged_on for r in records if (r.champion, r.challenger) == (champion.version, rival.version)]
    found = Paired(champion.version, rival.version, task_of(spec).HEADLINE)
    if weeks:
        found = paired(_rows(performance, weeks), champion.version, rival.version, spec)
    evidence = found.to_json()
    if found.weeks < trial.min_weeks or found.positives < trial.min_positives:
        return Succession("wait", rival.version, f"{_seen(found)}: too little to decide", evidence)
    if found.low is not None and found.low > trial.margin:
        return Succession("promote", rival.version, f"better in shadow: {_seen(found)}", evidence)
    if found.high is not None and found.high <= trial.margin:
        return Succession("retire", rival.version, f"not better in shadow: {_seen(found)}", evidence)
    if found.weeks >= trial.max_weeks:
        return Succession("retire", rival.version, f"undecided after its last week: {_seen(found)}", evidence)
    return Succession("wait", rival.version, f"undecided: {_seen(found)}", evidence)


def broken_weeks(records: Sequence[PerformanceRecord], version: int) -> list[PerformanceRecord]:
    """The newest matured Mondays in a row on which the version, as champion, broke its promise; oldest first."""
    broken: list[PerformanceRecord] = []
    for record in sorted((r for r in records if r.rows), key=lambda each: each.judged_on, reverse=True):
        if record.champion != version or not record.breached:
            break
        broken.insert(0, record)
    return broken


def _fallen(
    spec: ModelSpec,
    book: Ledger,
    champion: ModelVersion,
    records: Sequence[PerformanceRecord],
    performance: PartitionedTable,
    store: FeatureStore,
) -> Succession | None:
    """A rollback, if the champion broke its promise for long enough and a former one was surely better then."""
    broken = broken_weeks(records, champion.version)
    if len(broken) < spec.rollback_after_weeks:
        return None
    weeks = broken[-spec.rollback_after_weeks :]
    served = _rows(performance, [record.judged_on for record in weeks]).filter(
        pl.col("model_version") == champion.version
    )
    for former in former_champions(book, spec.name):
        found = paired(pl.concat([served, _as_if(spec, former, served, store)]), champion.version, former.version, spec)
        if found.low is not None and found.low > 0:
            said = f"{len(broken)} matured Mondays below promise ({weeks[-1].breached[0]}); version {former.version}"
            return Succession("rollback", former.version, f"{said} would have been better: {_seen(found)}", vars(found))
    return None


def _as_if(spec: ModelSpec, former: ModelVersion, served: pl.DataFrame, store: FeatureStore) -> pl.DataFrame:
    """The rows as a former champion would have answered them then: features do not change in hindsight."""
    name, dtype = task_of(spec).ANSWER
    found = answer(spec, open_bundle(Path(former.bundle_uri)), store, served.select(*spec.entity, "as_of"))
    version = pl.lit(former.version, dtype=pl.Int64).alias("model_version")
    return served.with_columns(pl.Series(name, list(found), dtype=dtype), version).select(served.columns)


def _rows(performance: PartitionedTable, weeks: Sequence[date]) -> pl.DataFrame:
    """The realised rows judged on those Mondays, at least one."""
    return pl.concat([performance.read(week.isoformat()) for week in weeks])


def _seen(found: Paired) -> str:
    if found.gain is None:
        return "no matured week yet"
    interval = f" [{found.low:.5f}, {found.high:.5f}]" if found.low is not None and found.high is not None else ""
    gain = f"{METRIC_WORDS[found.metric]} gain {found.gain:+.5f}{interval}"
    return f"{gain} over {found.weeks} weeks, {found.positives:,} positives"
