"""A training job: one JSON file that says all a worker needs to know, so training can happen in any process or pod.

Invariants: the file is versioned and read strictly (an unknown field or a newer version is refused, never guessed at);
`digest()` names what decides the artifact, so it leaves out where things lie and how long they may take. The same
digest means the same bundle, bit for bit. Whoever changes what the worker makes of a job raises FORMAT_VERSION.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from ml_platform.errors import PlatformError
from ml_platform.training.spec import ModelSpec, Reproducible, Trainer

FORMAT_VERSION = 3
CHECKPOINT_SECONDS = 60
STOPPED = 143
"""Exit status of a worker that was told to stop by SIGTERM, and did, as a shell names it."""
_PLACES_AND_LIMITS = ("data_path", "catalogue_path", "output", "deadline_seconds", "checkpoint_seconds")


class JobUnreadable(PlatformError):
    """The job file is missing, damaged, or written by another version of the platform."""


class TrainingFailed(PlatformError):
    """Training stopped with a known cause (bad data, an exploding loss, a deadline); no bundle was left behind."""


class DeviceMissing(TrainingFailed):
    """The job asks for a GPU, and the worker sees none or too few."""


class OutOfMemory(TrainingFailed):
    """The training needs more memory than the device, or the machine, has; the same again would fail again."""


class TrainingInterrupted(PlatformError):
    """The worker was told to stop (SIGTERM) and did; the same job goes on from its checkpoint."""


@dataclass(frozen=True)
class TrainingJob:
    """One training, or with `rehearsal_rounds` one rehearsal of it: only those first rounds, and only their digest.

    `data_digest` identifies the training set, `data_sha256` is of the file's bytes and is checked by the worker.
    `output` is the bundle's folder; of a rehearsal, the JSON file to write. A model that ranks products also reads a
    catalogue. `device` is `cpu` or `cuda`. `processes` share the training, one a GPU on `cuda`, with `threads` each.
    """

    model: str
    spec_digest: str
    data_digest: str
    data_path: str
    data_sha256: str
    catalogue_path: str | None
    catalogue_sha256: str | None
    output: str
    features: tuple[str, ...]
    trainer: Trainer
    seed: int
    threads: int
    device: str
    processes: int
    deadline_seconds: int
    checkpoint_seconds: int
    reproducible_rounds: int
    rehearsal_rounds: int | None = None

    @classmethod
    def from_spec(
        cls,
        spec: ModelSpec,
        data_path: Path,
        data_digest: str,
        output: Path,
        rehearsal_rounds: int | None = None,
        catalogue_path: Path | None = None,
    ) -> "TrainingJob":
        """The job that trains `spec` on the training set at `data_path`; files are read once, for their SHA-256."""
        return cls(
            model=spec.name,
            spec_digest=spec.digest(),
            data_digest=data_digest,
            data_path=str(Path(data_path).absolute()),
            data_sha256=file_sha256(data_path),
            catalogue_path=None if catalogue_path is None else str(Path(catalogue_path).absolute()),
            catalogue_sha256=None if catalogue_path is None else file_sha256(catalogue_path),
            output=str(Path(output).absolute()),
            features=spec.features,
            trainer=spec.trainer,
            seed=spec.seed,
            threads=max(1, spec.resources.cpu // spec.resources.processes),
            device="cuda" if spec.resources.gpus else "cpu",
            processes=spec.resources.processes,
            deadline_seconds=spec.resources.deadline_seconds,
            checkpoint_seconds=CHECKPOINT_SECONDS,
            reproducible_rounds=next(gate.rounds for gate in spec.gates if isinstance(gate, Reproducible)),
            rehearsal_rounds=rehearsal_rounds,
        )

    @property
    def checkpoints(self) -> Path:
        """The folder of the training's checkpoints: beside its bundle, hidden, gone once the bundle is there."""
        output = Path(self.output)
        return output.with_name(f".{output.name}.checkpoints")

    def digest(self) -> str:
        """SHA-256 of everything that decides the artifact."""
        stated: dict[str, Any] = {"format_version": FORMAT_VERSION, **asdict(self)}
        for irrelevant in _PLACES_AND_LIMITS:
            del stated[irrelevant]
        return hashlib.sha256(json.dumps(stated, sort_keys=True).encode()).hexdigest()

    def parameters(self) -> dict[str, object]:
        """What tracking shows of the job: the trainer's parameters and what else decides the artifact."""
        return {
            **self.trainer.params,
            "trainer": self.trainer.kind,
            "rounds": self.trainer.rounds,
            "early_stopping_rounds": self.trainer.early_stopping_rounds,
            "features": len(self.features),
            "seed": self.seed,
            "threads": self.threads,
            "processes": self.processes,
            "device": self.device,
            "spec_digest": self.spec_digest,
        }

    def rehearsed(self) -> "TrainingJob":
        """The full training that this job rehearses."""
        return replace(self, rehearsal_rounds=None)


def column_of(reference: str) -> str:
    """`table:column` as training sets and bundles name the column: `table__column`."""
    return reference.replace(":", "__")


def file_sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_job(job: TrainingJob, path: Path) -> Path:
    """Writes the job file; parent folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"format_version": FORMAT_VERSION, **asdict(job)}, indent=2, sort_keys=True) + "\n")
    return path


def read_job(path: Path) -> TrainingJob:
    """Reads a job file strictly. Raises JobUnreadable."""
    try:
        stated = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise JobUnreadable(f"the job file cannot be read: {error}", where=path) from error
    version = stated.pop("format_version", None) if isinstance(stated, dict) else None
    if version != FORMAT_VERSION:
        raise JobUnreadable(
            f"the job file has format version {version!r}, this worker reads {FORMAT_VERSION}",
            where=path,
            next_step="run the worker from the same version of the platform as wrote the job",
        )
    _demand_fields(stated, TrainingJob, path)
    _demand_fields(stated["trainer"], Trainer, path)
    return TrainingJob(**{**stated, "features": tuple(stated["features"]), "trainer": Trainer(**stated["trainer"])})


def _demand_fields(stated: Any, kind: type, path: Path) -> None:
    expected = {field.name for field in fields(kind)}
    given = set(stated) if isinstance(stated, dict) else set()
    if given != expected:
        raise JobUnreadable(
            f"{kind.__name__} has missing or unknown fields: {', '.join(sorted(given ^ expected))}",
            where=path,
            next_step="write the job with write_job",
        )
