"""The training worker: `python -m ml_platform.training.worker JOB.json` makes one job's bundle, or rehearses it.

It runs where Dagster is not installed: the standard library, numpy, pyarrow, the trainer's library and dagster-pipes
are all it needs. Invariants: what can fail cheaply fails before training; a job whose intact bundle is already there
is not trained again; the bundle becomes visible whole, by one rename at the very end, or not at all; the scores in it
are those of the model as read back from its own bytes, so what is evaluated is what will be served. Of the processes
that a launcher starts for one job, the first speaks and writes. Exit status: 0 done, 1 a known cause (on standard
error, and to Dagster through Pipes), 143 told to stop by SIGTERM, anything else a fault of its own.
"""

import os
import shutil
import signal
import sys
import time
from importlib.machinery import ModuleSpec
from pathlib import Path

from ml_platform.errors import PlatformError
from ml_platform.registry import bundles
from ml_platform.training import classifiers, rankers
from ml_platform.training.data import verify_data
from ml_platform.training.job import (
    STOPPED,
    OutOfMemory,
    TrainingFailed,
    TrainingInterrupted,
    TrainingJob,
    read_job,
)
from ml_platform.training.ranks import Ranks
from ml_platform.training.rehearsal import write_rehearsal
from ml_platform.training.reporting import Reporter, open_reporter
from ml_platform.training.trainers import family_of

_FAMILIES = {"classifier": classifiers, "ranker": rankers}


def main(job_path: str) -> int:
    """Runs the job file. Returns the exit status."""
    try:
        with open_reporter(speaks=Ranks.from_env().is_first) as reporter:
            job = read_job(Path(job_path))
            if job.rehearsal_rounds is None:
                train(job, reporter)
            else:
                rehearse(job, reporter)
    except PlatformError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        return STOPPED if isinstance(error, TrainingInterrupted) else 1
    return 0


def train(job: TrainingJob, reporter: Reporter) -> bundles.Bundle | None:
    """The bundle of the job: trained now, or found intact where the job puts it; None where another process writes it.

    Raises TrainingFailed.
    """
    started = time.monotonic()
    there = _already_there(job, reporter)
    if there is not None:
        reporter.log(f"{job.model}: this very job's bundle {there.digest[:12]} is already there, nothing to train")
        _send_result(reporter, there, trained=False, started=started)
        return there
    verify_data(job)
    try:
        files = _FAMILIES[family_of(job.trainer.kind)].train(job, reporter)
    except MemoryError as error:
        raise OutOfMemory(
            f"the training ran out of memory: {error}",
            where=job.model,
            next_step="give it more (resources.memory_gib), or train on fewer Mondays",
        ) from error
    if files is None:
        return None
    bundle = bundles.write_bundle(Path(job.output), files)
    if job.checkpoints.exists():
        shutil.rmtree(job.checkpoints, ignore_errors=True)
    reporter.log(f"{job.model}: bundle {bundle.digest[:12]} keeps {bundle.report['rounds']} rounds [{bundle.path}]")
    _send_result(reporter, bundle, trained=True, started=started)
    return bundle


def rehearse(job: TrainingJob, reporter: Reporter) -> None:
    """Trains the first rounds again, and writes the digest of the margins they give. Raises TrainingFailed."""
    verify_data(job)
    if not job.rehearsal_rounds:
        raise TrainingFailed("a rehearsal needs a number of rounds", where=job.model)
    rehearsal = _FAMILIES[family_of(job.trainer.kind)].rehearse(job, reporter)
    if rehearsal is not None:
        write_rehearsal(Path(job.output), job, rehearsal)
        reporter.log(f"{job.model}: rehearsed {rehearsal.rounds} rounds, margins {rehearsal.margins_sha256[:12]}")


def _already_there(job: TrainingJob, reporter: Reporter) -> bundles.Bundle | None:
    output = Path(job.output)
    try:
        there = bundles.open_bundle(output)
    except bundles.BundleMissing:
        return None
    except bundles.BundleCorrupt as error:
        if Ranks.from_env().is_first:
            spoilt = bundles.set_aside(output)
            reporter.log(f"{error.what}; kept for a look at {spoilt}, training again")
        return None
    if there.report["job_digest"] != job.digest():
        raise bundles.BundleConflict(
            "the bundle of another job lies where this one's should go",
            where=output,
            next_step="give every job an output folder of its own, named by the job's digest",
        )
    return there


def _send_result(reporter: Reporter, bundle: bundles.Bundle, trained: bool, started: float) -> None:
    reporter.send(
        {
            "kind": "result",
            "trained": trained,
            "bundle": str(bundle.path),
            "digest": bundle.digest,
            "rounds": bundle.report["rounds"],
            "seconds": round(time.monotonic() - started, 3),
        }
    )


class _Unneeded:
    """Import finder: installed or not, a worker runs without these; pyarrow, xgboost and torch would pay 6 CPU seconds.

    They can be looked for, as torch does, but not imported.
    """

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        return ModuleSpec(name, self) if name.partition(".")[0] in ("pandas", "sklearn") else None  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> None:
        raise ModuleNotFoundError(f"{spec.name} is not for a training worker", name=spec.name)

    def exec_module(self, module: object) -> None:
        """Never reached."""


if __name__ == "__main__":
    sys.meta_path.insert(0, _Unneeded())  # type: ignore[arg-type]
    # OpenMP's idle threads spin by default, which costs half the CPU, and on shared cores most of the time.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    # As the first process of a container it would not even hear the signal; the torch trainer hears it for itself.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(STOPPED))
    if len(sys.argv) != 2:
        sys.exit("usage: python -m ml_platform.training.worker JOB.json")
    status = main(sys.argv[1])
    if status and Ranks.from_env().count > 1:
        # XGBoost's collective, left without a goodbye, crashes on the way out, and hides the status.
        sys.stdout.flush()
        os._exit(status)
    sys.exit(status)
