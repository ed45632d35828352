"""Job files: strict reading, and a digest of what decides the artifact."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from ml_platform.training.job import FORMAT_VERSION, JobUnreadable, TrainingJob, read_job, write_job


@pytest.fixture
def job(make_job: Callable[..., TrainingJob], rows: pa.Table) -> TrainingJob:
    return make_job(rows)


def test_a_job_read_back_is_the_job_that_was_written(job: TrainingJob, tmp_path: Path) -> None:
    assert read_job(write_job(job, tmp_path / "jobs" / "job.json")) == job


def test_a_job_takes_threads_seed_and_reproducible_rounds_from_the_spec(job: TrainingJob) -> None:
    assert (job.threads, job.seed, job.reproducible_rounds, job.rehearsal_rounds) == (2, 20170101, 4, None)


def test_the_digest_leaves_out_places_and_limits(job: TrainingJob) -> None:
    moved = replace(job, data_path="/other", output="/elsewhere", deadline_seconds=1)
    assert moved.digest() == job.digest()


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"threads": 1}, {"processes": 2}, {"data_digest": "x"}, {"spec_digest": "y"}]
)
def test_the_digest_changes_with_what_decides_the_artifact(job: TrainingJob, change: dict) -> None:
    assert replace(job, **change).digest() != job.digest()


def test_a_rehearsal_is_named_by_the_training_that_it_rehearses(job: TrainingJob) -> None:
    rehearsal = replace(job, rehearsal_rounds=4)
    assert rehearsal.digest() != job.digest() and rehearsal.rehearsed().digest() == job.digest()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format_version": FORMAT_VERSION + 1}, "format version 4"),
        ({"format_version": None}, "format version None"),
        ({"surprise": 1}, "unknown fields: surprise"),
        ({"trainer": {"kind": "xgboost"}}, "early_stopping_rounds, params, rounds"),
    ],
)
def test_a_job_file_that_says_something_else_is_refused(
    job: TrainingJob, tmp_path: Path, change: dict, words: str
) -> None:
    path = write_job(job, tmp_path / "job.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(JobUnreadable, match=words):
        read_job(path)


@pytest.mark.parametrize("content", ["", "{", "[]", "7"])
def test_a_damaged_job_file_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "job.json").write_text(content)
    with pytest.raises(JobUnreadable):
        read_job(tmp_path / "job.json")
