"""A model is declared once: `ModelSpec` is everything its life cycle is derived from.

Frozen and validated where it is written, so a wrong declaration fails at load with the field that is wrong. Only the
standard library is imported: the training worker reads the same words in a pod that has nothing else.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Literal, get_args

from ml_platform.calendar import WEEK, last_monday
from ml_platform.contracts.pii import Pii
from ml_platform.errors import ConfigurationError
from ml_platform.monitoring.policy import DriftPolicy, Retraining, Trial
from ml_platform.training.resources import Resources

Role = Literal["train", "stop", "calibrate", "evaluate"]
TaskName = Literal["classify", "rank"]
RankingMetric = Literal["recall_at_10", "recall_at_20", "ndcg_at_10", "repeat_recall_at_10", "explore_recall_at_10"]
Metric = Literal["auc", "average_precision", "log_loss", "ece"] | RankingMetric
HIGHER_IS_BETTER: Mapping[Metric, bool] = {
    "auc": True,
    "average_precision": True,
    "log_loss": False,
    "ece": False,
    **dict.fromkeys(get_args(RankingMetric), True),
}


@dataclass(frozen=True)
class Label:
    """What is predicted: a SQL file that returns (entity…, as_of, label), and when its answer is final. The label is 0
    or 1 of a classifier, the list of products of a ranker.

    The file is given `as_ofs` (Mondays) and `cutoff`; it may read only what landed before the cutoff. `reads` names the
    marts it reads, for the lineage.
    """

    sql: Path
    reads: tuple[str, ...] = ()
    horizon_days: int = 28
    lateness_days: int = 7

    @property
    def maturity(self) -> timedelta:
        """Time from `as_of` until the label can no longer change: the horizon plus the allowed lateness."""
        return timedelta(days=self.horizon_days + self.lateness_days)


@dataclass(frozen=True)
class TemporalSplit:
    """Which Mondays train, stop, calibrate and evaluate, given a cutoff.

    The newest matured Mondays evaluate, `evaluate_every_weeks` apart. Everything that trains, stops or calibrates had
    its labels matured by the first of them; calibration takes the newest of those, then early stopping, then training.
    """

    first: date
    train_mondays: int | None
    train_every_weeks: int = 1
    stop_mondays: int = 1
    calibrate_mondays: int = 1
    evaluate_mondays: int = 3
    evaluate_every_weeks: int = 4

    def roles(self, cutoff: date, label: Label) -> dict[date, Role]:
        """The role of every Monday in the training set of `cutoff`, in time order.

        Raises ConfigurationError when too few Mondays have matured.
        """
        newest = last_monday(cutoff - label.maturity)
        evaluate = [newest - i * self.evaluate_every_weeks * WEEK for i in reversed(range(self.evaluate_mondays))]
        cursor = last_monday(evaluate[0] - label.maturity)
        earlier: list[tuple[date, Role]] = []
        for role, count in (("calibrate", self.calibrate_mondays), ("stop", self.stop_mondays)):
            for _ in range(count):
                earlier.append((cursor, role))  # type: ignore[arg-type]
                cursor -= WEEK
        train: list[date] = []
        while cursor >= self.first and (self.train_mondays is None or len(train) < self.train_mondays):
            train.append(cursor)
            cursor -= self.train_every_weeks * WEEK
        if not train or min(day for day, _ in earlier) < self.first:
            raise ConfigurationError(
                f"too few Mondays have matured by {cutoff}: training would have to start before {self.first}",
                where="TemporalSplit",
                next_step="use a later cutoff, or a split with fewer Mondays",
            )
        return dict(sorted([*((day, "train") for day in train), *earlier, *((day, "evaluate") for day in evaluate)]))


@dataclass(frozen=True)
class Trainer:
    """Which trainer the worker uses, and its parameters as that library (of `torch`: the sequence model) names them.

    A round is a tree of `xgboost`, an epoch of `torch`.
    """

    kind: Literal["xgboost", "torch"]
    rounds: int
    early_stopping_rounds: int
    params: Mapping[str, float | int | str] = field(default_factory=dict)


@dataclass(frozen=True)
class Baseline:
    """A simple model a candidate has to beat, fitted on the same rows.

    Of a classifier, `rate_table`: the label rate in each cell of the binned columns; `logistic`: logistic regression on
    the columns, which are feature references. Of a ranker (without columns), `global_frequency`: the most popular;
    `personal_frequency`, `decayed_frequency`: what the household bought most often, older baskets weighing less in the
    latter; `tifu_knn`: with those of its nearest neighbours. What can be tuned is tuned on the early-stopping Mondays.
    """

    name: str
    kind: (
        Literal["rate_table", "logistic"]
        | Literal["global_frequency", "personal_frequency", "decayed_frequency", "tifu_knn"]
    )
    columns: tuple[str, ...] = ()


@dataclass(frozen=True)
class Slice:
    """Rows grouped by a feature's value: half-open bins between the edges, open at both ends."""

    column: str
    edges: tuple[float, ...]


@dataclass(frozen=True)
class BeatsBaseline:
    """The lower bound of the paired, clustered bootstrap interval of the improvement exceeds `margin`, and the
    improvement itself is at least `least_gain`."""

    baseline: str
    metric: Metric = "auc"
    margin: float = 0.0
    least_gain: float = 0.0


@dataclass(frozen=True)
class BeatsChampion:
    """On the same frozen evaluation set, not worse than the champion: lower bound of improvement > -tolerance,
    and the point estimate of the improvement > `margin`. Passes when there is no champion."""

    metric: Metric = "log_loss"
    tolerance: float = 0.0
    margin: float = 0.0


@dataclass(frozen=True)
class Calibrated:
    """Expected calibration error (15 equal-mass bins) of the calibrated scores is at most `max_ece`."""

    max_ece: float = 0.02


@dataclass(frozen=True)
class NoSliceWorse:
    """In no declared slice with at least `min_rows` rows is the candidate worse than the reference by more than
    `tolerance` with confidence: the upper bound of the improvement stays above -tolerance. The reference is the
    champion, or `baseline` while there is none."""

    baseline: str
    metric: Metric = "log_loss"
    tolerance: float = 0.0
    min_rows: int = 200


@dataclass(frozen=True)
class Reproducible:
    """The first `rounds` rounds, trained again in a fresh process, give the same bits."""

    rounds: int = 5


Gate = BeatsBaseline | BeatsChampion | Calibrated | NoSliceWorse | Reproducible
GATE_KINDS: Mapping[TaskName, tuple[type, ...]] = {
    "classify": (BeatsBaseline, BeatsChampion, Calibrated, NoSliceWorse, Reproducible),
    "rank": (BeatsBaseline, BeatsChampion, NoSliceWorse, Reproducible),
}


def gate_name(gate: Gate) -> str:
    """`beats_champion`, … : the name of the gate's check, and the word a waiver uses."""
    name = re.sub(r"(?<!^)(?=[A-Z])", "_", type(gate).__name__).lower()
    return f"{name}_{gate.baseline}" if isinstance(gate, BeatsBaseline) else name


@dataclass(frozen=True)
class ModelSpec:
    """The one statement of a model. `features`, slices and baselines use references `table:column`.

    `task`: whether it gives each entity a probability or a list of products; a ranker names the feature table of the
    `items` that it may list.

    `trial=None`: a version that passes its gates is promoted on that verdict alone. `rollback_after_weeks`: matured
    Mondays in a row on which the champion breaks its promise before a better former one is taken back. `allowed_pii`:
    the classes that its inputs may be made of, however far back; keys that only join and group are no input.
    """

    name: str
    description: str
    owner: str
    entity: tuple[str, ...]
    cluster: str
    label: Label
    features: tuple[str, ...]
    split: TemporalSplit
    trainer: Trainer
    baselines: tuple[Baseline, ...]
    slices: tuple[Slice, ...]
    gates: tuple[Gate, ...]
    task: TaskName = "classify"
    items: str | None = None
    retraining: Retraining = field(default_factory=Retraining)
    trial: Trial | None = field(default_factory=Trial)
    drift: DriftPolicy = field(default_factory=DriftPolicy)
    rollback_after_weeks: int = 2
    resources: Resources = field(default_factory=Resources)
    feature_ttl_days: int = 7
    seed: int = 20170101
    allowed_pii: tuple[Pii, ...] = ("none",)

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9_]{1,62}", self.name):
            raise self._wrong("name", f"{self.name!r} is not a lower-case identifier")
        if not re.fullmatch(r"team:[\w-]+|[^@\s]+@[^@\s]+", self.owner):
            raise self._wrong("owner", f"{self.owner!r} is neither team:NAME nor an e-mail address")
        if self.cluster not in self.entity:
            raise self._wrong("cluster", f"{self.cluster!r} is not one of the entity columns {self.entity}")
        if not self.features or len(set(self.features)) != len(self.features):
            raise self._wrong("features", "they are empty or name a column twice")
        for reference in self.features:
            if not re.fullmatch(r"[a-z][a-z0-9_]*:[a-z][a-z0-9_]*", reference):
                raise self._wrong("features", f"{reference!r} is not of the form table:column")
        used = [(f"slice {s.column}", s.column) for s in self.slices]
        used += [(f"baseline {b.name}", c) for b in self.baselines for c in b.columns]
        for who, column in used:
            if column not in self.features:
                raise self._wrong("features", f"{who} uses {column!r}, which is not among them")
        if (self.items is None) == (self.task == "rank"):
            raise self._wrong("items", "a ranker names the table of what it may list, and a classifier names none")
        missing = [
            kind.__name__ for kind in GATE_KINDS[self.task] if not any(isinstance(gate, kind) for gate in self.gates)
        ]
        if missing:
            raise self._wrong("gates", f"{', '.join(missing)} missing; a gate is passed or waived, never left out")
        names = {baseline.name for baseline in self.baselines}
        for gate in self.gates:
            if isinstance(gate, BeatsBaseline | NoSliceWorse) and gate.baseline not in names:
                raise self._wrong("gates", f"{gate_name(gate)} names the unknown baseline {gate.baseline!r}")

    def _wrong(self, field_name: str, what: str) -> ConfigurationError:
        return ConfigurationError(
            what, where=f"ModelSpec {self.name}.{field_name}", next_step="correct the declaration"
        )

    @property
    def gate_names(self) -> tuple[str, ...]:
        """The names of the gates, as checks, verdicts and waivers call them."""
        return tuple(gate_name(gate) for gate in self.gates)

    @property
    def tables(self) -> tuple[str, ...]:
        """The feature tables the model's rows are joined to, in the order they are first named."""
        return tuple(dict.fromkeys(reference.split(":")[0] for reference in self.features))

    @property
    def reads(self) -> tuple[str, ...]:
        """Every feature table the model reads: those of its rows, and the one of its items."""
        return self.tables + ((self.items,) if self.items else ())

    def digest(self) -> str:
        """SHA-256 of everything that decides the training set and the model: data + this = the same artifact."""
        stated = asdict(self)
        for irrelevant in (
            *("description", "owner", "gates", "baselines", "slices", "allowed_pii"),
            *("retraining", "trial", "drift", "rollback_after_weeks"),
        ):
            del stated[irrelevant]
        stated["label"]["sql"] = self.label.sql.read_text()
        stated["resources"] = self.resources.decisive()
        return hashlib.sha256(json.dumps(stated, sort_keys=True, default=str).encode()).hexdigest()
