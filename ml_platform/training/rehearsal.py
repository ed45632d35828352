"""Rehearsal: train the first rounds again in a fresh process, and compare bits.

A full training records in its bundle the digest of the margins that its first rounds give the rows of the role stop. A
rehearsal of the same job trains just those rounds elsewhere and writes the same digest; if the two differ, what was
trained cannot be rebuilt (another thread count, another library, another machine's arithmetic).
"""

import json
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from ml_platform.registry.bundles import Bundle
from ml_platform.training.compute import run_worker
from ml_platform.training.job import TrainingJob, write_job
from ml_platform.training.spec import ModelSpec
from ml_platform.training.trainers import Rehearsal


def write_rehearsal(path: Path, job: TrainingJob, rehearsal: Rehearsal) -> None:
    """Writes the outcome of a rehearsal, named by the digest of the job that it rehearses; whole or not at all."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.aside")
    aside.write_text(json.dumps({"job_digest": job.rehearsed().digest(), **asdict(rehearsal)}, indent=1) + "\n")
    aside.replace(path)


def is_reproducible(
    spec: ModelSpec,
    bundle: Bundle,
    data_path: Path,
    data_digest: str,
    folder: Path,
    catalogue_path: Path | None = None,
    run: Callable[[Path], object] = run_worker,
) -> bool:
    """Whether a fresh worker repeats the first rounds (of `torch`: steps) of `bundle` to the bit.

    `folder` takes the job's files; `run` runs the job file to its end, where the bundle was trained. False too for a
    bundle of another job (other data, spec or threads). Raises what `run` does when the worker fails.
    """
    outcome, rounds = folder / "rehearsal.json", bundle.report["rehearsal"]["rounds"]
    job = TrainingJob.from_spec(
        spec, data_path, data_digest, outcome, rehearsal_rounds=rounds, catalogue_path=catalogue_path
    )
    run(write_job(job, folder / "job.json"))
    return repeats(outcome, bundle)


def repeats(outcome: Path, bundle: Bundle) -> bool:
    """Whether a rehearsal's outcome is of the bundle's own job, and the same bits as the bundle records."""
    return json.loads(outcome.read_text()) == {"job_digest": bundle.report["job_digest"], **bundle.report["rehearsal"]}
