"""Real worker processes: the same bits again, live words, and no half of a bundle however they end."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ml_platform.registry.bundles import EVALUATION_SCORES, BundleConflict, open_bundle
from ml_platform.training.compute import run_worker, worker_command
from ml_platform.training.data import feature_matrix
from ml_platform.training.job import STOPPED, TrainingFailed, TrainingJob, write_job
from ml_platform.training.rehearsal import is_reproducible, repeats
from ml_platform.training.reporting import PlainReporter
from ml_platform.training.worker import train
from ml_platform_tests.training.conftest import ROWS_BY_ROLE, Trained

FORBIDDEN_IN_A_WORKER = ("dagster", "polars", "pandas", "mlflow", "sklearn", "pandera")
WORKER_WITHOUT = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {forbidden}:
            raise ImportError(name + " must not be needed by a worker")
sys.meta_path.insert(0, Blocker())
from ml_platform.training.worker import main
sys.exit(main(sys.argv[1]))
"""


def hidden_leftovers(folder: Path) -> list[str]:
    return [name for name in os.listdir(folder) if name.startswith(".")]


def test_training_twice_gives_the_same_bundle_and_needs_none_of_the_heavy_libraries(
    trained: Trained, tmp_path: Path
) -> None:
    again = replace(trained.job, output=str(tmp_path / "elsewhere"))
    blocked = subprocess.run(
        [
            sys.executable,
            "-c",
            WORKER_WITHOUT.format(forbidden=FORBIDDEN_IN_A_WORKER),
            write_job(again, tmp_path / "j.json"),
        ],
        capture_output=True,
        text=True,
    )
    assert blocked.returncode == 0, blocked.stderr
    assert open_bundle(tmp_path / "elsewhere").digest == trained.bundle.digest
    assert hidden_leftovers(tmp_path) == []


def test_a_worker_reports_rounds_loss_speed_and_time_left_while_it_trains(trained: Trained) -> None:
    progress = [line for line in trained.said if "rounds/s" in line and "s left" in line and "stop log loss" in line]
    assert len(progress) >= 5
    assert progress[0].startswith("returning_shopper: round 2 of at most 40")


def test_under_dagster_progress_and_result_arrive_as_pipes_messages_and_log_lines(
    trained: Trained, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    job_path = write_job(replace(trained.job, output=str(tmp_path / "piped")), tmp_path / "job.json")
    messages: list = []

    @dg.asset
    def candidate(context: dg.AssetExecutionContext, pipes: dg.PipesSubprocessClient) -> dg.MaterializeResult:
        ended = pipes.run(command=worker_command(job_path), context=context)
        messages.extend(ended.get_custom_messages())
        return dg.MaterializeResult()

    assert dg.materialize([candidate], resources={"pipes": dg.PipesSubprocessClient()}).success
    progress = [message for message in messages if message["kind"] == "progress"]
    assert [message["round"] for message in progress][:3] == [2, 4, 6]
    assert all(message["rows_per_second"] > 0 and message["eta_seconds"] >= 0 for message in progress)
    assert all(message["stop_log_loss"] > 0 and message["device_memory_mb"] > 10 for message in progress)
    assert messages[-1]["kind"] == "result" and messages[-1]["trained"] is True
    assert messages[-1]["digest"] == trained.bundle.digest
    assert "round 2 of at most 40" in capfd.readouterr().err


def test_under_dagster_a_failed_training_fails_its_step_and_logs_the_typed_cause(
    trained: Trained, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    job = replace(trained.job, output=str(tmp_path / "never"), deadline_seconds=0)
    job_path = write_job(job, tmp_path / "job.json")

    @dg.asset
    def candidate(context: dg.AssetExecutionContext, pipes: dg.PipesSubprocessClient) -> None:
        pipes.run(command=worker_command(job_path), context=context)

    ended = dg.materialize([candidate], resources={"pipes": dg.PipesSubprocessClient()}, raise_on_error=False)
    assert not ended.success and not (tmp_path / "never").exists()
    assert "TrainingFailed: training passed its deadline of 0 s" in capfd.readouterr().err


def test_the_same_job_whose_intact_bundle_is_there_is_not_trained_again(
    trained: Trained, capsys: pytest.CaptureFixture
) -> None:
    before = os.stat(trained.bundle.path / "model.ubj").st_mtime_ns
    job = replace(trained.job, data_path="/nowhere", deadline_seconds=1)
    assert train(job, PlainReporter()).digest == trained.bundle.digest
    assert "already there, nothing to train" in capsys.readouterr().out
    assert os.stat(trained.bundle.path / "model.ubj").st_mtime_ns == before


def test_another_job_never_overwrites_a_bundle(trained: Trained) -> None:
    with pytest.raises(BundleConflict, match="another job"):
        train(replace(trained.job, seed=2), PlainReporter())
    assert open_bundle(trained.bundle.path).digest == trained.bundle.digest


def test_a_spoilt_bundle_is_set_aside_and_trained_again(
    make_job: Callable[..., TrainingJob], rows: pa.Table, capsys: pytest.CaptureFixture
) -> None:
    job = make_job(rows)
    first = train(job, PlainReporter())
    (first.path / "model.ubj").write_bytes(b"spoilt")
    assert train(job, PlainReporter()).digest == first.digest
    assert "training again" in capsys.readouterr().out
    (kept,) = first.path.parent.glob(".bundle.*.corrupt/bundle/model.ubj")
    assert kept.read_bytes() == b"spoilt"


def test_the_scores_in_a_bundle_are_those_that_the_loaded_bundle_gives(trained: Trained) -> None:
    evaluate = pq.read_table(trained.data, filters=[("role", "==", "evaluate")])
    recorded = pq.read_table(trained.bundle.path / EVALUATION_SCORES)
    features = feature_matrix(evaluate, trained.bundle.columns)
    assert recorded.num_rows == ROWS_BY_ROLE["evaluate"]
    assert recorded.column("score_raw").to_numpy().tobytes() == trained.bundle.predict_raw(features).tobytes()
    assert recorded.column("score").to_numpy().tobytes() == trained.bundle.predict(features).tobytes()


def test_a_report_says_what_was_trained_and_the_curves_cover_every_round(trained: Trained) -> None:
    report, curves = trained.bundle.report, pq.read_table(trained.bundle.path / "curves.parquet").to_pydict()
    assert report["rounds"] < report["rounds_trained"] < 40, "early stopping should end this training"
    assert curves["round"] == list(range(1, report["rounds_trained"] + 1))
    assert min(curves["stop_log_loss"]) == curves["stop_log_loss"][report["rounds"] - 1] == report["log_loss"]["stop"]
    assert {role: count["rows"] for role, count in report["rows"].items()} == ROWS_BY_ROLE
    assert report["data_digest"] == "digest-of-the-data" and report["job_digest"] == trained.job.digest()


def test_importance_names_every_feature_and_ranks_signal_above_noise(trained: Trained) -> None:
    gain = trained.bundle.json("importance.json")["gain"]
    assert set(gain) == set(trained.spec.features)
    assert gain["shopper:visits"] > gain["shopper:noise"]


def test_a_rehearsal_in_a_fresh_process_repeats_the_first_rounds_to_the_bit(trained: Trained, tmp_path: Path) -> None:
    assert is_reproducible(trained.spec, trained.bundle, trained.data, "digest-of-the-data", tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["job.json", "rehearsal.json"]


@pytest.mark.parametrize("change", [{"margins_sha256": "0" * 64}, {"rounds": 3}, {"job_digest": "another job"}])
def test_a_rehearsal_of_other_bits_or_of_another_job_is_told_from_the_recorded_one(
    trained: Trained, tmp_path: Path, change: dict
) -> None:
    recorded = {"job_digest": trained.job.digest(), **trained.bundle.report["rehearsal"]}
    outcome = tmp_path / "rehearsal.json"
    outcome.write_text(json.dumps(recorded))
    assert repeats(outcome, trained.bundle)
    outcome.write_text(json.dumps({**recorded, **change}))
    assert not repeats(outcome, trained.bundle)


@pytest.mark.parametrize("point", ["training.round", "bundle.files_written", "bundle.manifest_written"])
def test_a_worker_killed_at_any_point_leaves_no_visible_bundle(
    point: str, make_job: Callable[..., TrainingJob], rows: pa.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job(rows)
    monkeypatch.setenv("ML_PLATFORM_KILL_AT", point)
    with pytest.raises(TrainingFailed, match=f"killed by signal {int(signal.SIGKILL)}"):
        run_worker(write_job(job, tmp_path / "job.json"), lambda line: None)
    models = tmp_path / "models"
    assert not models.exists() or [name for name in os.listdir(models) if not name.startswith(".")] == []
    monkeypatch.delenv("ML_PLATFORM_KILL_AT")
    assert train(job, PlainReporter()).report["rounds"] > 1


def test_a_worker_told_to_stop_stops_and_leaves_no_bundle(
    make_job: Callable[..., TrainingJob], rows: pa.Table, tmp_path: Path
) -> None:
    job = make_job(rows)
    long = replace(job, trainer=replace(job.trainer, rounds=10**6, early_stopping_rounds=10**6))
    path = write_job(long, tmp_path / "job.json")
    with subprocess.Popen(worker_command(path), stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout and "train 1,500 rows" in worker.stdout.readline()
        worker.terminate()
        assert worker.wait(30) == STOPPED
    assert not Path(job.output).exists()


def test_a_failing_worker_process_tells_the_cause_and_exits_nonzero(
    make_job: Callable[..., TrainingJob], rows: pa.Table, tmp_path: Path
) -> None:
    job = make_job(rows.filter(pa.array([role != "calibrate" for role in rows["role"].to_pylist()])))
    with pytest.raises(TrainingFailed, match="TrainingFailed: no row has the role 'calibrate'"):
        run_worker(write_job(job, tmp_path / "job.json"), lambda line: None)
    assert not Path(job.output).exists()
