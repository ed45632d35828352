"""Checkpoints: what a killed training goes on from, atomic on disk and fenced against a worker that should be dead.

A checkpoint is a folder of plain files with a manifest of their SHA-256 digests. Invariants: the files are written
first, the manifest last, and the folder is renamed into sight, so one is there whole or not at all; it is verified as
it is read, and one that is torn, or of another job, is passed over for the next older; the newest two stay.

Fencing: every worker that starts claims the next token, a number that only rises (a file made exclusively), and may
commit only while its own is the newest. A zombie, whose place another has taken, raises instead of writing.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ml_platform.errors import PlatformError
from ml_platform.killpoints import kill_point

FORMAT_VERSION = 1
KEPT = 2
MANIFEST = "manifest.json"
_CLAIMS, _PREFIX = "claims", "step-"


class WorkerFenced(PlatformError):
    """Another worker has taken over this training; what this one would write is not wanted any more."""


class _Torn(Exception):
    """Why a checkpoint is passed over."""


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of one job, by its digest, as the worker with `token` may write them."""

    folder: Path
    job_digest: str
    token: int

    @classmethod
    def claim(cls, folder: Path, job_digest: str) -> "Checkpoints":
        """Takes the training over: from now on no earlier worker can commit."""
        claims = folder / _CLAIMS
        claims.mkdir(parents=True, exist_ok=True)
        while True:
            token = _newest_token(folder) + 1
            try:
                os.close(os.open(claims / f"{token:08d}", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            except FileExistsError:
                continue
            return cls(folder, job_digest, token)

    def demand_newest(self) -> None:
        """Raises WorkerFenced when a later worker has claimed the training, or it is over."""
        newest = _newest_token(self.folder)
        if newest != self.token:
            raise WorkerFenced(
                f"this worker holds token {self.token}, the newest is {newest}: another one trains this job",
                where=self.folder,
                next_step="nothing: the other worker ends the training",
            )

    def save(self, step: int, files: Mapping[str, bytes]) -> Path:
        """Commits the state after `step` steps. Raises WorkerFenced."""
        self.demand_newest()
        manifest = {
            "format_version": FORMAT_VERSION,
            "job_digest": self.job_digest,
            "files": {name: hashlib.sha256(content).hexdigest() for name, content in sorted(files.items())},
        }
        aside = Path(tempfile.mkdtemp(prefix=".", suffix=".aside", dir=self.folder))
        try:
            for name, content in files.items():
                _write_durably(aside / name, content)
            kill_point("checkpoint.files_written")
            _write_durably(aside / MANIFEST, (json.dumps(manifest, indent=1) + "\n").encode())
            kill_point("checkpoint.manifest_written")
            self.demand_newest()
            there = self.folder / f"{_PREFIX}{step:010d}-{self.token:08d}"
            shutil.rmtree(there, ignore_errors=True)
            aside.rename(there)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        kill_point("checkpoint.visible")
        for old in _newest_first(self.folder)[KEPT:]:
            shutil.rmtree(old, ignore_errors=True)
        return there

    def discard(self) -> None:
        """Removes everything: the training is over."""
        shutil.rmtree(self.folder, ignore_errors=True)


def newest_intact(folder: Path, job_digest: str, say: Callable[[str], object]) -> Mapping[str, bytes] | None:
    """The files of the newest checkpoint that verifies, None without one; `say` is told of those passed over."""
    for path in _newest_first(folder):
        try:
            return _read(path, job_digest)
        except _Torn as fault:
            say(f"the checkpoint {path.name} is passed over: {fault}")
    return None


def _read(path: Path, job_digest: str) -> Mapping[str, bytes]:
    try:
        manifest = json.loads((path / MANIFEST).read_bytes())
        if manifest["format_version"] != FORMAT_VERSION or manifest["job_digest"] != job_digest:
            raise _Torn("it is of another job, or of another version of the platform")
        files = {name: (path / name).read_bytes() for name in manifest["files"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _Torn(f"it cannot be read ({error!r})") from error
    for name, content in files.items():
        if hashlib.sha256(content).hexdigest() != manifest["files"][name]:
            raise _Torn(f"{name} differs from its manifest")
    return files


def _newest_first(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"{_PREFIX}*"), reverse=True)


def _newest_token(folder: Path) -> int:
    return max((int(claim.name) for claim in (folder / _CLAIMS).glob("*")), default=0)


def _write_durably(path: Path, content: bytes) -> None:
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
