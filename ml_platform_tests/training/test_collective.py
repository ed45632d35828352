"""XGBoost over several processes: they learn what one alone does, repeat it, and end together."""

import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from ml_platform.registry.bundles import EVALUATION_SCORES, Bundle, open_bundle
from ml_platform.training.compute import run_worker
from ml_platform.training.data import read_role
from ml_platform.training.job import TrainingFailed, TrainingJob, write_job
from ml_platform.training.ranks import Ranks
from ml_platform.training.rehearsal import is_reproducible
from ml_platform.training.reporting import PlainReporter
from ml_platform.training.spec import ModelSpec, Resources, Trainer
from ml_platform.training.worker import train
from ml_platform_tests.training.conftest import ROWS_BY_ROLE, make_rows, make_spec

LOSS_BOUND = 1e-3
"""Between the log losses of one process and of two, in every round. Their quantiles are of merged sketches, which may
differ by a bin; here they do not. With subsampling each would draw from its own rows, and give another model."""
SCORE_BOUND = 1e-2
TRAINER = Trainer("xgboost", rounds=40, early_stopping_rounds=8, params={"eta": 0.2, "max_depth": 3})
SHARED = Resources(cpu=2, workers=2)


@dataclass(frozen=True)
class Both:
    """One training by one process, and by two, which said something meanwhile."""

    spec: ModelSpec
    data: Path
    alone: Bundle
    together: Bundle
    said: tuple[str, ...]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Both:
    folder = tmp_path_factory.mktemp("both")
    data = folder / "training_set.parquet"
    pq.write_table(make_rows(), data)
    spec = make_spec(folder, trainer=TRAINER, resources=SHARED)
    one = replace(spec, resources=Resources(cpu=1))
    alone = train(TrainingJob.from_spec(one, data, "digest-of-the-data", folder / "one"), PlainReporter())
    job = TrainingJob.from_spec(spec, data, "digest-of-the-data", folder / "two")
    assert alone is not None and (job.processes, job.threads) == (2, 1)
    said: list[str] = []
    run_worker(write_job(job, folder / "job.json"), said.append)
    return Both(spec, data, alone, open_bundle(folder / "two"), tuple(said))


def test_two_processes_learn_what_one_does(both: Both) -> None:
    for name, curve in both.alone.curves().items():
        assert both.together.curves()[name] == pytest.approx(curve, abs=LOSS_BOUND)
    assert both.together.report["rounds"] == both.alone.report["rounds"]
    for column in ("score_raw", "score"):
        one, two = (pq.read_table(each.path / EVALUATION_SCORES)[column] for each in (both.alone, both.together))
        assert np.abs(one.to_numpy() - two.to_numpy()).max() < SCORE_BOUND
    seen, shared = (each.json("reference.json") for each in (both.alone, both.together))
    assert shared.keys() == seen.keys() and shared["rows"] == seen["rows"] == ROWS_BY_ROLE["train"]
    assert sum("round 2 of at most 40" in line for line in both.said) == 1, "the first alone speaks"
    assert all(line.startswith("returning_shopper: ") for line in both.said)


def test_every_row_is_one_process_s_share(both: Both) -> None:
    whole = read_role(both.data, "train", both.spec.features)
    first, second = (read_role(both.data, "train", both.spec.features, Ranks(number, 2)) for number in (0, 1))
    assert first.features.tobytes() == whole.features[::2].tobytes()
    assert second.features.tobytes() == whole.features[1::2].tobytes()
    assert second.labels.tolist() == whole.labels[1::2].tolist()
    with pytest.raises(TrainingFailed, match="the 1500 rows of the role 'train' are not enough for 1501 processes"):
        read_role(both.data, "train", both.spec.features, Ranks(0, ROWS_BY_ROLE["train"] + 1))


def test_two_processes_repeat_their_first_rounds_to_the_bit(both: Both, tmp_path: Path) -> None:
    assert is_reproducible(both.spec, both.together, both.data, "digest-of-the-data", tmp_path)
    assert not is_reproducible(
        replace(both.spec, resources=Resources(cpu=1)), both.together, both.data, "digest-of-the-data", tmp_path
    ), "the number of processes is part of the job"


def test_what_fails_in_all_processes_is_told_once_in_the_first_one_s_words(both: Both, tmp_path: Path) -> None:
    wrong = replace(both.spec, trainer=replace(TRAINER, params={"eta": -1}))
    job = TrainingJob.from_spec(wrong, both.data, "digest-of-the-data", tmp_path / "bundle")
    began = time.monotonic()
    with pytest.raises(TrainingFailed, match="XGBoost refuses the training") as failed:
        run_worker(write_job(job, tmp_path / "job.json"), lambda line: None)
    assert failed.value.what.count("TrainingFailed") == 1 and time.monotonic() - began < 10
    assert not (tmp_path / "bundle").exists()
