"""A small model with everything an evaluation needs: a spec, a training set with a real signal, honest scores."""

from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from ml_platform.evaluation.report import Answered, Evaluation, evaluate
from ml_platform.training.spec import (
    Baseline,
    BeatsBaseline,
    BeatsChampion,
    Calibrated,
    Label,
    ModelSpec,
    NoSliceWorse,
    Reproducible,
    Slice,
    TemporalSplit,
    Trainer,
)

SPEND, TRIPS, GAP = "household:spend", "household:trips", "household:gap"
ROLES = ("train", "train", "stop", "calibrate", "evaluate", "evaluate")


@dataclass(frozen=True, eq=False)
class Workshop:
    """A spec, its training set, and for the evaluate rows their true chances and labels [n_evaluate]."""

    spec: ModelSpec
    training_set: pl.DataFrame
    truth: np.ndarray
    labels: np.ndarray

    @property
    def evaluate_rows(self) -> pl.DataFrame:
        return self.training_set.filter(pl.col("role") == "evaluate")

    def judged(self, scores: np.ndarray, champion: np.ndarray | None = None, reproducible: bool = True) -> Evaluation:
        rival = None if champion is None else Answered("c" * 64, champion)
        return evaluate(self.spec, self.training_set, Answered("a" * 64, scores), rival, reproducible, replicates=60)


def a_spec() -> ModelSpec:
    return ModelSpec(
        name="toy",
        description="a toy",
        owner="team:toys",
        entity=("household_id",),
        cluster="household_id",
        label=Label(Path("toy.sql")),
        features=(SPEND, TRIPS, GAP),
        split=TemporalSplit(date(2017, 1, 30), None),
        trainer=Trainer("xgboost", 10, 5),
        baselines=(Baseline("trips_table", "rate_table", (TRIPS,)), Baseline("logistic", "logistic", (TRIPS, GAP))),
        slices=(Slice(SPEND, (20.0, 60.0)), Slice(GAP, (5.0,))),
        gates=(
            BeatsBaseline("trips_table", margin=0.01),
            BeatsChampion(),
            Calibrated(max_ece=0.05),
            NoSliceWorse("logistic", tolerance=0.005),
            Reproducible(),
        ),
    )


@pytest.fixture(scope="session")
def workshop() -> Workshop:
    """1,500 households on six Mondays. The label depends on spend and trips; `gap` says little and is often missing."""
    generator = np.random.default_rng(7)
    frames, chances = [], []
    for week, role in enumerate(ROLES):
        households = np.arange(1500)
        spend = generator.gamma(2.0, 20.0, len(households))
        trips = generator.poisson(1 + spend / 30)
        gap = np.where(trips > 1, generator.uniform(1, 10, len(households)), np.nan)
        chance = 1 / (1 + np.exp(3.2 - 0.04 * spend - 0.35 * trips))
        frames.append(
            pl.DataFrame(
                {
                    "household_id": households,
                    "as_of": date(2017, 6, 5) + timedelta(weeks=week),
                    "role": role,
                    "label": (generator.random(len(households)) < chance).astype(np.int8),
                    "household__spend": spend,
                    "household__trips": trips.astype(np.int32),
                    "household__gap": gap,
                },
            ).with_columns(pl.col("household__gap").fill_nan(None))
        )
        chances.append(chance)
    training_set = pl.concat(frames)
    evaluated = (training_set["role"] == "evaluate").to_numpy()
    labels = training_set["label"].to_numpy()[evaluated].astype(np.int64)
    return Workshop(a_spec(), training_set, np.concatenate(chances)[evaluated], labels)


@pytest.fixture(scope="session")
def honest(workshop: Workshop) -> Evaluation:
    """The evaluation of a candidate that knows the true chances, beside a champion that is a little off."""
    champion = np.clip(workshop.truth + np.random.default_rng(3).normal(0, 0.12, len(workshop.truth)), 0.01, 0.99)
    return workshop.judged(workshop.truth, champion)
