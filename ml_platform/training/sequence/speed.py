"""What a training of the sequence model says of itself while it runs: losses, rows a second, memory, time left."""

import resource
import time

import torch

from ml_platform.training.job import TrainingFailed, TrainingJob
from ml_platform.training.reporting import Reporter
from ml_platform.training.sequence.loop import Loop

REPORT_SECONDS = 10.0


class Pace:
    """Reports after every epoch and every REPORT_SECONDS, and keeps the deadline."""

    def __init__(self, job: TrainingJob, loop: Loop, reporter: Reporter) -> None:
        self._job, self._loop, self._reporter = job, loop, reporter
        self._began = self._reported = time.monotonic()
        self._first_step, self._epochs = loop.progress.step, loop.progress.epochs
        self._rows_a_step = sum(len(rows) for rows in loop.train.by_monday.values()) / loop.per_epoch

    def after_step(self) -> None:
        """Raises TrainingFailed past the deadline."""
        progress, now = self._loop.progress, time.monotonic()
        if now - self._began > self._job.deadline_seconds:
            raise TrainingFailed(
                f"training passed its deadline of {self._job.deadline_seconds} s at step {progress.step}",
                where=self._job.model,
                next_step="raise resources.deadline_seconds or resources.cpu, or train fewer rounds",
            )
        if progress.epochs > self._epochs or now - self._reported >= REPORT_SECONDS:
            self._epochs, self._reported = progress.epochs, now
            self._report(now)

    def _report(self, now: float) -> None:
        loop, progress = self._loop, self._loop.progress
        speed = max(progress.step - self._first_step, 1) / max(now - self._began, 1e-9)
        eta = (loop.recipe.epochs * loop.per_epoch - progress.step) / speed
        memory = memory_mb(loop.device)
        latest = {name: values[-1] for name, values in progress.curves.items() if values}
        figures = " · ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in latest.items())
        self._reporter.log(
            f"{self._job.model}: epoch {progress.epochs} of at most {loop.recipe.epochs}, step {progress.step}"
            f"{' · ' + figures if figures else ''} · {speed * self._rows_a_step:,.0f} rows/s · {memory:,.0f} MB on"
            f" {loop.device.type} · at most {eta:.0f} s left"
        )
        self._reporter.send(
            {
                "kind": "progress",
                "round": progress.epochs,
                "rounds": loop.recipe.epochs,
                "step": progress.step,
                **latest,
                "rows_per_second": speed * self._rows_a_step,
                "device_memory_mb": memory,
                "eta_seconds": eta,
            }
        )


def memory_mb(device: torch.device) -> float:
    """The most memory held so far: of the GPU, or of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
