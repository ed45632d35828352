"""One MLflow run per training attempt, with the true status.

Invariants:
- `attempt` opens a run of its own and closes it itself: FINISHED, FAILED on an exception, KILLED on an interrupt.
  Nothing global is touched (no active run, no current experiment), so steps in parallel processes cannot mix.
- A process killed outright leaves its run RUNNING; `close_abandoned` closes such runs once their Dagster run is over.
- MLflow is never the only place of anything: bundles and the ledger hold the truth. When it cannot be reached, a
  TrackingUnavailable says so within seconds.
- A SQLite database is made aside under a lock and moved into place, so that two first users cannot spoil it and a
  killed one leaves nothing half-made.

MLflow is imported at first use: the import costs seconds.
"""

import fcntl
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

from ml_platform.errors import PlatformError
from ml_platform.killpoints import kill_point
from ml_platform.redaction import redact, redact_text
from ml_platform.registry.ledger import Ledger
from ml_platform.settings import REPOSITORY
from ml_platform.tracking.commit import git_commit
from ml_platform.tracking.projection import Projection, project_ledger, read_alias

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

Status = Literal["FINISHED", "FAILED", "KILLED"]

MLFLOW_DEFAULTS: Mapping[str, str] = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",  # else every first use tells of its tables
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # MLflow's own defaults wait minutes for a server that is down. Whoever needs other values sets the variables.
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER": "false",
}
METRICS_PER_REQUEST = 1000  # MLflow's limits for one log_batch
PARAMS_PER_REQUEST = 100
LONGEST_CAUSE = 300  # characters of a cause in an error or a tag


class TrackingUnavailable(PlatformError):
    """MLflow cannot be reached, or did not do what it was asked."""


class Tracking:
    """MLflow at `uri`: a server, or a database (`sqlite:///path`) without one.

    `artifact_root` is the folder of artifacts where there is no server; a server decides that by itself. Sets MLflow's
    environment variables of MLFLOW_DEFAULTS where they are not set.
    """

    def __init__(self, uri: str, artifact_root: Path) -> None:
        for name, value in MLFLOW_DEFAULTS.items():
            os.environ.setdefault(name, value)
        self.uri = uri
        self.where = redact_text(uri)
        self._artifact_root = artifact_root
        self.served = uri.startswith(("http://", "https://"))

    @contextmanager
    def attempt(
        self,
        model: str,
        *,
        dagster_run_id: str,
        data_digest: str,
        params: Mapping[str, object],
        tags: Mapping[str, str] | None = None,
    ) -> Iterator["Attempt"]:
        """One training attempt of a model as one MLflow run, in the experiment of the model's name.

        Raises TrackingUnavailable before the body when MLflow is down. An error of the body is raised as it is, also
        when MLflow cannot be told of it any more.
        """
        stated = {
            "model": model,
            "dagster_run_id": dagster_run_id,
            "data_digest": data_digest,
            "mlflow.source.git.commit": git_commit(REPOSITORY),
            **(tags or {}),
        }
        with self.reported("starting a run"):
            run = self.client.create_run(
                self._experiment(model),
                run_name=f"{model} {dagster_run_id[:8]}",
                tags={name: redact(name, value) for name, value in stated.items()},
            )
        attempt = Attempt(self, run.info.run_id, run.info.experiment_id)
        try:
            attempt.log_params(params)
            yield attempt
        except BaseException as error:
            # What is no Exception (KeyboardInterrupt, SystemExit, Dagster's interrupt) stops a run from outside.
            try:
                attempt.tag("failure", f"{type(error).__name__}: {error}")
                attempt.close("FAILED" if isinstance(error, Exception) else "KILLED")
            except TrackingUnavailable as unavailable:
                error.add_note(f"MLflow could not be told: {unavailable}")
            raise
        attempt.close("FINISHED")

    def resume(self, run_id: str) -> "Attempt":
        """An attempt of the past, to log more to it (its evaluation); its status stays."""
        with self.reported(f"reading run {run_id}"):
            return Attempt(self, run_id, self.client.get_run(run_id).info.experiment_id)

    def close_abandoned(self, is_over: Callable[[str], bool]) -> list[str]:
        """Closes as KILLED the runs still RUNNING whose Dagster run `is_over` (given its id); returns their ids."""
        with self.reported("closing abandoned runs"):
            experiments = [experiment.experiment_id for experiment in self.client.search_experiments()]
            running = self.client.search_runs(experiments, "attributes.status = 'RUNNING'")
            abandoned = [
                run.info.run_id
                for run in running
                if "dagster_run_id" in run.data.tags and is_over(run.data.tags["dagster_run_id"])
            ]
            for run_id in abandoned:
                self.client.set_terminated(run_id, "KILLED")
        return abandoned

    def project(self, ledger: Ledger, model: str) -> Projection:
        """Makes MLflow's registry say of a model what the ledger says; a second time changes nothing."""
        with self.reported(f"mirroring the ledger of {model}"), self._alone():
            return project_ledger(self.client, ledger, model)

    def alias(self, model: str) -> str | None:
        """Where MLflow's alias of a model stands, by MLflow's own number; None without one. Changes nothing."""
        with self.reported(f"reading the alias of {model}"):
            return read_alias(self.client, model)

    @cached_property
    def client(self) -> "MlflowClient":
        from mlflow.tracking import MlflowClient

        self._make_database()
        return MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)

    @contextmanager
    def reported(self, doing: str) -> Iterator[None]:
        """Turns whatever MLflow raises into TrackingUnavailable."""
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        try:
            yield
        except (MlflowException, SQLAlchemyError, OSError) as error:
            cause = redact_text(str(error).strip().split("\n")[0])[:LONGEST_CAUSE]
            remedy = "start the MLflow server or correct MLFLOW_TRACKING_URI"
            if not self.served:
                remedy = f"check the database (room, rights, `mlflow db upgrade {self.where}`)"
            raise TrackingUnavailable(
                f"MLflow failed while {doing}: {cause}",
                where=self.where,
                next_step=f"{remedy}, then run again: bundles and the ledger are kept without it",
            ) from error

    def _experiment(self, model: str) -> str:
        from mlflow.exceptions import MlflowException

        known = self.client.get_experiment_by_name(model)
        if known is None:
            location = None if self.served else f"{self._artifact_root.absolute().as_uri()}/{model}"
            try:
                return self.client.create_experiment(model, artifact_location=location)
            except MlflowException:
                known = self.client.get_experiment_by_name(model)  # made by another process since
                if known is None:
                    raise
        return known.experiment_id

    @cached_property
    def _database_file(self) -> Path | None:
        from sqlalchemy import make_url

        database = make_url(self.uri).database if self.uri.startswith("sqlite:") else None
        return Path(database).absolute() if database else None

    def _make_database(self) -> None:
        path = self._database_file
        if path is None or path.exists():
            return
        with self._alone():
            if path.exists():
                return
            from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

            # A folder, so that what a killed predecessor left, its journal too, is gone before a new one begins.
            aside = path.with_name(f"{path.name}.aside")
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir()
            store = SqlAlchemyStore(f"sqlite:///{aside / path.name}", self._artifact_root.absolute().as_uri())
            store.engine.dispose()
            kill_point("tracking.database")
            os.replace(aside / path.name, path)
            shutil.rmtree(aside)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keeps other processes of this machine out, where MLflow is a SQLite file; the lock dies with its holder."""
        if self._database_file is None:
            yield
            return
        lock = self._database_file.with_name(f"{self._database_file.name}.lock")
        lock.parent.mkdir(parents=True, exist_ok=True)
        with lock.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


class Attempt:
    """One MLflow run. Every method raises TrackingUnavailable when MLflow cannot take what it is given.

    `url` is the run's page, None where no server shows one.
    """

    def __init__(self, tracking: Tracking, run_id: str, experiment_id: str) -> None:
        self._tracking = tracking
        self.run_id = run_id
        server = re.sub("//[^/@]*@", "//", tracking.uri).rstrip("/")
        self.url = f"{server}/#/experiments/{experiment_id}/runs/{run_id}" if tracking.served else None

    def log_params(self, params: Mapping[str, object]) -> None:
        """Parameters as text; what looks secret is redacted."""
        from mlflow.entities import Param

        stated = [Param(name, redact(name, value)) for name, value in params.items()]
        with self._tracking.reported("logging parameters"):
            for start in range(0, len(stated), PARAMS_PER_REQUEST):
                self._tracking.client.log_batch(self.run_id, params=stated[start : start + PARAMS_PER_REQUEST])

    def log_metrics(self, metrics: Mapping[str, float]) -> None:
        """Single figures by name."""
        self.log_curves({name: [value] for name, value in metrics.items()})

    def log_progress(self, message: Mapping[str, Any]) -> None:
        """The figures of a worker's progress message under `live/`, by its step, or its round where it names none."""
        from mlflow.entities import Metric

        now, step = int(time.time() * 1000), int(message.get("step", message["round"]))
        figures = {name: value for name, value in message.items() if isinstance(value, int | float)}
        points = [Metric(f"live/{name}", float(value), now, step) for name, value in figures.items()]
        with self._tracking.reported("logging progress"):
            self._tracking.client.log_batch(self.run_id, metrics=points)

    def log_curves(self, curves: Mapping[str, Sequence[float]]) -> None:
        """Figures by name, each with one value per step, from step 0 on."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        points = [
            Metric(name, float(value), now, step)
            for name, values in curves.items()
            for step, value in enumerate(values)
        ]
        with self._tracking.reported("logging metrics"):
            for start in range(0, len(points), METRICS_PER_REQUEST):
                self._tracking.client.log_batch(self.run_id, metrics=points[start : start + METRICS_PER_REQUEST])

    def log_plots(self, plots: Mapping[str, bytes]) -> None:
        """PNG pictures by name (without extension), under `plots/`."""
        with TemporaryDirectory() as folder:
            for name, picture in plots.items():
                Path(folder, f"{name}.png").write_bytes(picture)
            self.log_files(Path(folder), "plots")

    def log_files(self, folder: Path, place: str) -> None:
        """A folder's files as artifacts under `place`; a bundle goes under `bundle`, where the registry points to."""
        with self._tracking.reported(f"storing {place}"):
            self._tracking.client.log_artifacts(self.run_id, str(folder), place)

    def tag(self, name: str, value: str) -> None:
        with self._tracking.reported("tagging"):
            self._tracking.client.set_tag(self.run_id, name, redact(name, value)[:LONGEST_CAUSE])

    def close(self, status: Status) -> None:
        with self._tracking.reported("closing the run"):
            self._tracking.client.set_terminated(self.run_id, status)
