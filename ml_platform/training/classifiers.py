"""What the worker makes of a job whose trainer gives classifiers: calibrated scores, and the bundle's files."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ml_platform.monitoring.sketch import build_sketch, model_columns
from ml_platform.registry import bundles
from ml_platform.training.calibration import fit_calibration
from ml_platform.training.data import RoleCount, Rows, count_roles, read_role
from ml_platform.training.files import base_report, json_bytes, parquet_bytes
from ml_platform.training.job import TrainingFailed, TrainingJob
from ml_platform.training.ranks import Ranks
from ml_platform.training.reporting import Reporter
from ml_platform.training.spec import Role
from ml_platform.training.trainers import Fitted, Rehearsal, classifier_module


def train(job: TrainingJob, reporter: Reporter) -> dict[str, bytes] | None:
    """Every file of the trained bundle; None in a process that does not write it. Raises TrainingFailed."""
    counts = count_roles(Path(job.data_path))
    reporter.log(f"{job.model}: " + " · ".join(f"{role} {count.rows:,} rows" for role, count in counts.items()))
    rows = _learning_rows(job)
    fitted = classifier_module(job.trainer.kind).fit(job, rows, reporter)
    if fitted is None:
        return None
    if job.processes > 1:  # what was learnt by all of them is sketched by the first
        rows = {"train": read_role(Path(job.data_path), "train", job.features)}
    return _files(job, counts, rows["train"].features, fitted)


def rehearse(job: TrainingJob, reporter: Reporter) -> Rehearsal | None:
    """Trains only the first rounds; None in a process that does not write the outcome. Raises TrainingFailed."""
    count_roles(Path(job.data_path))
    return classifier_module(job.trainer.kind).rehearse(job, _learning_rows(job), reporter)


def _learning_rows(job: TrainingJob) -> Mapping[Role, Rows]:
    """This process's share of what is learnt from."""
    roles: tuple[Role, Role] = ("train", "stop")
    return {role: read_role(Path(job.data_path), role, job.features, Ranks.from_env()) for role in roles}


def _files(job: TrainingJob, counts: Mapping[Role, RoleCount], learnt: np.ndarray, fitted: Fitted) -> dict[str, bytes]:
    """`learnt`: the training rows' matrix. Nothing here may depend on the clock, on paths or on the order of a dict
    from outside."""
    path, predict = Path(job.data_path), classifier_module(job.trainer.kind).predict
    calibrate = read_role(path, "calibrate", job.features)
    calibration = fit_calibration(predict(fitted.model, calibrate.features), calibrate.labels)
    evaluate = read_role(path, "evaluate", job.features)
    raw = predict(fitted.model, evaluate.features)
    scores = calibration.apply(raw)
    if not np.isfinite(scores).all():
        raise TrainingFailed("the model gives scores that are not numbers", where=job.model)
    seen = model_columns(job.features, learnt, calibration.apply(predict(fitted.model, learnt)))
    rows = {role: {"rows": count.rows, "positives": count.positives} for role, count in counts.items()}
    losses = {role: curve[fitted.rounds - 1] for role, curve in fitted.curves.items()}
    report = {**base_report(job, fitted, rows), "log_loss": losses}
    rounds = np.arange(1, report["rounds_trained"] + 1, dtype=np.int32)
    curves = {f"{role}_log_loss": np.array(curve) for role, curve in fitted.curves.items()}
    gain = dict(sorted(fitted.importance.items(), key=lambda item: -item[1]))
    return {
        bundles.MODEL: fitted.model,
        bundles.CALIBRATION: json_bytes(calibration.to_json()),
        bundles.FEATURES: json_bytes({"features": list(job.features)}),
        bundles.CURVES: parquet_bytes({"round": rounds, **curves}),
        bundles.IMPORTANCE: json_bytes({"gain": gain}, sort_keys=False),
        bundles.EVALUATION_SCORES: parquet_bytes({"score_raw": raw, "score": scores}),
        bundles.REFERENCE: json_bytes(build_sketch(seen).to_json()),
        bundles.REPORT: json_bytes(report),
    }
