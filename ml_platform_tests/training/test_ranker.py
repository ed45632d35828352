"""Rankers by real worker processes: the same bits again, also after SIGKILL, and on several processes."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from ml_platform.ranking.baskets import NOTHING, read_catalogues, read_queries
from ml_platform.registry.bundles import EVALUATION_LISTS, RANKER_FILES, WEIGHTS, Bundle, WrongFamily, open_bundle
from ml_platform.training.compute import run_worker
from ml_platform.training.job import STOPPED, DeviceMissing, OutOfMemory, TrainingFailed, TrainingJob, write_job
from ml_platform.training.reporting import PlainReporter
from ml_platform.training.spec import Trainer
from ml_platform.training.trainers import ranker_module
from ml_platform.training.worker import main, train
from ml_platform_tests.training.baskets import SMALL, World, make_world

STEPS = 18
"""3 Mondays of 40 queries in batches of about 16, twice."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def bundle(world: World, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Trained in this process; tests only read it."""
    trained = train(world.job(tmp_path_factory.mktemp("models") / "bundle"), PlainReporter())
    assert trained is not None
    return trained


def queries_and_catalogue(world: World):
    queries = read_queries(pq.read_table(world.training_set), "evaluate")
    return queries, read_catalogues(pq.read_table(world.catalogue))[int(queries.as_ofs[0])]


def fail(job: TrainingJob, words: str, kind: type[Exception] = TrainingFailed) -> None:
    with pytest.raises(kind, match=words):
        train(job, PlainReporter())
    assert not Path(job.output).exists()


@pytest.mark.parametrize("step", [5, 9, STEPS])
def test_a_training_told_to_stop_keeps_a_checkpoint_and_goes_on_to_the_same_bits(
    step: int,
    world: World,
    bundle: Bundle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    from ml_platform.training.trainers import torch as trainer

    after_step = trainer.Pace.after_step

    def stop_at(pace: trainer.Pace) -> None:
        after_step(pace)
        if pace._loop.progress.step == step:
            os.kill(os.getpid(), signal.SIGTERM)

    job = world.job(tmp_path / "bundle")
    monkeypatch.setattr(trainer.Pace, "after_step", stop_at)
    assert main(str(write_job(job, tmp_path / "job.json"))) == STOPPED
    assert f"after step {step}; its checkpoint is kept" in capsys.readouterr().err and not Path(job.output).exists()
    monkeypatch.undo()
    again = train(job, PlainReporter())
    assert again is not None and again.digest == bundle.digest
    assert f"goes on from the checkpoint of step {step}" in capsys.readouterr().out
    assert not job.checkpoints.exists()


def test_a_worker_whose_training_another_has_taken_over_commits_no_bundle(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ml_platform.training.checkpoints import Checkpoints, WorkerFenced
    from ml_platform.training.trainers import torch as trainer

    job = world.job(tmp_path / "bundle")
    run = trainer._run

    def run_and_be_replaced(*arguments: object) -> None:
        run(*arguments)  # type: ignore[arg-type]
        Checkpoints.claim(job.checkpoints, job.digest())

    monkeypatch.setattr(trainer, "_run", run_and_be_replaced)
    fail(job, "another one trains this job", WorkerFenced)


def test_two_processes_learn_what_one_does(world: World, tmp_path: Path) -> None:
    """Within float32's rounding of another order of summation; without dropout, whose masks are each process's own."""
    one = world.job(tmp_path / "one", trainer=Trainer("torch", 1, 1, {**SMALL, "dropout": 0.0}))
    alone = train(one, PlainReporter())
    two = replace(one, output=str(tmp_path / "two"), processes=2)
    said: list[str] = []
    run_worker(write_job(two, tmp_path / "two.json"), said.append)
    together = open_bundle(tmp_path / "two")
    assert alone is not None and sum("epoch 1 of at most 1" in line for line in said) == 1, "the first alone speaks"
    for name, curve in alone.curves().items():
        assert together.curves()[name] == pytest.approx(curve, abs=2e-4)
    lists = [pq.read_table(each.path / EVALUATION_LISTS)["score"].to_numpy() for each in (alone, together)]
    assert np.abs(lists[0] - lists[1]).max() < 1e-3


def test_a_bundle_ranks_every_household_and_its_lists_are_those_it_gives(world: World, bundle: Bundle) -> None:
    queries, catalogue = queries_and_catalogue(world)
    products, scores = bundle.rank(queries, catalogue, 20)
    assert {entry.name for entry in bundle.path.iterdir()} == RANKER_FILES | {"manifest.json"}
    assert products.shape == scores.shape == (40, 20) and (np.diff(scores) <= 0).all()
    assert all(len(set(row)) == 20 for row in products.tolist()) and np.isin(products, catalogue.products).all()
    recorded = pq.read_table(bundle.path / EVALUATION_LISTS)
    assert recorded["product_id"].to_numpy().tolist() == products.ravel().tolist()
    assert recorded["score"].to_numpy().tobytes() == scores.ravel().tobytes()


def test_the_model_learns_who_buys_what_again(bundle: Bundle, world: World) -> None:
    queries, catalogue = queries_and_catalogue(world)
    products, _ = bundle.rank(queries, catalogue, 10)
    hits = (products[queries.target_queries] == queries.targets[:, None]).any(axis=1).mean()
    assert hits > 0.5, "ten of sixty at random would be .17, the own six .67"
    assert bundle.importance["household_baskets:products"] > bundle.importance["product:mean_gap_days_84d"]


def test_a_list_longer_than_the_catalogue_is_padded_and_no_query_gives_no_list(world: World, bundle: Bundle) -> None:
    queries, catalogue = queries_and_catalogue(world)
    products, scores = bundle.rank(queries.take(np.arange(2)), catalogue, 70)
    assert (products[:, 60:] == NOTHING).all() and (scores[:, 60:] == 0).all() and (products[:, :60] != NOTHING).all()
    assert scores.sum(axis=1) == pytest.approx(1.0, abs=1e-5)
    assert bundle.rank(queries.take(np.arange(0)), catalogue, 5)[0].shape == (0, 5)


def test_a_product_new_since_the_training_is_ranked_by_its_category_and_figures(world: World, bundle: Bundle) -> None:
    queries, catalogue = queries_and_catalogue(world)
    newer = replace(catalogue, products=np.append(catalogue.products[:-1], 9999))
    products, _ = bundle.rank(queries, newer, 60)
    assert (products == 9999).any(axis=1).all()


def test_embeddings_are_given_for_every_product_and_household(world: World, bundle: Bundle) -> None:
    queries, catalogue = queries_and_catalogue(world)
    items, states = bundle.embeddings(queries, catalogue)
    assert items.shape == (60, 16) and states.shape == (40, 16) and items.dtype == states.dtype == np.float32
    assert np.isfinite(items).all() and np.ptp(states, axis=0).min() > 0


def test_the_parts_of_a_score_add_up_to_it_and_only_what_was_bought_before_is_repeated(
    world: World, bundle: Bundle
) -> None:
    queries, catalogue = queries_and_catalogue(world)
    listed, shares = bundle.rank(queries, catalogue, 20)
    products, parts, totals = ranker_module("torch").score_parts(
        bundle.read(WEIGHTS), bundle.vocabulary, queries, catalogue, 20
    )
    assert (products == listed).all()
    np.testing.assert_allclose(np.exp(parts.sum(axis=2) - totals[:, None]), shares, rtol=1e-4)
    owners = queries.basket_queries[queries.line_baskets]
    bought = [np.isin(products[row], queries.products[owners == row]) for row in range(len(queries))]
    assert ((parts[:, :, 2] != 0) == np.stack(bought)).all()


def test_a_ranker_scores_no_rows(bundle: Bundle) -> None:
    with pytest.raises(WrongFamily, match="rank and embeddings for a ranker"):
        bundle.predict(np.zeros((1, len(bundle.features)), np.float32))


def test_without_item_statistics_the_model_has_none_of_their_weights(world: World, tmp_path: Path) -> None:
    from safetensors.numpy import load

    bare = train(
        world.job(tmp_path / "b", trainer=Trainer("torch", 1, 1, {**SMALL, "item_statistics": 0})), PlainReporter()
    )
    assert bare is not None and bare.importance["product:lines_84d"] == 0.0
    assert not [name for name in load(bare.read(WEIGHTS)) if "popularity" in name or "repeat_statistics" in name]


def test_a_loss_that_explodes_stops_the_training(world: World, tmp_path: Path) -> None:
    wild = Trainer("torch", 3, 3, {**SMALL, "learning_rate": 1e6})
    fail(world.job(tmp_path / "b", trainer=wild), "the loss explodes by step")


def test_a_parameter_the_trainer_does_not_know_is_refused(world: World, tmp_path: Path) -> None:
    fail(world.job(tmp_path / "b", trainer=Trainer("torch", 1, 1, {"widht": 8})), "does not use the parameters widht")


def test_memory_that_torch_cannot_have_is_told_as_such(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from ml_platform.training.trainers import torch as trainer

    monkeypatch.setattr(trainer, "build_loop", lambda *_: torch.empty(10**15))
    fail(world.job(tmp_path / "b"), "ran out of memory on cpu: .*can't allocate memory", OutOfMemory)
    monkeypatch.setattr(trainer, "build_loop", lambda *_: torch.ones(2) @ torch.ones(3))
    fail(world.job(tmp_path / "c"), "inconsistent tensor size", RuntimeError)


def test_a_gpu_that_is_not_there_is_told(world: World, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    fail(world.job(tmp_path / "b", device="cuda"), "asks for a GPU", DeviceMissing)


@pytest.mark.parametrize("role", ["train", "stop", "evaluate"])
def test_an_empty_role_is_refused(role: str, world: World, tmp_path: Path) -> None:
    table = pq.read_table(world.training_set)
    keep = [each != role for each in table["role"].to_pylist()]
    pq.write_table(table.filter(keep), tmp_path / "set.parquet")
    fail(World(tmp_path / "set.parquet", world.catalogue).job(tmp_path / "b"), f"no row has the role '{role}'")


def test_a_catalogue_that_is_missing_or_changed_is_told(world: World, tmp_path: Path) -> None:
    fail(world.job(tmp_path / "b", catalogue_path=None), "names no catalogue")
    fail(world.job(tmp_path / "b", catalogue_sha256="0"), "the catalogue is not the one")


def test_the_optimiser_takes_the_steps_of_torchs_own_without_its_compiler() -> None:
    said = """
import sys, torch
from ml_platform.training.sequence.adamw import AdamW
torch.manual_seed(1)
ours = [torch.nn.Parameter(torch.randn(7, 3)) for _ in range(3)]
theirs = [torch.nn.Parameter(each.detach().clone()) for each in ours]
def learn(parameters, step, optimiser):
    optimiser.zero_grad()
    (parameters[0] * parameters[1 + step % 2]).square().sum().backward()
mine = AdamW(ours, weight_decay=0.1)
for step in range(5):
    learn(ours, step, mine)
    mine.step(0.01 * (step + 1))
    if step == 2:
        moments, mine = mine.moments, AdamW(ours, weight_decay=0.1)
        mine.restore(moments)
assert "torch._dynamo" not in sys.modules
other = torch.optim.AdamW(theirs, weight_decay=0.1, fused=True)
for step in range(5):
    learn(theirs, step, other)
    other.param_groups[0]["lr"] = 0.01 * (step + 1)
    other.step()
print(all(torch.equal(one, two) for one, two in zip(ours, theirs)))
"""
    done = subprocess.run([sys.executable, "-c", said], capture_output=True, text=True)
    assert done.stdout.strip() == "True", done.stderr
