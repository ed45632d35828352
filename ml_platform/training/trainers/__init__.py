"""Trainers: one module a library, each with the same two functions, chosen by the spec's `trainer.kind`.

`fit(job, rows, reporter) -> Fitted` and `rehearse(job, rows, reporter) -> Rehearsal` learn from the roles train and
stop alone; `predict(model, features)` gives raw scores of a model's bytes. The same job gives the same bytes. The
libraries are imported inside the functions.
"""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ml_platform.training.data import Rows
from ml_platform.training.job import TrainingJob
from ml_platform.training.reporting import Reporter
from ml_platform.training.spec import Role


@dataclass(frozen=True)
class Rehearsal:
    """SHA-256 of the float32 margins that the first `rounds` rounds give the rows of the role stop."""

    rounds: int
    margins_sha256: str


@dataclass(frozen=True)
class Fitted:
    """A trained model: its bytes, the rounds it keeps, a curve of one loss a round for each role, and what of the loss
    all splits on a feature took away (so that shares of it say how much the model leans on each)."""

    model: bytes
    rounds: int
    curves: Mapping[str, list[float]]
    importance: Mapping[str, float]
    rehearsal: Rehearsal
    library: str


class TrainerModule(Protocol):
    """What a trainer module offers."""

    def fit(self, job: TrainingJob, rows: Mapping[Role, Rows], reporter: Reporter) -> Fitted: ...

    def rehearse(self, job: TrainingJob, rows: Mapping[Role, Rows], reporter: Reporter) -> Rehearsal: ...

    def predict(self, model: bytes, features: np.ndarray) -> np.ndarray: ...


def trainer_module(kind: str) -> TrainerModule:
    """The module of a trainer kind (the spec has made sure that there is one)."""
    return importlib.import_module(f"{__name__}.{kind}")  # type: ignore[return-value]
