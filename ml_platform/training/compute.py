"""Where a training runs: a worker process of its own, whoever starts it.

`worker_command` is the one command line of a worker: Dagster hands it to its Pipes client, `run_worker` starts it
plainly (scripts, rehearsals, tests). A process of its own keeps the trainer's memory, threads and crashes out of the
caller.
"""

import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from ml_platform.training.job import TrainingFailed, TrainingJob, read_job

Say = Callable[[str], object]


def worker_command(job_path: Path) -> list[str]:
    """The command that runs a job file, in this very Python. A job of several processes is started by its trainer's
    launcher, torchrun or the one of XGBoost's workers. Raises JobUnreadable."""
    return [sys.executable, *_launcher(read_job(job_path)), "-m", "ml_platform.training.worker", str(job_path)]


def _launcher(job: TrainingJob) -> list[str]:
    if job.processes == 1:
        return []
    if job.trainer.kind == "torch":
        return ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={job.processes}"]
    return ["-m", "ml_platform.training.launcher", str(job.processes)]


def run_worker(job_path: Path, say: Say = print) -> None:
    """Runs a job file to its end in a new process; each line of its progress goes to `say`.

    Raises TrainingFailed with what the worker wrote to standard error, or with the signal that killed it.
    """
    with tempfile.TemporaryFile("w+") as complaints:
        worker = subprocess.Popen(worker_command(job_path), stdout=subprocess.PIPE, stderr=complaints, text=True)
        try:
            assert worker.stdout is not None
            for line in worker.stdout:
                say(line.rstrip("\n"))
            status = worker.wait()
        finally:
            if worker.poll() is None:
                worker.kill()
                worker.wait()
        complaints.seek(0)
        cause = complaints.read().strip()
    if status < 0:
        raise TrainingFailed(
            f"the worker was killed by signal {-status} {cause}".strip(),
            where=job_path,
            next_step="look for memory pressure or a cancelled run, then train again",
        )
    if status > 0:
        raise TrainingFailed(cause or f"the worker exited with {status}", where=job_path)
