"""Trainers: one module a library, chosen by the spec's `trainer.kind`, in two families with the same functions each.

`fit(job, …, reporter)` and `rehearse(job, …, reporter)` learn from the roles train and stop alone, and give None where
another process of the same training has the result. A classifier learns from rows and `predict(model, features)` gives
raw scores of its bytes, `contributions` what each feature adds to them; a ranker learns from queries and catalogues,
`rank(model, vocabulary, queries, catalogue, k)` gives lists, `score_parts` what their scores add up from. The same
job gives the same bytes. The libraries are imported only once a trainer of theirs is asked for.
"""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, cast

import numpy as np

from ml_platform.ranking.baskets import Catalogue, Queries
from ml_platform.training.data import Rows
from ml_platform.training.job import TrainingJob
from ml_platform.training.reporting import Reporter
from ml_platform.training.spec import Role

Family = Literal["classifier", "ranker"]
_FAMILIES: Mapping[str, Family] = {"xgboost": "classifier", "torch": "ranker"}


@dataclass(frozen=True)
class Rehearsal:
    """SHA-256 of the float32 margins that the first `rounds` rounds (of `torch`: steps) give the rows of the role stop
    (of `torch`: its first batch; of several processes of `xgboost`: the first one's share)."""

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


@dataclass(frozen=True)
class FittedRanker(Fitted):
    """A trained ranker; `vocabulary` is what its weights are numbered by, as JSON. Curves are named in full."""

    vocabulary: Mapping[str, Any]


class ClassifierModule(Protocol):
    """What a module offers that trains classifiers of rows, of which each process has its share."""

    def fit(self, job: TrainingJob, rows: Mapping[Role, Rows], reporter: Reporter) -> Fitted | None: ...

    def rehearse(self, job: TrainingJob, rows: Mapping[Role, Rows], reporter: Reporter) -> Rehearsal | None: ...

    def predict(self, model: bytes, features: np.ndarray) -> np.ndarray: ...

    def contributions(self, model: bytes, features: np.ndarray) -> np.ndarray: ...


class RankerModule(Protocol):
    """What a module offers that trains rankers of products."""

    SCORE_PARTS: tuple[str, ...]

    def fit(
        self, job: TrainingJob, queries: Mapping[Role, Queries], catalogues: Mapping[int, Catalogue], reporter: Reporter
    ) -> FittedRanker | None: ...

    def rehearse(
        self, job: TrainingJob, queries: Mapping[Role, Queries], catalogues: Mapping[int, Catalogue], reporter: Reporter
    ) -> Rehearsal | None: ...

    def rank(
        self, model: bytes, stated: Mapping[str, Any], queries: Queries, catalogue: Catalogue, k: int
    ) -> tuple[np.ndarray, np.ndarray]: ...

    def embeddings(
        self, model: bytes, stated: Mapping[str, Any], queries: Queries, catalogue: Catalogue
    ) -> tuple[np.ndarray, np.ndarray]: ...

    def score_parts(
        self, model: bytes, stated: Mapping[str, Any], queries: Queries, catalogue: Catalogue, k: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]: ...


def family_of(kind: str) -> Family:
    """What trainers of this kind make."""
    return _FAMILIES[kind]


def classifier_module(kind: str) -> ClassifierModule:
    """The module of a trainer kind that makes classifiers (the spec has made sure that there is one)."""
    return cast(ClassifierModule, importlib.import_module(f"{__name__}.{kind}"))


def ranker_module(kind: str) -> RankerModule:
    """The module of a trainer kind that makes rankers."""
    return cast(RankerModule, importlib.import_module(f"{__name__}.{kind}"))
