"""The training worker: `python -m ml_platform.training.worker JOB.json` makes one job's bundle, or rehearses it.

It runs where Dagster is not installed: the standard library, numpy, pyarrow, the trainer's library and dagster-pipes
are all it needs. Invariants: what can fail cheaply fails before training; a job whose intact bundle is already there
is not trained again; the bundle becomes visible whole, by one rename at the very end, or not at all; the scores in it
are those of the model as read back from its own bytes, so what is evaluated is what will be served. Exit status: 0
done, 1 a known cause (on standard error, and to Dagster through Pipes), anything else a fault of its own.
"""

import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ml_platform.errors import PlatformError
from ml_platform.monitoring.sketch import build_sketch, model_columns
from ml_platform.registry import bundles
from ml_platform.training.calibration import fit_calibration
from ml_platform.training.data import RoleCount, Rows, count_roles, read_role, verify_data
from ml_platform.training.job import TrainingFailed, TrainingJob, read_job
from ml_platform.training.rehearsal import write_rehearsal
from ml_platform.training.reporting import Reporter, open_reporter
from ml_platform.training.spec import Role
from ml_platform.training.trainers import Fitted, trainer_module


def main(job_path: str) -> int:
    """Runs the job file. Returns the exit status."""
    try:
        with open_reporter() as reporter:
            job = read_job(Path(job_path))
            if job.rehearsal_rounds is None:
                train(job, reporter)
            else:
                rehearse(job, reporter)
    except PlatformError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        return 1
    return 0


def train(job: TrainingJob, reporter: Reporter) -> bundles.Bundle:
    """The bundle of the job: trained now, or found intact where the job puts it. Raises TrainingFailed."""
    started = time.monotonic()
    there = _already_there(job, reporter)
    if there is not None:
        reporter.log(f"{job.model}: this very job's bundle {there.digest[:12]} is already there, nothing to train")
        _send_result(reporter, there, trained=False, started=started)
        return there
    path = Path(job.data_path)
    verify_data(job)
    counts = count_roles(path)
    reporter.log(f"{job.model}: " + " · ".join(f"{role} {count.rows:,} rows" for role, count in counts.items()))
    rows = _learning_rows(job)
    fitted = trainer_module(job.trainer.kind).fit(job, rows, reporter)
    bundle = bundles.write_bundle(Path(job.output), _files(job, counts, rows["train"].features, fitted))
    reporter.log(f"{job.model}: bundle {bundle.digest[:12]} keeps {fitted.rounds} rounds [{bundle.path}]")
    _send_result(reporter, bundle, trained=True, started=started)
    return bundle


def rehearse(job: TrainingJob, reporter: Reporter) -> None:
    """Trains the first rounds again, and writes the digest of the margins they give. Raises TrainingFailed."""
    verify_data(job)
    count_roles(Path(job.data_path))
    rehearsal = trainer_module(job.trainer.kind).rehearse(job, _learning_rows(job), reporter)
    write_rehearsal(Path(job.output), job, rehearsal)
    reporter.log(f"{job.model}: rehearsed {rehearsal.rounds} rounds, margins {rehearsal.margins_sha256[:12]}")


def _already_there(job: TrainingJob, reporter: Reporter) -> bundles.Bundle | None:
    output = Path(job.output)
    try:
        there = bundles.open_bundle(output)
    except bundles.BundleMissing:
        return None
    except bundles.BundleCorrupt as error:
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


def _learning_rows(job: TrainingJob) -> Mapping[Role, Rows]:
    roles: tuple[Role, Role] = ("train", "stop")
    return {role: read_role(Path(job.data_path), role, job.features) for role in roles}


def _files(job: TrainingJob, counts: Mapping[Role, RoleCount], learnt: np.ndarray, fitted: Fitted) -> dict[str, bytes]:
    """Every file of the bundle; `learnt`: the training rows' matrix. Nothing here may depend on the clock, on paths or
    on the order of a dict from outside."""
    path, predict = Path(job.data_path), trainer_module(job.trainer.kind).predict
    calibrate = read_role(path, "calibrate", job.features)
    calibration = fit_calibration(predict(fitted.model, calibrate.features), calibrate.labels)
    evaluate = read_role(path, "evaluate", job.features)
    raw = predict(fitted.model, evaluate.features)
    scores = calibration.apply(raw)
    if not np.isfinite(scores).all():
        raise TrainingFailed("the model gives scores that are not numbers", where=job.model)
    seen = model_columns(job.features, learnt, calibration.apply(predict(fitted.model, learnt)))
    report = {
        "model": job.model,
        "job_digest": job.digest(),
        "spec_digest": job.spec_digest,
        "data_digest": job.data_digest,
        "trainer": {"kind": job.trainer.kind, "library": fitted.library, "params": dict(job.trainer.params)},
        "seed": job.seed,
        "threads": job.threads,
        "rounds": fitted.rounds,
        "rounds_trained": len(fitted.curves["stop"]),
        "log_loss": {role: losses[fitted.rounds - 1] for role, losses in fitted.curves.items()},
        "rows": {role: {"rows": count.rows, "positives": count.positives} for role, count in counts.items()},
        "rehearsal": {"rounds": fitted.rehearsal.rounds, "margins_sha256": fitted.rehearsal.margins_sha256},
    }
    rounds = np.arange(1, len(fitted.curves["stop"]) + 1, dtype=np.int32)
    return {
        bundles.MODEL: fitted.model,
        bundles.CALIBRATION: _json(calibration.to_json()),
        bundles.FEATURES: _json({"features": list(job.features)}),
        bundles.CURVES: _parquet({"round": rounds, **{f"{r}_log_loss": np.array(c) for r, c in fitted.curves.items()}}),
        bundles.IMPORTANCE: _json(
            {"gain": dict(sorted(fitted.importance.items(), key=lambda item: -item[1]))}, sort_keys=False
        ),
        bundles.EVALUATION_SCORES: _parquet({"score_raw": raw, "score": scores}),
        bundles.REFERENCE: _json(build_sketch(seen).to_json()),
        bundles.REPORT: _json(report),
    }


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


def _json(content: Mapping[str, Any], sort_keys: bool = True) -> bytes:
    return (json.dumps(content, indent=1, sort_keys=sort_keys, allow_nan=False) + "\n").encode()


def _parquet(columns: Mapping[str, np.ndarray]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({name: pa.array(values) for name, values in columns.items()}), sink, compression="zstd")
    return sink.getvalue().to_pybytes()


class _Unneeded:
    """Import finder: installed or not, a worker runs without these; pyarrow and xgboost would pay 6 CPU seconds."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name.partition(".")[0] in ("pandas", "sklearn"):
            raise ModuleNotFoundError(f"{name} is not for a training worker", name=name)


if __name__ == "__main__":
    sys.meta_path.insert(0, _Unneeded())
    # OpenMP's idle threads spin by default, which costs half the CPU, and on shared cores most of the time.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    if len(sys.argv) != 2:
        sys.exit("usage: python -m ml_platform.training.worker JOB.json")
    sys.exit(main(sys.argv[1]))
