"""What the platform did, judged with hindsight: its realised log loss beside that of four other policies.

The five are measured on the same rows: every Monday that a champion predicted and whose labels have matured.

- `platform`: the scores made at the time. Its trainings are the ledger's versions up to the last of those Mondays.
- `never`: the first champion scores every Monday. One training.
- `weekly`: each Monday is scored by a bundle trained at that very cutoff, promoted unseen. A cutoff that cannot be
  trained keeps the bundle before it; a Monday before the first that can be is left out, for all of them.
- `shadowed`: the same trainings, each served only from the Monday on by which a trial in the champion's shadow could
  have decided at the earliest. What waits for labels before it promotes is bounded by this, not by `weekly`.
- `best`: each Monday is scored by the bundle, of all that existed by then, that turned out best on it. No policy can
  know that at the time; its trainings are the bundles it chose.

Invariants: labels are those the rows were judged with, features do not change in hindsight, and one Monday's features
are in memory at a time; what is kept of a row is its label and five scores.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl

from ml_platform.calendar import WEEK
from ml_platform.errors import PlatformError
from ml_platform.evaluation.bootstrap import CONFIDENCE, MIN_CLUSTERS, REPLICATES, cluster_multiplicities
from ml_platform.evaluation.metrics import OneClass, compute_auc, compute_log_loss, log_losses
from ml_platform.features.store import FeatureStore
from ml_platform.lake import PartitionedTable
from ml_platform.monitoring.hindsight_trainings import Came, Training, Workshop, opened
from ml_platform.monitoring.hindsight_verdict import (
    POLICIES,
    Difference,
    Hindsight,
    MondayResult,
    Policy,
    PolicyResult,
)
from ml_platform.monitoring.weekly import PerformanceRecord, drift_records, performance_records
from ml_platform.predictions import joined
from ml_platform.registry.bundles import Bundle, open_bundle
from ml_platform.registry.ledger import Ledger
from ml_platform.training.data import feature_matrix
from ml_platform.training.spec import ModelSpec
from ml_platform.warehouse.base import Warehouse


class NothingToJudge(PlatformError):
    """No Monday has predictions by a champion with matured labels, and a bundle that weekly retraining would have."""


@dataclass(frozen=True)
class Step:
    """A step of the long way: `seconds` it took, number `done` of `total`; `reason` why a cutoff was not trained."""

    model: str
    cutoff: date
    what: Came | Literal["scored"]
    seconds: float
    done: int
    total: int
    reason: str = ""


@dataclass(frozen=True)
class _Candidate:
    """A bundle that existed from its cutoff on."""

    cutoff: date
    bundle: Bundle


def judge_hindsight(
    spec: ModelSpec,
    book: Ledger,
    lake: Path,
    store: FeatureStore,
    warehouse: Warehouse,
    scratch: Path,
    tell: Callable[[Step], object] = lambda step: None,
) -> Hindsight:
    """Judges every matured Monday of a model; bundles are kept under `scratch` and never trained twice.

    Raises NothingToJudge, and BundleMissing when the first champion's bundle is gone.
    """
    performance = PartitionedTable(lake / "performance", spec.name)
    records = [each for each in performance_records(performance) if each.champion is not None and each.rows]
    history, versions = book.history(spec.name), book.versions(spec.name)
    if not records or not history:
        raise _nothing(spec, "no Monday with a champion's predictions has matured yet")
    records.sort(key=lambda record: record.as_of)
    teller = _Teller(spec.name, 2 * len(records), tell)
    cutoffs = [record.as_of for record in records]
    trainings = Workshop(spec, store, warehouse, scratch).train_all(cutoffs, versions, teller.trained)
    weekly = [_Candidate(day, each.bundle) for day, each in trainings.items() if each.bundle]
    if not weekly:
        raise _nothing(spec, f"no cutoff could be trained: {trainings[cutoffs[-1]].reason}")
    in_ledger = [_Candidate(each.cutoff, bundle) for each in versions if (bundle := opened(each)) is not None]
    first = book.version(spec.name, history[0].to_version)
    judge = _Judge(
        spec=spec,
        store=store,
        performance=performance,
        first=open_bundle(Path(first.bundle_uri)),
        first_version=first.version,
        weekly=weekly,
        everyone=_distinct([*in_ledger, *weekly]),
        drifted={r.as_of for r in drift_records(PartitionedTable(lake / "drift", spec.name)) if r.verdict == "drifted"},
    )
    records = [record for record in records if record.as_of >= weekly[0].cutoff]
    teller.total = len(cutoffs) + len(records)
    judged = judge.all_of(records, teller)
    rows, mondays = pl.concat(each.rows for each in judged), tuple(each.result for each in judged)
    counts: dict[Policy, int] = {
        "platform": sum(version.cutoff <= mondays[-1].as_of for version in versions),
        "never": 1,
        "weekly": len(weekly),
        "shadowed": len(weekly),
        "best": len({monday.best_cutoff for monday in mondays}),
    }
    return Hindsight(
        model=spec.name,
        policies={policy: _result(policy, rows, counts[policy]) for policy in POLICIES},
        mondays=mondays,
        differences={policy: _difference(rows, policy, spec) for policy in POLICIES if policy != "platform"},
        untrained={day: each.reason for day, each in trainings.items() if each.bundle is None},
        left_out=tuple(day for day in cutoffs if day < weekly[0].cutoff),
        retired=len(book.retirements(spec.name)),
        rescored=max(each.rescored for each in judged),
    )


def shadow(spec: ModelSpec) -> timedelta:
    """The shortest time from a version's first prediction to the end of its trial; none for a model without trials."""
    return spec.label.maturity + (spec.trial.min_weeks - 1) * WEEK if spec.trial else timedelta(0)


@dataclass
class _Teller:
    """Counts the steps as it tells of them."""

    model: str
    total: int
    tell: Callable[[Step], object]
    done: int = 0

    def trained(self, training: Training) -> None:
        self.say(training.cutoff, training.came, training.seconds, training.reason)

    def say(self, cutoff: date, what: Came | Literal["scored"], seconds: float, reason: str = "") -> None:
        self.done += 1
        self.tell(Step(self.model, cutoff, what, seconds, self.done, self.total, reason))


@dataclass(frozen=True, eq=False)
class _Judged:
    """A Monday: its rows [cluster, label, a score a policy], its result, and how far the scores that the first
    champion published lie from those it gives now."""

    rows: pl.DataFrame
    result: MondayResult
    rescored: float


@dataclass(frozen=True)
class _Judge:
    """Scores one Monday after the other with the bundles that existed by then."""

    spec: ModelSpec
    store: FeatureStore
    performance: PartitionedTable
    first: Bundle
    first_version: int
    weekly: Sequence[_Candidate]
    everyone: Sequence[_Candidate]
    drifted: set[date]

    def all_of(self, records: Sequence[PerformanceRecord], teller: _Teller) -> list[_Judged]:
        judged: list[_Judged] = []
        for record in records:
            started = time.monotonic()
            judged.append(self._monday(record, judged[-1].result.version if judged else record.champion))
            teller.say(record.as_of, "scored", time.monotonic() - started)
        return judged

    def _monday(self, record: PerformanceRecord, before: int | None) -> _Judged:
        """`before`: the version that served the Monday before."""
        rows = self.performance.read(record.judged_on.isoformat()).filter(pl.col("role") == "champion")
        labels, served = rows["label"].to_numpy(), rows["score"].to_numpy()
        score = self._scorer(rows.select(*self.spec.entity, "as_of"))
        newest, tried = self._newest(record.as_of), self._newest(record.as_of - shadow(self.spec))
        best, best_scores = self._best(record.as_of, labels, score)
        found = {
            "platform": served,
            "never": score(self.first),
            "weekly": score(newest.bundle),
            "shadowed": score(tried.bundle),
            "best": best_scores,
        }
        of_first = (rows["model_version"] == self.first_version).to_numpy()
        version = int(rows["model_version"][0])
        result = MondayResult(
            as_of=record.as_of,
            rows=rows.height,
            positives=int(labels.sum()),
            log_loss={policy: compute_log_loss(labels, found[policy]) for policy in POLICIES},
            version=version,
            weekly_cutoff=newest.cutoff,
            best_cutoff=best.cutoff,
            new_champion=version != before,
            drifted=record.as_of in self.drifted,
        )
        scored = rows.select(pl.col(self.spec.cluster).alias("cluster"), "label").with_columns(
            **{policy: pl.Series(policy, scores) for policy, scores in found.items()}
        )
        return _Judged(scored, result, float(np.abs(found["never"] - served)[of_first].max(initial=0.0)))

    def _newest(self, day: date) -> _Candidate:
        """Of the weekly bundles the newest there was on a day; the first of them before there was any."""
        return max((each for each in self.weekly if each.cutoff <= day), key=lambda e: e.cutoff, default=self.weekly[0])

    def _best(
        self, as_of: date, labels: np.ndarray, score: Callable[[Bundle], np.ndarray]
    ) -> tuple[_Candidate, np.ndarray]:
        """Of all bundles that existed by then the one with the least log loss, the oldest of equals."""
        best: tuple[float, _Candidate, np.ndarray] | None = None
        for each in self.everyone:
            if each.cutoff <= as_of:
                scores = score(each.bundle)
                loss = compute_log_loss(labels, scores)
                best = (loss, each, scores) if best is None or loss < best[0] else best
        assert best is not None  # the weekly bundle is one of them
        return best[1], best[2]

    def _scorer(self, keys: pl.DataFrame) -> Callable[[Bundle], np.ndarray]:
        """As `predictions.score`, with the features of the rows read once for all bundles that want the same."""
        matrices: dict[tuple[str, ...], np.ndarray] = {}

        def score(bundle: Bundle) -> np.ndarray:
            if bundle.features not in matrices:
                table = joined(self.spec, bundle, self.store, keys).to_arrow()
                matrices[bundle.features] = feature_matrix(table, bundle.columns)
            return bundle.predict(matrices[bundle.features])

        return score


def _distinct(candidates: Sequence[_Candidate]) -> list[_Candidate]:
    """Each bundle once, from its earliest cutoff on, in time order."""
    found: dict[str, _Candidate] = {}
    for each in sorted(candidates, key=lambda each: each.cutoff):
        found.setdefault(each.bundle.digest, each)
    return list(found.values())


def _result(policy: Policy, rows: pl.DataFrame, trainings: int) -> PolicyResult:
    labels, scores = rows["label"].to_numpy(), rows[policy].to_numpy()
    try:
        auc = compute_auc(labels, scores)
    except OneClass:
        auc = None
    return PolicyResult(policy, compute_log_loss(labels, scores), auc, trainings)


def _difference(rows: pl.DataFrame, policy: Policy, spec: ModelSpec) -> Difference:
    """The mean difference, and its percentile interval when whole households are drawn."""
    labels = rows["label"].to_numpy()
    gaps = log_losses(labels, rows["platform"].to_numpy()) - log_losses(labels, rows[policy].to_numpy())
    _, cluster = np.unique(rows["cluster"].to_numpy(), return_inverse=True)
    sums, counts = np.bincount(cluster, gaps), np.bincount(cluster)
    value = float(gaps.mean())
    if len(counts) < MIN_CLUSTERS:
        return Difference(value, None, None)
    drawn = cluster_multiplicities(len(counts), REPLICATES, spec.seed)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile((drawn * sums).sum(axis=1) / (drawn * counts).sum(axis=1), (tail, 1 - tail))
    return Difference(value, float(low), float(high))


def _nothing(spec: ModelSpec, what: str) -> NothingToJudge:
    return NothingToJudge(what, where=spec.name, next_step="replay the year first: make live HEADLESS=1 SPEED=max")
