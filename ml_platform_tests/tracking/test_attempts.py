import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from ml_platform.tracking.mlflow import Attempt, Tracking, TrackingUnavailable
from ml_platform_tests.registry.conftest import start_process

PNG = b"\x89PNG\r\n\x1a\n not much of a picture"


class Interrupted(BaseException):
    """What Dagster raises in a step that is cancelled is a BaseException too."""


def asked(**otherwise: Any) -> dict[str, Any]:
    """What every attempt states."""
    return {"dagster_run_id": "dagster-1", "data_digest": "data-1", "params": {"rounds": 200}} | otherwise


def runs_of(tracking: Tracking) -> list[Any]:
    experiments = [experiment.experiment_id for experiment in tracking.client.search_experiments()]
    return list(tracking.client.search_runs(experiments))


def test_an_attempt_is_one_finished_run_with_all_that_was_logged(tracking: Tracking, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    (bundle / "manifest.json").write_text("{}")
    with tracking.attempt("replenishment", **asked(), tags={"cutoff": "2018-01-01"}) as attempt:
        attempt.log_curves({"train_log_loss": [0.7, 0.6, 0.55], "stop_log_loss": [0.71, 0.63, 0.6]})
        attempt.log_metrics({"auc": 0.78})
        attempt.log_plots({"calibration": PNG})
        attempt.log_files(bundle, "bundle")
    (run,) = runs_of(tracking)
    assert (run.info.status, run.info.run_id) == ("FINISHED", attempt.run_id)
    assert run.data.params == {"rounds": "200"}
    assert run.data.metrics == {"auc": 0.78, "train_log_loss": 0.55, "stop_log_loss": 0.6}
    history = tracking.client.get_metric_history(attempt.run_id, "train_log_loss")
    assert sorted((point.step, point.value) for point in history) == [(0, 0.7), (1, 0.6), (2, 0.55)]
    stated = {"model": "replenishment", "dagster_run_id": "dagster-1", "data_digest": "data-1", "cutoff": "2018-01-01"}
    assert stated.items() <= run.data.tags.items()
    assert run.data.tags["mlflow.source.git.commit"]
    assert tracking.client.get_experiment(run.info.experiment_id).name == "replenishment"
    artifacts = tmp_path / "artifacts" / "replenishment" / attempt.run_id / "artifacts"
    assert (artifacts / "plots" / "calibration.png").read_bytes() == PNG
    assert (artifacts / "bundle" / "manifest.json").exists()


def test_progress_is_there_while_the_attempt_is_still_running(tracking: Tracking) -> None:
    with tracking.attempt("replenishment", **asked()) as attempt:
        for step, loss in ((10, 0.7), (20, 0.6)):
            attempt.log_progress({"kind": "progress", "round": 1, "step": step, "stop_log_loss": loss})
        run = tracking.client.get_run(attempt.run_id)
        history = tracking.client.get_metric_history(attempt.run_id, "live/stop_log_loss")
    assert run.info.status == "RUNNING" and run.data.metrics["live/stop_log_loss"] == 0.6
    assert sorted((point.step, point.value) for point in history) == [(10, 0.7), (20, 0.6)]


def test_more_curve_points_and_parameters_than_one_request_takes_all_arrive(tracking: Tracking) -> None:
    params = {f"p{number}": number for number in range(130)}
    with tracking.attempt("replenishment", **asked(params=params)) as attempt:
        attempt.log_curves({"loss": [1 / (step + 1) for step in range(1200)]})
    (run,) = runs_of(tracking)
    assert len(run.data.params) == 130
    assert len(tracking.client.get_metric_history(attempt.run_id, "loss")) == 1200


def test_an_attempt_that_raises_is_failed_and_says_why_without_secrets(
    tracking: Tracking, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WAREHOUSE_PASSWORD", "hunter2-hunter2")
    with pytest.raises(ValueError, match="hunter2"), tracking.attempt("replenishment", **asked()):
        raise ValueError("cannot log in with hunter2-hunter2")
    (run,) = runs_of(tracking)
    assert run.info.status == "FAILED"
    assert run.data.tags["failure"] == "ValueError: cannot log in with [redacted]"


def test_an_interrupted_attempt_is_killed(tracking: Tracking) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever starts tests in the background has it ignored
    with pytest.raises(KeyboardInterrupt), tracking.attempt("replenishment", **asked()):
        signal.raise_signal(signal.SIGINT)
    for interrupt in (Interrupted, SystemExit):
        with pytest.raises(interrupt), tracking.attempt("replenishment", **asked()):
            raise interrupt
    assert [run.info.status for run in runs_of(tracking)] == ["KILLED"] * 3


def test_the_processes_of_one_dagster_run_have_a_run_per_attempt_each_with_its_own_status(tracking: Tracking) -> None:
    def train(model: str, fails: bool) -> None:
        with tracking.attempt(model, **asked()) as attempt:
            attempt.log_metrics({"auc": 0.5})
            if fails:
                raise SystemError("no luck")

    processes = [start_process(train, "fine", False), start_process(train, "broken", True)]
    for process in processes:
        process.join(60)
    statuses = {run.data.tags["model"]: run.info.status for run in runs_of(tracking)}
    assert statuses == {"fine": "FINISHED", "broken": "FAILED"}
    assert len(runs_of(tracking)) == 2


def test_an_attempt_whose_process_was_killed_is_closed_once_its_dagster_run_is_over(tracking: Tracking) -> None:
    def train() -> None:
        with tracking.attempt("replenishment", **asked()):
            os.kill(os.getpid(), signal.SIGKILL)

    process = start_process(train)
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    with tracking.attempt("replenishment", **asked(dagster_run_id="dagster-2")) as alive:
        assert tracking.close_abandoned(lambda dagster_run: False) == []
        (closed,) = tracking.close_abandoned(lambda dagster_run: dagster_run == "dagster-1")
        assert tracking.client.get_run(closed).info.status == "KILLED"
        assert tracking.client.get_run(alive.run_id).info.status == "RUNNING"
    assert tracking.close_abandoned(lambda dagster_run: True) == []


def test_an_evaluation_is_added_to_the_attempt_without_changing_its_status(tracking: Tracking) -> None:
    with pytest.raises(ValueError, match="late"), tracking.attempt("replenishment", **asked()) as attempt:
        raise ValueError("late")
    tracking.resume(attempt.run_id).log_metrics({"evaluation_auc": 0.77})
    (run,) = runs_of(tracking)
    assert (run.info.status, run.data.metrics) == ("FAILED", {"evaluation_auc": 0.77})


def test_secrets_reach_neither_parameters_nor_tags(tracking: Tracking, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SNOWFLAKE_TOKEN", "s3cr3t-t0ken")
    params = {"api_key": "abc", "note": "uses s3cr3t-t0ken", "max_tokens": 8}
    with tracking.attempt("replenishment", **asked(params=params), tags={"db": "pg://me:hunter2@host/db"}):
        pass
    (run,) = runs_of(tracking)
    assert run.data.params == {"api_key": "[redacted]", "note": "uses [redacted]", "max_tokens": "8"}
    assert run.data.tags["db"] == "pg://me:[redacted]@host/db"


def test_a_server_that_is_down_is_named_before_any_training_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))  # bound and not listening: whoever connects is refused
        uri = f"http://ada:hunter2@127.0.0.1:{reserved.getsockname()[1]}"
        trained = False
        with (
            pytest.raises(TrackingUnavailable, match="Next: start the MLflow server or correct") as refusal,
            Tracking(uri, tmp_path).attempt("replenishment", **asked()),
        ):
            trained = True
    assert not trained
    assert "hunter2" not in str(refusal.value)
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_only_answers_errors_is_asked_a_few_times_and_then_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    with (
        _server_answering(500) as (uri, requests),
        pytest.raises(TrackingUnavailable, match="starting a run"),
        Tracking(uri, tmp_path).attempt("m", **asked()),
    ):
        pass
    assert 1 <= len(requests) <= 4


def test_an_error_of_the_training_is_not_hidden_by_an_mlflow_that_went_away_meanwhile(
    tracking: Tracking, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="NaN loss") as failure, tracking.attempt("replenishment", **asked()):
        (tmp_path / "mlflow.db").write_text("no database any more\n" * 100)
        raise ValueError("NaN loss")
    assert any("MLflow could not be told" in note for note in failure.value.__notes__)


def test_an_mlflow_that_goes_away_before_the_end_is_an_error_with_a_next_step(
    tracking: Tracking, tmp_path: Path
) -> None:
    with (
        pytest.raises(TrackingUnavailable, match=r"while logging metrics.*then run again: bundles and the ledger"),
        tracking.attempt("replenishment", **asked()) as attempt,
    ):
        (tmp_path / "mlflow.db").write_text("no database any more\n" * 100)
        attempt.log_metrics({"auc": 0.78})


def test_a_page_exists_only_where_a_server_shows_it(tracking: Tracking, tmp_path: Path) -> None:
    assert Attempt(tracking, "r1", "7").url is None
    server = Tracking("https://ada:hunter2@mlflow.example/", tmp_path)
    assert Attempt(server, "r1", "7").url == "https://mlflow.example/#/experiments/7/runs/r1"


def test_first_users_at_once_and_one_killed_before_them_end_with_one_sound_database(
    made_database: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    del made_database  # only so that MLflow is imported before the forks
    tracking = Tracking(f"sqlite:///{tmp_path / 'home' / 'mlflow.db'}", tmp_path / "artifacts")

    def train(model: str) -> None:
        with tracking.attempt(model, **asked()):
            pass

    killed = start_process(train, "first", kill_at="tracking.database")
    killed.join(60)
    assert killed.exitcode == -signal.SIGKILL
    assert not (tmp_path / "home" / "mlflow.db").exists()
    processes = [start_process(train, "second"), start_process(train, "second")]
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    assert [run.info.status for run in runs_of(tracking)] == ["FINISHED", "FINISHED"]
    assert {path.name for path in (tmp_path / "home").iterdir()} == {"mlflow.db", "mlflow.db.lock"}
    assert "INFO" not in capfd.readouterr().err


def test_naming_the_tracking_does_not_import_mlflow() -> None:
    program = (
        "import sys; from pathlib import Path; from ml_platform.tracking.mlflow import Tracking\n"
        "Tracking('sqlite:///x.db', Path('a')); sys.exit('mlflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@contextmanager
def _server_answering(status: int) -> Iterator[tuple[str, list[str]]]:
    requests: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requests.append(self.path)
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_POST = do_GET

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", requests
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
