"""`python -m benchmarks.next_basket_gpu`: what the next-basket model reaches on a GPU, and what bounds it.

Reports samples a second of the training loop as the worker runs it (bfloat16, compiled, batches gathered on the
device), the same for a bare loop over the model with one batch that is there already (so the ratio is what feeding
costs), the floating-point rate against the device's bfloat16 peak (measured by a large product of matrices), and the
memory traffic of the softmax's scores against its bandwidth (measured by a copy). Not part of the table: the machine
that fills it in has no GPU.
"""

import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from benchmarks.next_basket_epoch import write_world

STEPS, WARM_UP_STEPS, BATCH = 200, 60, 1024
SCORE_PASSES = 8
"""Times the scores [batch, catalogue] are read or written in a step, at least: product, sums, two exponentials."""


def main() -> None:
    """Prints one JSON object, or says that there is no GPU."""
    import torch

    if not torch.cuda.is_available():
        print("no GPU: nothing is measured here")
        return
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(_measure(Path(folder)), indent=1))


def _measure(folder: Path) -> dict[str, float | str]:
    import torch

    from ml_platform.training import rankers
    from ml_platform.training.job import read_job
    from ml_platform.training.sequence.loop import loss_of
    from ml_platform.training.sequence.ranks import GroupRanks, device_of
    from ml_platform.training.trainers import torch as trainer

    job = read_job(write_world(folder, "cuda", epochs=1000))
    job = replace(job, trainer=replace(job.trainer, params={"batch_size": BATCH}))
    device = device_of("cuda")
    queries = rankers.read_queries_of(job, ("train", "stop"))
    loop, _ = trainer.build_loop(job, queries, rankers.read_catalogues_of(job), GroupRanks(0, 1), device)
    steps = loop.steps()
    ours = _rate(lambda: next(steps))
    rows = next(loop.train.batches(BATCH))
    batch = loop.train.resident.batch(rows)

    def bare() -> None:
        with torch.autocast("cuda", torch.bfloat16):
            _, scores = loop.forward(batch)
        loop.optimiser.zero_grad()
        loss_of(scores, batch).mean().backward()
        loop.optimiser.step()

    alone = _rate(bare)
    products = len(batch.slots)
    tokens, width = len(rows) * batch.valid.shape[1], loop.model.shape.width
    flops = 6 * (len(rows) * products * width + tokens * 12 * width**2)
    traffic = SCORE_PASSES * 4 * len(rows) * products
    return {
        "device": torch.cuda.get_device_name(device),
        "samples_per_second": ours * len(rows),
        "ratio_to_bare_loop": ours / alone,
        "share_of_bf16_peak": ours * flops / _peak_flops(),
        "share_of_bandwidth": ours * traffic / _bandwidth(),
        "memory_gb": torch.cuda.max_memory_allocated(device) / 1e9,
    }


def _rate(step: Callable[[], object]) -> float:
    """Steps a second, after warming up (which compiles)."""
    import torch

    for _ in range(WARM_UP_STEPS):
        step()
    torch.cuda.synchronize()
    began = time.perf_counter()
    for _ in range(STEPS):
        step()
    torch.cuda.synchronize()
    return STEPS / (time.perf_counter() - began)


def _peak_flops() -> float:
    import torch

    side = 8192
    matrix = torch.randn(side, side, device="cuda", dtype=torch.bfloat16)
    return 2 * side**3 * _rate(lambda: matrix @ matrix)


def _bandwidth() -> float:
    import torch

    source = torch.empty(2**28, device="cuda")
    target = torch.empty_like(source)
    return 8 * source.numel() * _rate(lambda: target.copy_(source))


if __name__ == "__main__":
    main()
