"""What a model is asked: `classify` (will it happen?) or `rank` (which products?), one module each.

The life cycle is the same for both; what differs is what an answer is, how it stands in a table, and by which figures
it is judged. Inside a computation the answers of n rows are one array: probabilities float64 [n] of a classifier,
ranked product ids int64 [n, places] of a ranker. A task is chosen by the spec and nowhere else is there an `if`.
"""

import importlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import polars as pl

from ml_platform.contracts import Column, FeatureTable
from ml_platform.evaluation.bootstrap import Group, Measurement
from ml_platform.registry.bundles import Bundle
from ml_platform.tasks.account import Account
from ml_platform.training.spec import Metric, ModelSpec

if TYPE_CHECKING:
    from ml_platform.evaluation.report import Evaluation


class Task(Protocol):
    """The functions and constants of a task's module."""

    METRICS: tuple[Metric, ...]
    """Its figures, in the order in which they are read."""
    HEADLINE: Metric
    """The one that a trial compares."""
    PROMISED: tuple[Metric, ...]
    """Those that an evaluation promises of the weeks to come."""
    LABEL: pl.DataType
    ANSWER: tuple[str, pl.DataType]
    """Name and type of a folded frame's column of answers."""

    def odd_labels(self, labels: pl.Series) -> str:
        """What is wrong with labels, in a few words; empty when nothing is."""
        ...

    def answers(self, bundle: Bundle, rows: pl.DataFrame, items: pl.DataFrame | None) -> np.ndarray:
        """Answers to rows [n, entity…, as_of, `table__column`…]; `items`: the catalogue of their Mondays."""
        ...

    def accounts(self, bundle: Bundle, rows: pl.DataFrame, items: pl.DataFrame | None) -> list[Account]:
        """What the answers to such rows add up from: one a row, or one a place of each row's list."""
        ...

    def columns(self, spec: ModelSpec, items: FeatureTable | None) -> tuple[tuple[str, ...], tuple[Column, ...]]:
        """How answers stand in the table of predictions: columns that join its key, and all columns of an answer."""
        ...

    def tabulate(self, bundle: Bundle, rows: pl.DataFrame, items: pl.DataFrame | None, key: list[str]) -> pl.DataFrame:
        """The same answers as that table holds them: [key…, the columns of an answer]."""
        ...

    def fold(self, predictions: pl.DataFrame, key: list[str]) -> pl.DataFrame:
        """The table's rows with one row a key again: [key…, model_version, the answer]."""
        ...

    def array(self, answers: pl.Series) -> np.ndarray:
        """A folded frame's answers as one array."""
        ...

    def measure(
        self,
        spec: ModelSpec,
        rows: pl.DataFrame,
        answers: Mapping[str, np.ndarray],
        groups: Sequence[Group],
        replicates: int,
    ) -> list[Measurement]:
        """Every metric of every model on every group of rows [n, entity…, as_of, label], with intervals."""
        ...

    def baselines(
        self, spec: ModelSpec, training_set: pl.DataFrame, items: pl.DataFrame | None
    ) -> tuple[dict[str, np.ndarray], dict[str, Mapping[str, float | int | str]]]:
        """Of each declared baseline its answers to the rows of role `evaluate`, and what was tuned."""
        ...

    def one_class(self, labels: pl.Series) -> bool:
        """Whether these labels leave nothing to tell apart."""
        ...

    def watched(self, bundle: Bundle, inputs: pl.DataFrame, folded: pl.DataFrame) -> Mapping[str, np.ndarray]:
        """The numbers that drift is watched on, by column: inputs and scores."""
        ...

    def highlights(self, spec: ModelSpec, predictions: pl.DataFrame) -> list[dict[str, Any]]:
        """What the champion's predictions say at a glance, for a table."""
        ...

    def plots(self, evaluation: "Evaluation") -> dict[str, bytes]:
        """Every picture of an evaluation: name → PNG, in the order in which they are read."""
        ...


def task_of(spec: ModelSpec) -> Task:
    """The task of a spec."""
    return importlib.import_module(f"{__name__}.{spec.task}")  # type: ignore[return-value]
