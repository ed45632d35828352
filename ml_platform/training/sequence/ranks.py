"""The processes of one training: one alone, or as many as torchrun started, each with its share of every batch.

Invariants: every process has the same weights after every step (gradients are averaged over the whole batch); what
decides (the stop role's loss) is summed over all of them, so all decide alike; only the first one writes and speaks.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, distributed, nn

from ml_platform.training.job import DeviceMissing
from ml_platform.training.ranks import Ranks


class GroupRanks(Ranks):
    """The processes as one group of torch's."""

    @contextmanager
    def joined(self, device: torch.device) -> Iterator[None]:
        """The process group, where there is more than one process."""
        if self.count == 1:
            yield
            return
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
        try:
            yield
        finally:
            distributed.destroy_process_group()

    def averaging(self, model: nn.Module) -> nn.Module:
        """The model whose gradients are averaged over the processes."""
        if self.count == 1:
            return model
        return nn.parallel.DistributedDataParallel(model, broadcast_buffers=False)

    def share(self, rows: np.ndarray) -> tuple[np.ndarray, float]:
        """(this process's rows of a batch, the factor that makes the processes' average the whole batch's mean).

        One without any row takes the first with a weight of nothing: it has to take part in the averaging.
        """
        mine = rows[self.number :: self.count]
        return (mine, self.count / len(rows)) if len(mine) else (rows[:1], 0.0)

    def total(self, figures: Tensor) -> Tensor:
        """The sum over the processes, in each of them."""
        if self.count > 1:
            distributed.all_reduce(figures)
        return figures

    def wait(self) -> None:
        """Until all processes are here."""
        if self.count > 1:
            distributed.barrier()


def device_of(kind: str) -> torch.device:
    """The device of a job, this process's own GPU. Raises DeviceMissing."""
    if kind == "cpu":
        return torch.device("cpu")
    local = int(os.environ.get("LOCAL_RANK", "0"))
    seen = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if local >= seen:
        raise DeviceMissing(
            f"the job asks for a GPU, and this process would use number {local} of the {seen} that torch sees",
            next_step="run it where a GPU is (resources.gpus, the image's CUDA build), or set resources.gpus to 0",
        )
    torch.cuda.set_device(local)
    return torch.device("cuda", local)
