"""The training loop of the sequence model: epochs over the resident data, resumable at any step.

Invariants: nothing random outlives a step. The order of an epoch is a function of (seed, epoch), the generators are
seeded anew from (seed, step, rank) and the learning rate is a function of the step, so that weights, optimiser and the
step's number are the whole state: a training that goes on from a checkpoint does, on the CPU, bit for bit what it would
have done. Every batch holds queries of one Monday, for they share its catalogue. The weights of the best epoch on the
role stop are kept.
"""

import hashlib
import math
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field

import numpy as np
import torch
from torch import Tensor

from ml_platform.killpoints import kill_point
from ml_platform.memory import give_back
from ml_platform.training.job import TrainingFailed, TrainingJob
from ml_platform.training.sequence.adamw import AdamW
from ml_platform.training.sequence.model import Batch, NextBasket, loss_of
from ml_platform.training.sequence.ranks import GroupRanks
from ml_platform.training.sequence.resident import Resident, batches_of

EXPLODED = 4.0
"""A loss this many times that of every product alike means that training diverges."""
LOOK_EVERY_STEPS = 10
WARM_UP = 0.05
EVALUATION_BATCH = 256
RECALL_AT = 10


@dataclass(frozen=True)
class Recipe:
    """How the weights are learnt: the trainer's parameters that are not the architecture's."""

    epochs: int
    patience: int
    seed: int
    batch_size: int = 256
    learning_rate: float = 0.003
    weight_decay: float = 0.01
    gradient_norm: float = 1.0


@dataclass
class Progress:
    """Where a training is, apart from its tensors. Curves have one value an epoch."""

    step: int = 0
    curves: dict[str, list[float]] = field(
        default_factory=lambda: {"train_log_loss": [], "stop_log_loss": [], "stop_recall_at_10": []}
    )
    margins_sha256: str = ""
    margins_step: int = 0

    @property
    def epochs(self) -> int:
        return len(self.curves["stop_log_loss"])

    @property
    def best_epoch(self) -> int:
        """The epoch (from 1) with the lowest loss on the role stop."""
        return int(np.argmin(self.curves["stop_log_loss"])) + 1

    def to_json(self) -> dict:
        return asdict(self)


class Loop:
    """One training of `model` on `train`, judged on `stop` after every epoch."""

    def __init__(
        self, job: TrainingJob, recipe: Recipe, model: NextBasket, train: "Part", stop: "Part", ranks: GroupRanks
    ) -> None:
        self.job, self.recipe, self.model, self.train, self.stop, self.ranks = job, recipe, model, train, stop, ranks
        self.progress = Progress()
        self.best: dict[str, Tensor] = {}
        self.device = next(model.parameters()).device
        self.per_epoch = sum(1 for _ in batches_of(train.by_monday, recipe.batch_size))
        self.forward = ranks.averaging(_compiled(model, self.device))
        self.optimiser = AdamW(model.parameters(), recipe.weight_decay)
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=self.device)
        self._order: tuple[int, list[np.ndarray]] = (-1, [])

    @property
    def is_over(self) -> bool:
        """All epochs done, or too many in a row without a better one."""
        done = self.progress.epochs
        return done >= self.recipe.epochs or (done > 0 and done - self.progress.best_epoch >= self.recipe.patience)

    def steps(self) -> Iterator[int]:
        """Runs the training on to its end; yields after every step, and after every epoch's evaluation."""
        while not self.is_over:
            if self.progress.step == (self.progress.epochs + 1) * self.per_epoch:
                self._end_epoch()
            else:
                self._take_step()
            yield self.progress.step

    def margins_sha256(self) -> str:
        """SHA-256 of the scores of the role stop's first batch."""
        self.model.eval()
        with torch.no_grad():
            _, scores = self.model(self.stop.resident.batch(next(self.stop.batches(EVALUATION_BATCH))))
        self.model.train()
        return hashlib.sha256(scores.float().cpu().numpy().astype("<f4").tobytes()).hexdigest()

    def demand_sound(self) -> None:
        """Raises TrainingFailed when the loss is not a number, or explodes. Waits for the device."""
        steps = self.progress.step - self.progress.epochs * self.per_epoch
        loss = self.loss_sum.item() / max(steps, 1)
        alike = math.log(self.stop.largest_catalogue)
        if not math.isfinite(loss) or loss > EXPLODED * alike:
            raise TrainingFailed(
                f"the loss explodes by step {self.progress.step}: {loss:.4g}, where every product alike costs"
                f" {alike:.4g}",
                where=self.job.model,
                next_step="lower the learning rate, or look for a broken feature",
            )

    def _take_step(self) -> None:
        recipe, step = self.recipe, self.progress.step
        rows = self._plan(step // self.per_epoch)[step % self.per_epoch]
        torch.manual_seed(_seed(recipe.seed, step, self.ranks.number))
        mine, factor = self.ranks.share(rows)
        batch = self.train.resident.batch(mine)
        with _precision(self.device):
            _, scores = self.forward(batch)
        loss = loss_of(scores, batch).sum() * factor
        self.optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), recipe.gradient_norm)
        self.optimiser.step(recipe.learning_rate * schedule(step, recipe.epochs * self.per_epoch))
        self.loss_sum += loss.detach()
        self.progress.step += 1
        kill_point("training.round")
        if self.progress.step == self.job.reproducible_rounds:
            self._note_margins()
        if self.progress.step % LOOK_EVERY_STEPS == 0:
            self.demand_sound()
            give_back()

    def _end_epoch(self) -> None:
        self.demand_sound()
        train_loss = self.ranks.total(self.loss_sum.clone()).item() / self.per_epoch / self.ranks.count
        loss, recall = self.evaluate()
        for name, figure in (("train_log_loss", train_loss), ("stop_log_loss", loss), ("stop_recall_at_10", recall)):
            self.progress.curves[name].append(figure)
        self.loss_sum.zero_()
        if self.progress.best_epoch == self.progress.epochs:
            self.best = {name: value.detach().clone() for name, value in self.model.state_dict().items()}
        if self.is_over:
            self._note_margins()

    def evaluate(self) -> tuple[float, float]:
        """(mean loss, mean recall at 10 of the targets in the catalogue) of the role stop's queries."""
        figures = torch.zeros(3, dtype=torch.float64, device=self.device)
        self.model.eval()
        with torch.no_grad():
            for number, rows in enumerate(self.stop.batches(EVALUATION_BATCH)):
                if number % self.ranks.count != self.ranks.number:
                    continue
                batch = self.stop.resident.batch(rows)
                with _precision(self.device):
                    _, scores = self.model(batch)
                recalls, known = recall(scores, batch)
                figures += torch.stack([loss_of(scores, batch).sum(), recalls.sum(), known.sum()]).double()
        self.model.train()
        loss, hits, queries = self.ranks.total(figures).tolist()
        return loss / max(queries, 1), hits / max(queries, 1)

    def _note_margins(self) -> None:
        """What a rehearsal repeats; of a training that is shorter, its end."""
        if not self.progress.margins_sha256:
            self.progress.margins_sha256, self.progress.margins_step = self.margins_sha256(), self.progress.step

    def _plan(self, epoch: int) -> list[np.ndarray]:
        """The epoch's batches in their order."""
        if self._order[0] != epoch:
            random = np.random.default_rng([self.recipe.seed, epoch])
            shuffled = {monday: random.permutation(rows) for monday, rows in self.train.by_monday.items()}
            batches = list(batches_of(shuffled, self.recipe.batch_size))
            self._order = epoch, [batches[number] for number in random.permutation(len(batches))]
        return self._order[1]


@dataclass(frozen=True)
class Part:
    """One role's queries on the device."""

    resident: Resident
    by_monday: dict[int, np.ndarray]
    largest_catalogue: int

    def batches(self, size: int) -> Iterator[np.ndarray]:
        return batches_of(self.by_monday, size)


def recall(scores: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """(share of each query's targets among its first RECALL_AT [B], whether it has any target [B])."""
    rows = scores.shape[0]
    worst = scores.topk(min(RECALL_AT, scores.shape[1]), dim=1).values[:, -1]
    found = (scores[batch.target_rows, batch.target_places] >= worst[batch.target_rows]).float()
    counts = torch.zeros(rows, device=scores.device).index_add(0, batch.target_rows, torch.ones_like(found))
    hits = torch.zeros(rows, device=scores.device).index_add(0, batch.target_rows, found)
    return hits / counts.clamp(min=1), counts > 0


def schedule(step: int, steps: int) -> float:
    """A linear warm-up, then a half cosine to nothing."""
    return min(1.0, (step + 1) / (WARM_UP * steps)) * 0.5 * (1 + math.cos(math.pi * step / steps))


def _precision(device: torch.device):
    return torch.autocast("cuda", torch.bfloat16) if device.type == "cuda" else nullcontext()


def _compiled(model: NextBasket, device: torch.device) -> torch.nn.Module:
    return torch.compile(model, dynamic=True) if device.type == "cuda" else model  # type: ignore[return-value]


def _seed(seed: int, step: int, rank: int) -> int:
    return int(np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)[0] >> np.uint64(1))
