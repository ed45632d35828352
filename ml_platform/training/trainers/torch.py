"""The sequence model of next baskets by PyTorch: the same code on a CPU (float32) and on GPUs (bfloat16, compiled).

Invariants: learns from the roles train and stop alone; shapes, seed, device and threads come from the job, so the same
job on the same kind of device gives the same bytes (bit for bit on the CPU); a training that was killed goes on from
its newest intact checkpoint to the very same weights, and one that another worker has taken over commits nothing.
"""

import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, replace
from typing import Any

import numpy as np
import torch

from ml_platform.memory import give_back
from ml_platform.ranking.baskets import NOTHING, Catalogue, Queries
from ml_platform.training.checkpoints import Checkpoints, newest_intact
from ml_platform.training.job import OutOfMemory, TrainingFailed, TrainingInterrupted, TrainingJob
from ml_platform.training.reporting import Reporter
from ml_platform.training.sequence.ablation import importance_of
from ml_platform.training.sequence.loop import EVALUATION_BATCH, Loop, Part, Recipe
from ml_platform.training.sequence.model import Architecture, NextBasket
from ml_platform.training.sequence.ranks import GroupRanks, device_of
from ml_platform.training.sequence.resident import Resident, batches_of
from ml_platform.training.sequence.speed import Pace
from ml_platform.training.sequence.state import read_weights, restore, state_files, weights_file
from ml_platform.training.sequence.tensors import Examples, Shelf, build_examples
from ml_platform.training.sequence.vocabulary import Vocabulary
from ml_platform.training.spec import Role
from ml_platform.training.trainers import FittedRanker, Rehearsal

SCORE_PARTS = ("taste", "popularity", "repetition")
NO_MEMORY = "can't allocate memory"  # all that torch says of it on a CPU, in an error of no kind of its own
_SHAPES = {"width", "layers", "heads", "dropout", "repeat_width", "item_statistics"}
_RECIPE = {"batch_size", "learning_rate", "weight_decay", "gradient_norm"}


def fit(
    job: TrainingJob, queries: Mapping[Role, Queries], catalogues: Mapping[int, Catalogue], reporter: Reporter
) -> FittedRanker | None:
    """Trains until all epochs are done or the stop loss stays; keeps the best epoch. None in all but the first rank.

    Raises TrainingFailed with its cause, TrainingInterrupted on SIGTERM, WorkerFenced when another worker took over.
    """
    ranks = GroupRanks.from_env()
    with _device(job) as device, ranks.joined(device):
        loop, vocabulary = build_loop(job, queries, catalogues, ranks, device)
        checkpoints = Checkpoints.claim(job.checkpoints, job.digest()) if ranks.is_first else None
        ranks.wait()
        found = newest_intact(job.checkpoints, job.digest(), reporter.log)
        if found is not None:
            restore(loop, found)
            reporter.log(f"{job.model}: goes on from the checkpoint of step {loop.progress.step}")
        ranks.wait()
        _run(job, loop, checkpoints, reporter)
        if checkpoints is None:
            return None
        checkpoints.demand_newest()
        return _fitted(job, loop, vocabulary)


def rehearse(
    job: TrainingJob, queries: Mapping[Role, Queries], catalogues: Mapping[int, Catalogue], reporter: Reporter
) -> Rehearsal | None:
    """Trains only the first `rehearsal_rounds` steps. None in all but the first rank."""
    ranks = GroupRanks.from_env()
    with _device(job) as device, ranks.joined(device):
        loop, _ = build_loop(job, queries, catalogues, ranks, device)
        for step in loop.steps():
            if step == job.rehearsal_rounds:
                return Rehearsal(step, loop.margins_sha256()) if ranks.is_first else None
    raise TrainingFailed(f"a rehearsal of {job.rehearsal_rounds} steps is longer than the training", where=job.model)


def rank(
    model: bytes, stated: Mapping[str, Any], queries: Queries, catalogue: Catalogue, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """(products int64 [n, k], best first, NOTHING past the catalogue's end; scores float32 [n, k]: each one's expected
    share of the next basket's lines, 0 for NOTHING), for queries of the catalogue's own Monday."""
    network, vocabulary = load_model(model, stated)
    products = np.full((len(queries), k), NOTHING, np.int64)
    scores = np.zeros((len(queries), k), np.float32)
    for rows, batch in _batches(network, vocabulary, queries, catalogue):
        with torch.no_grad():
            shares = network(batch)[1].softmax(dim=1)
        best, places = shares.topk(min(k, shares.shape[1]), dim=1)
        products[rows, : places.shape[1]] = catalogue.products[places.numpy()]
        scores[rows, : best.shape[1]] = best.numpy()
    return products, scores


def embeddings(
    model: bytes, stated: Mapping[str, Any], queries: Queries, catalogue: Catalogue
) -> tuple[np.ndarray, np.ndarray]:
    """(items float32 [k, d] of the catalogue, states float32 [n, d] of the queries): their product is the part of the
    score that neither popularity nor repetition explains."""
    network, vocabulary = load_model(model, stated)
    shelf = Shelf.of(catalogue, vocabulary)
    states = np.zeros((len(queries), network.shape.width), np.float32)
    with torch.no_grad():
        items = network.item(torch.from_numpy(shelf.slots)) + network.category(torch.from_numpy(shelf.categories))
        for rows, batch in _batches(network, vocabulary, queries, catalogue):
            states[rows] = network.encode(batch).numpy()
    return items.numpy(), states


def score_parts(
    model: bytes, stated: Mapping[str, Any], queries: Queries, catalogue: Catalogue, k: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(products int64 [n, k] as `rank` gives them, parts float64 [n, k, 3], totals float64 [n]): SCORE_PARTS add up to
    a product's logit, which less the total, the log of the catalogue's summed exponentials, is the log of its share.

    Taste is the transformer's state against the item, popularity is what the item has for everyone, and repetition
    what the repeat head adds: the difference to the scores of the same queries without what was bought before.
    """
    network, vocabulary = load_model(model, stated)
    k = min(k, len(catalogue.products))
    products, parts = np.empty((len(queries), k), np.int64), np.empty((len(queries), k, len(SCORE_PARTS)))
    totals = np.empty(len(queries))
    for rows, batch in _batches(network, vocabulary, queries, catalogue):
        nothing = {name: getattr(batch, name)[:0] for name in ("pairs", "pair_rows", "pair_places")}
        with torch.no_grad():
            states, whole = network(batch)
            unrepeated = network(replace(batch, **nothing))[1].double()
            taste = (states @ (network.item(batch.slots) + network.category(batch.categories)).T).double()
            whole, places = whole.double(), whole.softmax(dim=1).topk(k, dim=1).indices
        split = torch.stack([taste, unrepeated - taste, whole - unrepeated], dim=2)
        products[rows] = catalogue.products[places.numpy()]
        parts[rows] = split.take_along_dim(places[:, :, None], dim=1).numpy()
        totals[rows] = whole.logsumexp(dim=1).numpy()
    return products, parts, totals


def load_model(model: bytes, stated: Mapping[str, Any]) -> tuple[NextBasket, Vocabulary]:
    """The model of safetensors bytes and what its bundle's vocabulary file states, ready to score on the CPU."""
    network = NextBasket(Architecture(**stated["architecture"]))
    network.load_state_dict(read_weights(model))
    return network.eval(), Vocabulary.from_json(stated)


def _batches(network: NextBasket, vocabulary: Vocabulary, queries: Queries, catalogue: Catalogue) -> Iterator[Any]:
    examples = build_examples(queries, {catalogue.as_of: catalogue}, vocabulary)
    shelves = {catalogue.as_of: Shelf.of(catalogue, vocabulary)}
    resident = Resident(examples, shelves, torch.device("cpu"))
    for rows in batches_of(examples.rows_by_monday(), EVALUATION_BATCH):
        yield rows, resident.batch(rows)


@contextmanager
def _device(job: TrainingJob) -> Iterator[torch.device]:
    """The job's device, set to repeat itself; memory that runs out is a known cause."""
    torch.set_num_threads(job.threads)
    if job.device == "cuda":  # on the CPU the model uses nothing that is not, and this imports the compiler
        torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield device_of(job.device)
    except (RuntimeError, MemoryError) as error:
        if not isinstance(error, torch.OutOfMemoryError | MemoryError) and NO_MEMORY not in str(error):
            raise
        raise OutOfMemory(
            f"the training ran out of memory on {job.device}: {str(error).splitlines()[0] if str(error) else error!r}",
            where=job.model,
            next_step="lower the trainer's batch_size or width, or give it more memory (resources)",
        ) from error


def build_loop(
    job: TrainingJob,
    queries: Mapping[Role, Queries],
    catalogues: Mapping[int, Catalogue],
    ranks: GroupRanks,
    device: torch.device,
) -> tuple[Loop, Vocabulary]:
    """A fresh training on the job's device, before its first step. Raises TrainingFailed."""
    mondays = sorted(set(queries["train"].as_ofs.tolist()) & set(catalogues))
    vocabulary = Vocabulary.of_catalogues([catalogues[monday] for monday in mondays])
    shape, recipe = _parameters(job, vocabulary)
    torch.manual_seed(job.seed)
    model = NextBasket(shape)
    parts: dict[Role, Part] = {}
    for role, mine in queries.items():
        examples = build_examples(mine, catalogues, vocabulary)
        if not len(examples.target_places):
            raise TrainingFailed(
                f"no query of the role {role!r} has a target in its catalogue: there is nothing to learn",
                where=job.model,
                next_step="mend the label's SQL, or widen the catalogue",
            )
        shelves = {monday: Shelf.of(catalogues[monday], vocabulary) for monday in examples.rows_by_monday()}
        if role == "train":
            _standardise(model, vocabulary, examples, shelves)
        largest = max(len(shelf.products) for shelf in shelves.values())
        parts[role] = Part(Resident(examples, shelves, device), dict(examples.rows_by_monday()), largest)
    give_back()
    return Loop(job, recipe, model.to(device), parts["train"], parts["stop"], ranks), vocabulary


def _parameters(job: TrainingJob, vocabulary: Vocabulary) -> tuple[Architecture, Recipe]:
    params, trainer = dict(job.trainer.params), job.trainer
    unknown = sorted(set(params) - _SHAPES - _RECIPE)
    if unknown:
        raise TrainingFailed(
            f"the torch trainer does not use the parameters {', '.join(unknown)}",
            where=job.model,
            next_step=f"correct or remove them in the model's spec; there are {', '.join(sorted(_SHAPES | _RECIPE))}",
        )
    kinds: dict[str, Any] = {field.name: field.type for kind in (Architecture, Recipe) for field in fields(kind)}
    typed = {name: kinds[name](value) for name, value in params.items()}
    shape = Architecture(
        products=len(vocabulary.products),
        categories=len(vocabulary.categories),
        statistics=len(vocabulary.statistics),
        **{name: value for name, value in typed.items() if name in _SHAPES},
    )
    recipe = {name: value for name, value in typed.items() if name in _RECIPE}
    return shape, Recipe(trainer.rounds, trainer.early_stopping_rounds, job.seed, **recipe)


def _standardise(model: NextBasket, vocabulary: Vocabulary, examples: Examples, shelves: Mapping[int, Shelf]) -> None:
    """Puts into the model how its inputs are spread over the training rows."""
    statistics = np.concatenate([shelf.statistics for shelf in shelves.values()])
    for name, values in (("pair", examples.pairs), ("query", examples.queries), ("statistic", statistics)):
        mean, scale = np.array([_spread(column) for column in values.T]).reshape(-1, 2).T
        getattr(model, f"{name}_mean").copy_(torch.from_numpy(mean.astype(np.float32)))
        getattr(model, f"{name}_scale").copy_(torch.from_numpy(scale.astype(np.float32)))
    model.slot_categories.copy_(torch.from_numpy(vocabulary.slot_categories))


def _spread(column: np.ndarray) -> tuple[float, float]:
    """(mean, standard deviation) of what is known of one column; one at a time, since in float64 all are gigabytes."""
    known = column[np.isfinite(column)].astype(np.float64)
    mean, scale = (float(known.mean()), float(known.std())) if len(known) else (0.0, 0.0)
    return mean, scale if scale > 1e-6 else 1.0


def _run(job: TrainingJob, loop: Loop, checkpoints: Checkpoints | None, reporter: Reporter) -> None:
    """Steps to the end, saving every `checkpoint_seconds` and when told to stop."""
    pace, saved = Pace(job, loop, reporter), time.monotonic()
    with _told_to_stop() as told:
        for step in loop.steps():
            pace.after_step()
            if checkpoints is not None and (told or time.monotonic() - saved >= job.checkpoint_seconds):
                loop.demand_sound()
                checkpoints.save(step, state_files(loop))
                saved = time.monotonic()
            if told:
                raise TrainingInterrupted(
                    f"told to stop (SIGTERM) after step {step}; its checkpoint is kept",
                    where=job.checkpoints,
                    next_step="start the same job again: it goes on from there",
                )


@contextmanager
def _told_to_stop() -> Iterator[list[int]]:
    """A list that has something in it once SIGTERM has come."""
    told: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: told.append(number))
    try:
        yield told
    finally:
        signal.signal(signal.SIGTERM, before)


def _fitted(job: TrainingJob, loop: Loop, vocabulary: Vocabulary) -> FittedRanker:
    progress = loop.progress
    loop.model.load_state_dict(loop.best)
    return FittedRanker(
        model=weights_file(loop.best),
        vocabulary={"architecture": vars(loop.model.shape), **vocabulary.to_json()},
        rounds=progress.best_epoch,
        curves=progress.curves,
        importance=importance_of(loop, job.features, vocabulary.statistics),
        rehearsal=Rehearsal(progress.margins_step, progress.margins_sha256),
        library=f"torch {torch.__version__}",
    )
