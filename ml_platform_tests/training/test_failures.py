"""What cannot be trained on fails with its cause and leaves nothing behind."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from ml_platform.training import data
from ml_platform.training.job import DeviceMissing, OutOfMemory, TrainingFailed, TrainingJob
from ml_platform.training.reporting import PlainReporter
from ml_platform.training.spec import ModelSpec, Trainer
from ml_platform.training.trainers.xgboost import import_xgboost
from ml_platform.training.worker import train

MakeJob = Callable[..., TrainingJob]


def with_column(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, values)


def refuse(job: TrainingJob, words: str, kind: type[TrainingFailed] = TrainingFailed) -> None:
    with pytest.raises(kind, match=words):
        train(job, PlainReporter())
    assert not Path(job.output).exists()


def labels_of(table: pa.Table) -> np.ndarray:
    return table.column("label").to_numpy().copy()


def test_a_missing_label_is_refused(make_job: MakeJob, rows: pa.Table) -> None:
    mask = np.arange(rows.num_rows) < 3
    refuse(make_job(with_column(rows, "label", pa.array(labels_of(rows), mask=mask))), "label is missing in 3 of 3100")


def test_a_label_that_is_not_a_number_is_refused(make_job: MakeJob, rows: pa.Table) -> None:
    values = labels_of(rows).astype(np.float64)
    values[5] = np.nan
    refuse(make_job(with_column(rows, "label", pa.array(values))), "label is missing in 1 of 3100")


def test_a_label_other_than_zero_and_one_is_refused(make_job: MakeJob, rows: pa.Table) -> None:
    values = labels_of(rows)
    values[5] = 2
    refuse(make_job(with_column(rows, "label", pa.array(values))), "neither 0 nor 1")


def test_an_infinite_feature_is_refused_with_its_name(make_job: MakeJob, rows: pa.Table) -> None:
    values = rows.column("shopper__spend").to_numpy().copy()
    values[0] = np.inf
    refuse(make_job(with_column(rows, "shopper__spend", pa.array(values))), r"infinite in 1 of .*shopper__spend")


def test_a_feature_too_large_for_float32_is_refused_rather_than_made_infinite(
    make_job: MakeJob, rows: pa.Table
) -> None:
    values = np.zeros(rows.num_rows)
    values[1] = 1e300
    refuse(make_job(with_column(rows, "shopper__spend", pa.array(values))), r"infinite in 1 of .*shopper__spend")


@pytest.mark.parametrize("values", [pa.array(["a"]), pa.array(["a"]).dictionary_encode(), pa.array([0], pa.date32())])
def test_a_feature_that_is_not_numeric_is_refused_with_its_name(
    make_job: MakeJob, rows: pa.Table, values: pa.Array
) -> None:
    column = pa.concat_arrays([values] * rows.num_rows)
    refuse(
        make_job(with_column(rows, "shopper__noise", column)), r"features are numbers or booleans \[shopper__noise\]"
    )


def test_a_feature_column_that_is_not_there_is_refused_with_its_name(make_job: MakeJob, rows: pa.Table) -> None:
    refuse(make_job(rows.drop_columns(["shopper__noise"])), "no column shopper__noise")


@pytest.mark.parametrize("role", ["train", "stop", "calibrate", "evaluate"])
def test_an_empty_role_is_refused(make_job: MakeJob, rows: pa.Table, role: str) -> None:
    keep = pa.array([value != role for value in rows["role"].to_pylist()])
    refuse(make_job(rows.filter(keep)), f"no row has the role '{role}'")


def test_a_role_with_one_class_is_refused(make_job: MakeJob, rows: pa.Table) -> None:
    values = np.where(np.array(rows["role"].to_pylist()) == "stop", 0, labels_of(rows)).astype(np.int8)
    refuse(make_job(with_column(rows, "label", pa.array(values))), "all 500 rows of the role 'stop' have the label 0")


@pytest.mark.parametrize("eta", [1000.0, float("nan")])
def test_a_loss_that_explodes_stops_the_training(
    make_job: MakeJob, rows: pa.Table, spec: ModelSpec, eta: float
) -> None:
    wild = replace(spec, trainer=Trainer("xgboost", 40, 8, {"eta": eta}))
    refuse(make_job(rows, wild), "the loss explodes at round 1")


def test_a_parameter_that_the_trainer_does_not_know_is_refused(
    make_job: MakeJob, rows: pa.Table, spec: ModelSpec
) -> None:
    misspelt = replace(spec, trainer=Trainer("xgboost", 40, 8, {"max_depht": 3}))
    refuse(make_job(rows, misspelt), 'does not use the parameters "max_depht"')


def test_a_parameter_value_that_the_trainer_refuses_is_told(make_job: MakeJob, rows: pa.Table, spec: ModelSpec) -> None:
    refuse(make_job(rows, replace(spec, trainer=Trainer("xgboost", 40, 8, {"eta": -1}))), "XGBoost refuses")


@pytest.mark.parametrize("name", ["seed", "n_jobs", "objective"])
def test_parameters_cannot_override_what_makes_a_training_reproducible(
    make_job: MakeJob, rows: pa.Table, spec: ModelSpec, name: str
) -> None:
    refuse(make_job(rows, replace(spec, trainer=Trainer("xgboost", 40, 8, {name: 1}))), f"set {name}")


def test_a_gpu_that_is_not_there_is_told_and_the_processor_is_not_taken_instead(
    make_job: MakeJob, rows: pa.Table
) -> None:
    if import_xgboost().build_info()["USE_CUDA"] and Path("/dev/nvidia0").exists():
        pytest.skip("there is a GPU")
    refuse(replace(make_job(rows), device="cuda"), "XGBoost sees none", DeviceMissing)


def no_memory(*_: object, **__: object) -> np.ndarray:
    return np.empty(1 << 60, np.float32)


def no_memory_in_xgboost(*_: object, **__: object) -> None:
    raise import_xgboost().core.XGBoostError("[1] hist.cc:1: std::bad_alloc")


@pytest.mark.parametrize("where", ["reading", "boosting"])
def test_memory_that_runs_out_is_told_as_such(
    make_job: MakeJob, rows: pa.Table, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if where == "reading":
        monkeypatch.setattr(data, "feature_values", no_memory)
    else:
        monkeypatch.setattr(import_xgboost(), "train", no_memory_in_xgboost)
    refuse(make_job(rows), "ran out of memory: .*(allocate|bad_alloc)", OutOfMemory)


def test_a_training_past_its_deadline_stops(make_job: MakeJob, rows: pa.Table) -> None:
    refuse(replace(make_job(rows), deadline_seconds=0), "passed its deadline of 0 s at round 1 of 40")


def test_a_training_set_changed_after_the_job_was_written_is_refused(make_job: MakeJob, rows: pa.Table) -> None:
    job = make_job(rows)
    make_job(rows.slice(0, 3000))
    refuse(job, "SHA-256 differs")


def test_a_training_set_that_is_gone_is_told(make_job: MakeJob, rows: pa.Table) -> None:
    job = make_job(rows)
    Path(job.data_path).unlink()
    refuse(job, "not there")


def test_a_torn_training_set_is_told(make_job: MakeJob, rows: pa.Table, spec: ModelSpec) -> None:
    path = Path(make_job(rows).data_path)
    path.write_bytes(path.read_bytes()[:-100])
    refuse(TrainingJob.from_spec(spec, path, "digest", path.parent / "bundle"), "cannot be read")
