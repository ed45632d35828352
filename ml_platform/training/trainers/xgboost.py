"""Gradient-boosted trees by XGBoost's native API: histograms, log loss, early stopping on the role stop.

Invariants: seed, threads, device, objective and tree method come from the job and cannot be overridden by parameters,
so the same job gives the same bytes; several processes share the rows and add up their histograms and losses, so that
all grow the same trees and decide alike, and the first one keeps them; the saved model holds exactly the best round's
trees; a training that cannot be right (a loss that is not finite or explodes, a parameter that XGBoost does not know,
no GPU where one was asked for, a passed deadline) raises TrainingFailed. A killed training starts from its first round
again: to continue one that subsamples would give another model.
"""

import hashlib
import os
import resource
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from typing import Any

import numpy as np

from ml_platform.killpoints import kill_point
from ml_platform.training.data import Rows
from ml_platform.training.job import DeviceMissing, TrainingFailed, TrainingJob
from ml_platform.training.ranks import Ranks
from ml_platform.training.reporting import Reporter
from ml_platform.training.spec import Role
from ml_platform.training.trainers import Fitted, Rehearsal

EXPLODED = 4.0
"""A stop loss this many times the loss of always saying the training rate means that training diverges."""
REPORTS_PER_TRAINING = 20
TRACKER = "ML_PLATFORM_XGBOOST_TRACKER"
"""Environment variable of a training's processes: where the tracker is that brings them together, as `host:port`."""
LOST_SECONDS = 30.0
_NO_MEMORY = ("bad_alloc", "out of memory", "Memory allocation error")
_DECIDED_BY_THE_JOB = {"objective", "eval_metric", "tree_method", "booster", "device", "seed", "nthread", "verbosity"}
_SYNONYMS = {"random_state": "seed", "n_jobs": "nthread"}


def import_xgboost() -> Any:
    """The xgboost module, kept from importing scikit-learn for its wrappers: nobody here uses them, 4 CPU seconds."""
    hidden = "sklearn" not in sys.modules and "xgboost" not in sys.modules
    if hidden:
        sys.modules["sklearn"] = None  # type: ignore[assignment]
    try:
        import xgboost
    finally:
        if hidden:
            del sys.modules["sklearn"]
    return xgboost


def fit(job: TrainingJob, rows: Mapping[Role, Rows], reporter: Reporter) -> Fitted | None:
    """Trains until the stop loss has not improved for `early_stopping_rounds`, and keeps the best round's trees. None
    in all processes but the first."""
    xgboost, ranks = import_xgboost(), Ranks.from_env()
    with _joined(job, ranks):
        booster, curves, stop = _boost(job, rows, reporter, job.trainer.rounds, early_stopping=True)
    if not ranks.is_first:
        return None
    rehearsal = _rehearsal(booster, stop, min(job.reproducible_rounds, booster.num_boosted_rounds()))
    rounds = int(booster.best_iteration) + 1
    kept = booster[:rounds]
    gain = kept.get_score(importance_type="total_gain")
    return Fitted(
        model=bytes(kept.save_raw("ubj")),
        rounds=rounds,
        curves=curves,
        importance={reference: float(gain.get(reference, 0.0)) for reference in job.features},
        rehearsal=rehearsal,
        library=f"xgboost {xgboost.__version__}",
    )


def rehearse(job: TrainingJob, rows: Mapping[Role, Rows], reporter: Reporter) -> Rehearsal | None:
    """Trains only the first `rehearsal_rounds` rounds. None in all processes but the first."""
    if not job.rehearsal_rounds:
        raise TrainingFailed("a rehearsal needs a number of rounds", where=job.model)
    ranks = Ranks.from_env()
    with _joined(job, ranks):
        booster, _, stop = _boost(job, rows, reporter, job.rehearsal_rounds, early_stopping=False)
    return _rehearsal(booster, stop, job.rehearsal_rounds) if ranks.is_first else None


def predict(model: bytes, features: np.ndarray) -> np.ndarray:
    """Raw scores [n_rows] float32 in [0, 1] of features [n_rows, n_features] float32; NaN is a missing value."""
    return load_model(model).inplace_predict(features)


def contributions(model: bytes, features: np.ndarray) -> np.ndarray:
    """What each feature adds to the margin: SHAP values [n_rows, n_features + 1] float32, the last column the bias, so
    that a row adds up to its margin (TreeSHAP; Lundberg et al. 2020, https://doi.org/10.1038/s42256-019-0138-9)."""
    booster = load_model(model)
    matrix = import_xgboost().DMatrix(features, feature_names=booster.feature_names)
    return booster.predict(matrix, pred_contribs=True)


def load_model(model: bytes) -> Any:
    """The Booster of UBJ bytes."""
    booster = import_xgboost().Booster()
    booster.load_model(bytearray(model))
    return booster


@contextmanager
def _joined(job: TrainingJob, ranks: Ranks) -> Iterator[None]:
    """The collective, where there is more than one process."""
    if ranks.count == 1:
        yield
        return
    xgboost = import_xgboost()
    host, _, port = os.environ[TRACKER].partition(":")
    collective = xgboost.collective.CommunicatorContext(
        dmlc_tracker_uri=host, dmlc_tracker_port=int(port), dmlc_task_id=str(ranks.number),
        dmlc_timeout=job.deadline_seconds,
    )  # fmt: skip
    with redirect_stdout(None):  # it would print who has joined
        collective.__enter__()
    yield
    # Not after an error: to say goodbye to those that may be gone would wait for them.
    collective.__exit__()


def _boost(
    job: TrainingJob, rows: Mapping[Role, Rows], reporter: Reporter, rounds: int, early_stopping: bool
) -> tuple[Any, dict[str, list[float]], Any]:
    """The booster with every round it trained, the log loss a round of the roles train and stop, and stop's matrix."""
    xgboost = import_xgboost()
    names = list(job.features)
    train = xgboost.QuantileDMatrix(
        rows["train"].features, label=rows["train"].labels, feature_names=names, nthread=job.threads,
        max_bin=int(job.trainer.params.get("max_bin", 256)),
    )  # fmt: skip
    stop = xgboost.DMatrix(rows["stop"].features, label=rows["stop"].labels, feature_names=names, nthread=job.threads)
    watch = _watch(job, rows, reporter, rounds)
    callbacks = [watch]
    if early_stopping:
        callbacks.append(
            xgboost.callback.EarlyStopping(
                rounds=job.trainer.early_stopping_rounds, metric_name="logloss", data_name="stop"
            )
        )
    history: dict[str, dict[str, list[float]]] = {}
    with warnings.catch_warnings(record=True) as watch.warnings:
        warnings.simplefilter("always")
        try:
            booster = xgboost.train(
                _parameters(job), train, rounds, evals=[(train, "train"), (stop, "stop")],
                evals_result=history, verbose_eval=False, callbacks=callbacks,
            )  # fmt: skip
        except xgboost.core.XGBoostError as error:
            if "/collective/" in str(error):
                # The launcher knows which process was lost and why: it tells, and ends this one before it can guess.
                time.sleep(LOST_SECONDS)
            if any(words in str(error) for words in _NO_MEMORY):
                raise MemoryError(str(error).splitlines()[0]) from error
            raise TrainingFailed(
                f"XGBoost refuses the training: {str(error).splitlines()[0]}",
                where=job.model,
                next_step="correct the trainer's parameters in the model's spec",
            ) from error
    return booster, {role: losses["logloss"] for role, losses in history.items()}, stop


def _parameters(job: TrainingJob) -> dict[str, Any]:
    decided = sorted(name for name in job.trainer.params if _SYNONYMS.get(name, name) in _DECIDED_BY_THE_JOB)
    if decided:
        raise TrainingFailed(
            f"the trainer's parameters set {', '.join(decided)}, which the platform decides",
            where=job.model,
            next_step="leave it out; seed and threads (resources.cpu) are fields of the spec",
        )
    return {
        **job.trainer.params,
        "objective": "binary:logistic",
        "eval_metric": "logloss",
        "tree_method": "hist",
        "device": _device(job),
        "seed": job.seed,
        "nthread": job.threads,
    }


def _device(job: TrainingJob) -> str:
    """The job's device; of several processes each has a GPU of its own."""
    return f"cuda:{os.environ['LOCAL_RANK']}" if job.device == "cuda" and job.processes > 1 else job.device


def _rehearsal(booster: Any, stop: Any, rounds: int) -> Rehearsal:
    margins = booster.predict(stop, output_margin=True, iteration_range=(0, rounds)).astype("<f4")
    return Rehearsal(rounds, hashlib.sha256(margins.tobytes()).hexdigest())


def _over_all(labels: np.ndarray) -> tuple[float, float]:
    """(how many rows all processes have, the mean of their labels), so that each of them judges a loss alike."""
    collective = import_xgboost().collective
    total, rows = collective.allreduce(np.array([labels.sum(dtype=np.float64), len(labels)]), collective.Op.SUM)
    return float(rows), float(total / rows)


def _watch(job: TrainingJob, rows: Mapping[Role, Rows], reporter: Reporter, rounds: int) -> Any:
    """The callback that reports progress and stops what cannot become a model."""
    xgboost = import_xgboost()
    (learnt, rate), (_, stop_rate) = (_over_all(rows[role].labels) for role in ("train", "stop"))
    constant_loss = -(stop_rate * np.log(rate) + (1 - stop_rate) * np.log(1 - rate))
    every, first = max(1, rounds // REPORTS_PER_TRAINING), Ranks.from_env().is_first

    class Watch(xgboost.callback.TrainingCallback):
        warnings: list[warnings.WarningMessage]

        def before_training(self, model: Any) -> Any:
            self.started = time.monotonic()
            return model

        def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
            kill_point("training.round")
            done, losses = epoch + 1, evals_log["stop"]["logloss"]
            if epoch == 0:
                self._refuse_unknown_parameters()
                self._refuse_another_device()
            self._refuse_bad_loss(done, losses[-1], evals_log["train"]["logloss"][-1])
            seconds = time.monotonic() - self.started
            if seconds > job.deadline_seconds and first:
                raise TrainingFailed(
                    f"training passed its deadline of {job.deadline_seconds} s at round {done} of {rounds}",
                    where=job.model,
                    next_step="raise resources.deadline_seconds or resources.cpu, or train fewer rounds",
                )
            if done % every == 0 or done == rounds:
                self._report(done, losses, seconds)
            return False

        def _report(self, done: int, losses: list[float], seconds: float) -> None:
            speed = done / max(seconds, 1e-9)
            eta = (rounds - done) / speed
            best = int(np.argmin(losses))
            peak = {"device_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3}
            reporter.log(
                f"{job.model}: round {done} of at most {rounds} · stop log loss {losses[-1]:.5f}"
                f" (best {losses[best]:.5f} at {best + 1}) · {speed:.1f} rounds/s · at most {eta:.0f} s left"
            )
            reporter.send(
                {
                    "kind": "progress",
                    "round": done,
                    "rounds": rounds,
                    "stop_log_loss": float(losses[-1]),
                    "rounds_per_second": speed,
                    "rows_per_second": speed * learnt,
                    **(peak if job.device == "cpu" else {}),  # XGBoost does not tell how much of a GPU it holds
                    "eta_seconds": eta,
                }
            )

        def _refuse_unknown_parameters(self) -> None:
            for warning in self.warnings:
                if "are not used" in str(warning.message):
                    unknown = str(warning.message).split("{")[-1].split("}")[0].strip()
                    raise TrainingFailed(
                        f"XGBoost does not use the parameters {unknown}",
                        where=job.model,
                        next_step="correct or remove them in the model's spec",
                    )

        def _refuse_another_device(self) -> None:
            """XGBoost would go on, on the CPU, and only warn."""
            if job.device == "cuda" and any("No visible GPU" in str(warning.message) for warning in self.warnings):
                raise DeviceMissing(
                    "the job asks for a GPU, and XGBoost sees none",
                    where=job.model,
                    next_step="run it where a GPU is (resources.gpus), or set resources.gpus to 0",
                )

        def _refuse_bad_loss(self, done: int, stop_loss: float, train_loss: float) -> None:
            if not (np.isfinite(stop_loss) and np.isfinite(train_loss)) or stop_loss > EXPLODED * constant_loss:
                raise TrainingFailed(
                    f"the loss explodes at round {done}: {stop_loss:.4g} on stop, {train_loss:.4g} on train,"
                    f" where always saying the training rate costs {constant_loss:.4g}",
                    where=job.model,
                    next_step="lower the learning rate, or look for a broken feature",
                )

    return Watch()
