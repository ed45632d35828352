"""A small training set that can be learnt from, a spec for it, and one real bundle trained by a real worker."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ml_platform.registry.bundles import Bundle, open_bundle
from ml_platform.training.compute import run_worker
from ml_platform.training.job import TrainingJob, write_job
from ml_platform.training.spec import (
    Baseline,
    BeatsBaseline,
    BeatsChampion,
    Calibrated,
    Label,
    ModelSpec,
    NoSliceWorse,
    Reproducible,
    Resources,
    TemporalSplit,
    Trainer,
)

# As the worker does: idle OpenMP threads that spin starve the tests beside them.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

ROWS_BY_ROLE = {"train": 1500, "stop": 500, "calibrate": 500, "evaluate": 600}
FEATURES = ("shopper:visits", "shopper:spend", "shopper:is_member", "shopper:noise")


@dataclass(frozen=True)
class Trained:
    """A finished training: its spec, its data, its job, its bundle, and what the worker said."""

    spec: ModelSpec
    data: Path
    job: TrainingJob
    bundle: Bundle
    said: tuple[str, ...]


def make_spec(folder: Path, **changes: object) -> ModelSpec:
    """A valid spec over FEATURES; any field can be changed."""
    sql = folder / "label.sql"
    sql.write_text("select 1")
    stated: dict = {
        "name": "returning_shopper",
        "description": "Whether a shopper returns.",
        "owner": "team:tests",
        "entity": ("shopper_id",),
        "cluster": "shopper_id",
        "label": Label(sql),
        "features": FEATURES,
        "split": TemporalSplit(first=date(2017, 1, 30), train_mondays=3),
        "trainer": Trainer(
            "xgboost",
            rounds=40,
            early_stopping_rounds=8,
            params={"eta": 0.2, "max_depth": 3, "subsample": 0.7, "colsample_bytree": 0.7},
        ),
        "baselines": (Baseline("visits", "rate_table", ("shopper:visits",)),),
        "slices": (),
        "gates": (
            BeatsBaseline("visits"),
            BeatsChampion(),
            Calibrated(),
            NoSliceWorse("visits"),
            Reproducible(rounds=4),
        ),
        "resources": Resources(cpu=2),
    }
    return ModelSpec(**{**stated, **changes})


def make_rows() -> pa.Table:
    """Rows of all four roles. Visits and membership tell of the label, noise does not; a fifth of spend is unknown."""
    rng = np.random.default_rng(7)
    rows = sum(ROWS_BY_ROLE.values())
    visits = rng.poisson(3, rows)
    member = rng.random(rows) < 0.4
    spend = visits * rng.gamma(2.0, 10.0, rows)
    label = rng.random(rows) < 1 / (1 + np.exp(1.5 - 0.5 * visits - member + 0.01 * spend))
    unknown = rng.random(rows) < 0.2
    role = np.repeat(list(ROWS_BY_ROLE), list(ROWS_BY_ROLE.values()))
    week = np.repeat(np.arange(len(ROWS_BY_ROLE)), list(ROWS_BY_ROLE.values()))
    return pa.table(
        {
            "shopper_id": np.arange(rows),
            "as_of": pa.array([date(2017, 3, 6) + timedelta(weeks=int(w)) for w in week]),
            "role": pa.array(role),
            "label": pa.array(label.astype(np.int8)),
            "shopper__visits": pa.array(visits.astype(np.int32)),
            "shopper__spend": pa.array(spend, mask=unknown),
            "shopper__is_member": pa.array(member),
            "shopper__noise": pa.array(rng.normal(size=rows).astype(np.float32)),
        }
    )


@pytest.fixture
def spec(tmp_path: Path) -> ModelSpec:
    return make_spec(tmp_path)


@pytest.fixture
def rows() -> pa.Table:
    return make_rows()


@pytest.fixture
def make_job(tmp_path: Path, spec: ModelSpec) -> Callable[..., TrainingJob]:
    """Writes rows to a training set and gives the job that trains a spec on them."""

    def make(table: pa.Table, job_spec: ModelSpec = spec) -> TrainingJob:
        data = tmp_path / "training_set.parquet"
        pq.write_table(table, data)
        return TrainingJob.from_spec(job_spec, data, "digest-of-the-data", tmp_path / "models" / "bundle")

    return make


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Trained once by a worker process; tests only read it."""
    folder = tmp_path_factory.mktemp("trained")
    spec, data = make_spec(folder), folder / "training_set.parquet"
    pq.write_table(make_rows(), data)
    job = TrainingJob.from_spec(spec, data, "digest-of-the-data", folder / "bundle")
    said: list[str] = []
    run_worker(write_job(job, folder / "job.json"), said.append)
    return Trained(spec, data, job, open_bundle(folder / "bundle"), tuple(said))
