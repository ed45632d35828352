"""Trainings of sequences that are killed, as processes and as pods: they go on from the newest intact checkpoint, and
end with the very bits of one that nobody disturbed."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ml_platform.registry.bundles import Bundle, open_bundle
from ml_platform.training.compute import worker_command
from ml_platform.training.job import TrainingJob, read_job, write_job
from ml_platform.training.rehearsal import repeats
from ml_platform_tests.kubernetes.cluster import Cluster, Fate, killed
from ml_platform_tests.kubernetes.conftest import Ended
from ml_platform_tests.training.baskets import World, make_world
from ml_platform_tests.warm import WORKER, Warm

EVICTED = killed(reason="Evicted", message="The node was low on resource: memory.")


@pytest.fixture(scope="module")
def warm() -> Iterator[tuple[Warm, ...]]:
    """torch and what it imports at its first step: ten seconds of a processor, once."""
    trainer = ("torch._dynamo", "ml_platform.training.trainers.torch", "pyarrow.parquet", "dagster_pipes")
    started = Warm(WORKER, *trainer)
    yield (started,)
    started.stop()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def undisturbed(world: World, warm: tuple[Warm, ...], tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("undisturbed")
    status, said = run(warm, world.job(folder / "bundle"), folder)
    assert status == 0, said
    return open_bundle(folder / "bundle")


@pytest.fixture
def job_file(home: Path, world: World) -> Path:
    """A job in the home's lake that saves a checkpoint after every step."""
    models = home / "lake" / "models" / "next_basket"
    return write_job(world.job(models / "bundle", checkpoint_seconds=0), models / "jobs" / "job.json")


def run(warm: tuple[Warm, ...], job: TrainingJob, folder: Path, **environment: str) -> tuple[int, str]:
    """A worker's exit status, and all it says."""
    command = worker_command(write_job(job, folder / "job.json"))
    worker = warm[0].start(command, {**os.environ, **environment})
    said = worker.stdout.read()
    return worker.wait(), said


@pytest.mark.parametrize("point", ["checkpoint.files_written", "checkpoint.visible"])
def test_a_worker_killed_and_started_again_ends_with_the_very_same_bundle(
    point: str, world: World, warm: tuple[Warm, ...], undisturbed: Bundle, tmp_path: Path
) -> None:
    job = world.job(tmp_path / "bundle", checkpoint_seconds=0)
    status, _ = run(warm, job, tmp_path, ML_PLATFORM_KILL_AT=point)
    assert status == -signal.SIGKILL and not (tmp_path / "bundle").exists()
    status, said = run(warm, job, tmp_path)
    assert status == 0 and open_bundle(tmp_path / "bundle").digest == undisturbed.digest
    resumed = "goes on from the checkpoint of step 1" in said
    assert resumed == (point == "checkpoint.visible"), "what was not yet in sight is not there"
    assert sorted(os.listdir(tmp_path)) == ["bundle", "job.json"], "checkpoints are gone with the training"


def test_a_rehearsal_in_another_process_repeats_the_first_steps_to_the_bit_and_needs_no_heavy_library(
    world: World, warm: tuple[Warm, ...], undisturbed: Bundle, tmp_path: Path
) -> None:
    outcome = tmp_path / "rehearsal.json"
    status, said = run(warm, world.job(outcome, rehearsal_rounds=2), tmp_path)
    assert status == 0, said
    assert repeats(outcome, undisturbed)
    outcome.write_text(json.dumps(json.loads(outcome.read_text()) | {"margins_sha256": "0" * 64}))
    assert not repeats(outcome, undisturbed)


def test_an_evicted_pod_s_next_one_goes_on_from_its_checkpoint_to_the_same_metrics_to_the_bit(
    cluster: Cluster, train: Callable[..., Ended], job_file: Path, undisturbed: Bundle
) -> None:
    cluster.fates.append(Fate(kill_point="checkpoint.visible", death=EVICTED))
    ended = train()
    assert ended.result.success, ended.cause
    assert len(cluster.made("Pod")) == 2 and "restart 1 of at most 3" in ended.log()
    assert ended.log().count("goes on from the checkpoint of step 1") == 1
    bundle = open_bundle(Path(read_job(job_file).output))
    assert bundle.curves() == undisturbed.curves() and bundle.digest == undisturbed.digest
