"""The trainings that were not made at the time: one bundle a cutoff, as weekly retraining would have had it.

Invariants: each training reads only what was known before its cutoff, through the code that trains the real versions;
a version of the ledger with the same cutoff and declaration *is* that training and is not made again; what was trained
is kept under its job's digest beside a note of its inputs, so a second judgement trains nothing, and changed labels,
features or declarations train anew. Training sets are built one at a time and removed once learnt from; at most
WORKERS trainings run beside each other.
"""

import hashlib
import json
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Literal

import polars as pl

from ml_platform.errors import ConfigurationError
from ml_platform.features.pit import AS_OF
from ml_platform.features.store import FeatureStore
from ml_platform.lake import PartitionedTable, parquet_bytes, write_atomically
from ml_platform.registry.bundles import Bundle, BundleCorrupt, BundleMissing, open_bundle
from ml_platform.registry.records import ModelVersion
from ml_platform.training.compute import run_worker
from ml_platform.training.job import TrainingFailed, TrainingJob, write_job
from ml_platform.training.sets import TrainingSetUnusable, build_training_set
from ml_platform.training.spec import ModelSpec
from ml_platform.warehouse.base import Warehouse

WORKERS = 2
NOTE_FORMAT_VERSION = 1
Came = Literal["in_ledger", "kept", "trained", "untrained"]


@dataclass(frozen=True)
class Training:
    """How the training of one cutoff came about. `bundle` None: it could not be trained, for `reason`."""

    cutoff: date
    came: Came
    seconds: float
    bundle: Bundle | None = None
    reason: str = ""


@dataclass(frozen=True)
class Workshop:
    """Where trainings are made up for: the spec, what it learns from, and the `scratch` folder that keeps bundles."""

    spec: ModelSpec
    store: FeatureStore
    warehouse: Warehouse
    scratch: Path
    _one_build: threading.Lock = field(default_factory=threading.Lock, compare=False)

    def train_all(
        self, cutoffs: Sequence[date], versions: Sequence[ModelVersion], tell: Callable[[Training], object]
    ) -> Mapping[date, Training]:
        """The training of every cutoff, in time order; `tell` hears of each as it is there, from this thread.

        What cannot be trained for a cause of its own (too few matured Mondays, one class) says so and is no error.
        """
        known = self._in_ledger(versions)
        made: dict[date, Training] = {}
        with ThreadPoolExecutor(WORKERS) as pool:
            waiting: dict[date, Future[Training]] = {
                cutoff: pool.submit(self._train, cutoff) for cutoff in cutoffs if cutoff not in known
            }
            try:
                for cutoff in sorted(cutoffs):
                    made[cutoff] = known[cutoff] if cutoff in known else waiting[cutoff].result()
                    tell(made[cutoff])
            finally:
                pool.shutdown(cancel_futures=True)
        return made

    def _in_ledger(self, versions: Sequence[ModelVersion]) -> dict[date, Training]:
        """What the platform itself trained of this very declaration, the newest version of a cutoff."""
        found = {}
        for version in sorted(versions, key=lambda each: each.version):
            bundle = opened(version) if version.spec_digest == self.spec.digest() else None
            if bundle is not None:
                found[version.cutoff] = Training(version.cutoff, "in_ledger", 0.0, bundle)
        return found

    def _train(self, cutoff: date) -> Training:
        started = time.monotonic()
        try:
            mondays = list(self.spec.split.roles(cutoff, self.spec.label))
        except ConfigurationError as too_early:
            return Training(cutoff, "untrained", time.monotonic() - started, None, too_early.what)
        try:
            bundle, came = self._bundle(cutoff, mondays)
        except (TrainingFailed, TrainingSetUnusable) as error:
            return Training(cutoff, "untrained", time.monotonic() - started, None, _reason(error.what))
        return Training(cutoff, came, time.monotonic() - started, bundle)

    def _bundle(self, cutoff: date, mondays: list[date]) -> tuple[Bundle, Came]:
        self.scratch.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{cutoff}.", dir=self.scratch) as aside:
            with self._one_build:
                labels = self._labels(cutoff, mondays)
                inputs = self._inputs_digest(labels, mondays)
                kept = self._kept(cutoff, inputs)
                if kept is not None:
                    return kept, "kept"
                sets = PartitionedTable(Path(aside), self.spec.name)
                built = build_training_set(self.spec, cutoff, labels, self.store, sets)
            job = TrainingJob.from_spec(self.spec, Path(str(built.published.path)), built.digest, self.scratch)
            job = replace(job, output=str(self.scratch / job.digest()[:16]))
            run_worker(write_job(job, Path(aside) / "job.json"), lambda line: None)
        self._note(cutoff, inputs, job)
        return open_bundle(Path(job.output)), "trained"

    def _labels(self, cutoff: date, mondays: list[date]) -> pl.DataFrame:
        asked = {"as_ofs": mondays, "cutoff": cutoff}
        with self.warehouse.session(f"labels of {self.spec.name} in hindsight") as session:
            return session.read(self.spec.label.sql.read_text(), asked).sort(AS_OF, *self.spec.entity)

    def _inputs_digest(self, labels: pl.DataFrame, mondays: list[date]) -> str:
        """SHA-256 over all that decides the training set: the declaration, the labels, the published features."""
        stated = [self.spec.digest(), hashlib.sha256(parquet_bytes(labels)).hexdigest()]
        for name in self.spec.tables:
            table = self.store.table(name)
            for monday in mondays:
                published = table.published(monday.isoformat())
                stated.append(f"{name} {monday} {published and published.digest}")
        return hashlib.sha256("\n".join(stated).encode()).hexdigest()

    def _kept(self, cutoff: date, inputs: str) -> Bundle | None:
        """The bundle that the same inputs gave before; None when they changed or nothing readable is kept."""
        try:
            note = json.loads(self._note_path(cutoff).read_bytes())
            same = (note["format_version"], note["inputs"]) == (NOTE_FORMAT_VERSION, inputs)
            return open_bundle(self.scratch / note["job"][:16]) if same else None
        except (OSError, ValueError, KeyError, TypeError, BundleMissing, BundleCorrupt):
            return None

    def _note(self, cutoff: date, inputs: str, job: TrainingJob) -> None:
        stated = {"format_version": NOTE_FORMAT_VERSION, "inputs": inputs, "job": job.digest()}
        write_atomically(self._note_path(cutoff), json.dumps(stated, indent=1).encode(), "hindsight.note")

    def _note_path(self, cutoff: date) -> Path:
        return self.scratch / "cutoffs" / f"{cutoff}.json"


def _reason(what: str) -> str:
    """A worker's complaint without its kind, and without the place, which is gone by now."""
    return what.removeprefix("TrainingFailed: ").partition(" [/")[0]


def opened(version: ModelVersion) -> Bundle | None:
    """The version's bundle; None where it no longer lies there whole."""
    try:
        return open_bundle(Path(version.bundle_uri))
    except (BundleMissing, BundleCorrupt):
        return None
