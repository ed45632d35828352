"""Checkpoints are there whole or not at all, and only the newest worker may write them."""

from pathlib import Path

import pytest

from ml_platform.training.checkpoints import Checkpoints, WorkerFenced, newest_intact

JOB = "digest-of-the-job"


def read(folder: Path, said: list[str] | None = None) -> dict | None:
    found = newest_intact(folder, JOB, (said if said is not None else []).append)
    return None if found is None else dict(found)


def test_the_newest_checkpoint_is_read_and_the_last_two_are_kept(tmp_path: Path) -> None:
    checkpoints = Checkpoints.claim(tmp_path, JOB)
    assert read(tmp_path) is None
    for step in (1, 2, 10):
        checkpoints.save(step, {"state": f"after {step}".encode()})
    assert read(tmp_path) == {"state": b"after 10"}
    assert sorted(path.name[:15] for path in tmp_path.glob("step-*")) == ["step-0000000002", "step-0000000010"]


@pytest.mark.parametrize(
    ("tear", "words"),
    [
        (lambda path: (path / "state").write_bytes(b"after 3"), "state differs"),
        (lambda path: (path / "state").unlink(), "cannot be read"),
        (lambda path: (path / "manifest.json").write_text("{"), "cannot be read"),
        (lambda path: (path / "manifest.json").write_text('{"format_version": 9, "job_digest": ""}'), "another"),
    ],
)
def test_a_torn_checkpoint_is_passed_over_for_the_one_before_and_said(tmp_path: Path, tear, words: str) -> None:
    checkpoints, said = Checkpoints.claim(tmp_path, JOB), []
    checkpoints.save(1, {"state": b"after 1"})
    tear(checkpoints.save(2, {"state": b"after 2"}))
    assert read(tmp_path, said) == {"state": b"after 1"}
    assert len(said) == 1 and "step-0000000002" in said[0] and words in said[0]


def test_a_checkpoint_of_another_job_is_not_gone_on_from(tmp_path: Path) -> None:
    Checkpoints.claim(tmp_path, "another job").save(5, {"state": b""})
    assert read(tmp_path) is None


def test_a_worker_whose_place_was_taken_commits_nothing_more(tmp_path: Path) -> None:
    zombie = Checkpoints.claim(tmp_path, JOB)
    zombie.save(1, {"state": b"of the first"})
    heir = Checkpoints.claim(tmp_path, JOB)
    with pytest.raises(WorkerFenced, match="holds token 1, the newest is 2"):
        zombie.save(2, {"state": b"of the zombie"})
    with pytest.raises(WorkerFenced):
        zombie.demand_newest()
    assert read(tmp_path) == {"state": b"of the first"}
    heir.save(2, {"state": b"of the heir"})
    assert read(tmp_path) == {"state": b"of the heir"}
    assert not list(tmp_path.glob(".*aside"))


def test_a_worker_that_outlives_the_end_of_its_training_commits_nothing(tmp_path: Path) -> None:
    late = Checkpoints.claim(tmp_path / "it", JOB)
    late.discard()
    with pytest.raises(WorkerFenced):
        late.demand_newest()
