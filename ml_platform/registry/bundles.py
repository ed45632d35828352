"""A bundle: one trained model as a folder of plain files that either verifies whole or is not loaded at all.

Invariants: a bundle holds exactly the files named here, and none of them can carry code (UBJ, safetensors,
JSON, Parquet: no pickles); its manifest gives each file's SHA-256 and is written last; the folder is made aside and
renamed into place, so a bundle is either not there or whole. Loading denies by default: a file that is unknown,
missing, a link, or differs by one bit refuses the bundle, and what is used is checked again as it is read. Nothing in a
bundle depends on the clock or on where it lies: the same training gives the same `digest`, the model's identity.

A classifier's bundle scores rows (`predict`), a ranker's gives lists of products (`rank`); each family has its files.

Raise FORMAT_VERSION when the files or their meaning change, and keep reading the older versions. Version 2 added the
reference sketch; a bundle of version 1 scores as ever, and is only not watched for drift. Version 3 added rankers, and
names the family in the manifest; earlier bundles are classifiers.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ml_platform.errors import PlatformError
from ml_platform.killpoints import kill_point
from ml_platform.monitoring.sketch import Sketch
from ml_platform.ranking.baskets import Catalogue, Queries
from ml_platform.training.calibration import Calibration
from ml_platform.training.job import column_of
from ml_platform.training.trainers import Family, classifier_module, ranker_module

FORMAT_VERSION = 3
MANIFEST = "manifest.json"
MODEL, CALIBRATION, FEATURES, REPORT = "model.ubj", "calibration.json", "features.json", "report.json"
CURVES, IMPORTANCE, EVALUATION_SCORES = "curves.parquet", "importance.json", "evaluation_scores.parquet"
REFERENCE = "reference.json"
WEIGHTS, VOCABULARY, EVALUATION_LISTS = "model.safetensors", "vocabulary.json", "evaluation_lists.parquet"
_FILES_OF_1 = frozenset({MODEL, CALIBRATION, FEATURES, REPORT, CURVES, IMPORTANCE, EVALUATION_SCORES})
FILES = _FILES_OF_1 | {REFERENCE}
RANKER_FILES = frozenset({WEIGHTS, VOCABULARY, FEATURES, REPORT, CURVES, IMPORTANCE, EVALUATION_LISTS, REFERENCE})
FILES_BY_FAMILY: Mapping[Family, frozenset[str]] = {"classifier": FILES, "ranker": RANKER_FILES}
FILES_BY_VERSION: Mapping[int, Mapping[Family, frozenset[str]]] = {
    1: {"classifier": _FILES_OF_1},
    2: {"classifier": FILES},
    3: FILES_BY_FAMILY,
}


class BundleMissing(PlatformError):
    """There is no bundle at the path."""


class BundleCorrupt(PlatformError):
    """What lies at the path is not the bundle its manifest describes; nothing of it is loaded."""


class BundleTooNew(PlatformError):
    """The bundle was written in a newer format than this version of the platform reads."""


class BundleConflict(PlatformError):
    """Another bundle already lies at the path; bundles are never overwritten."""


class BundleNotWritten(PlatformError):
    """The files could not be written (a full disk, no permission); nothing is left at the path."""


class ReferenceMissing(PlatformError):
    """The bundle was written before bundles held a reference sketch."""


class WrongFamily(PlatformError):
    """A classifier was asked for lists, or a ranker for scores of rows."""


class FeaturesDoNotFit(PlatformError):
    """The matrix given to predict has another shape, or values the model was never trained to read."""


@dataclass(frozen=True)
class Bundle:
    """A verified bundle. `files` maps each file's name to its SHA-256; `digest` is over all of them."""

    path: Path
    digest: str
    files: Mapping[str, str]
    family: Family = "classifier"

    def read(self, name: str) -> bytes:
        """The bytes of one file, verified as they are read. Raises BundleCorrupt."""
        content = _content(self.path / name)
        if hashlib.sha256(content).hexdigest() != self.files[name]:
            raise _corrupt(self.path, f"{name} differs from the manifest")
        return content

    def json(self, name: str) -> Any:
        """The parsed content of one JSON file."""
        return json.loads(self.read(name))

    @cached_property
    def report(self) -> dict[str, Any]:
        """What the training says of itself: model, trainer, digests, rounds, losses, rows by role, rehearsal."""
        return self.json(REPORT)

    @cached_property
    def features(self) -> tuple[str, ...]:
        """References (`table:column`) of the model's features, in the order of the matrix's columns."""
        return tuple(self.json(FEATURES)["features"])

    @property
    def columns(self) -> tuple[str, ...]:
        """The same features as training sets name their columns: `table__column`."""
        return tuple(column_of(reference) for reference in self.features)

    @cached_property
    def calibration(self) -> Calibration:
        try:
            return Calibration.from_json(self.json(CALIBRATION))
        except (KeyError, TypeError, ValueError) as error:
            raise _corrupt(self.path, f"{CALIBRATION} is not a calibration: {error}") from error

    @cached_property
    def importance(self) -> dict[str, float]:
        """What each feature (by reference) takes off the loss, the greatest first: a classifier's total gain, of a
        ranker the rise of the stop loss without it."""
        return {str(reference): float(gain) for reference, gain in self.json(IMPORTANCE)["gain"].items()}

    def reference(self) -> Sketch:
        """How features and calibrated scores were spread over the training rows. Raises ReferenceMissing for a bundle
        of version 1, SketchUnreadable for a sketch of another version."""
        if REFERENCE not in self.files:
            raise ReferenceMissing(
                "the bundle has no reference sketch: it was trained by an earlier release",
                where=self.path,
                next_step="train again",
            )
        return Sketch.from_json(self.json(REFERENCE))

    def curves(self) -> dict[str, list[float]]:
        """Each learning curve by name, one value a round."""
        from pyarrow import BufferReader, parquet

        table = parquet.read_table(BufferReader(self.read(CURVES)))
        return {name: table[name].to_pylist() for name in table.column_names if name != "round"}

    @cached_property
    def vocabulary(self) -> dict[str, Any]:
        """What a ranker's weights are numbered by. Raises WrongFamily."""
        self._demand("ranker")
        return self.json(VOCABULARY)

    @cached_property
    def _model(self) -> bytes:
        return self.read(MODEL if self.family == "classifier" else WEIGHTS)

    def _demand(self, family: Family) -> None:
        if self.family != family:
            raise WrongFamily(
                f"the bundle is a {self.family}'s, asked for is what a {family} does",
                where=self.path,
                next_step="use predict for a classifier, rank and embeddings for a ranker",
            )

    def predict_raw(self, features: np.ndarray) -> np.ndarray:
        """The model's scores before calibration: [n_rows] float32 in [0, 1], for features [n_rows, n_features] float32.

        NaN is a missing value. Raises FeaturesDoNotFit, or WrongFamily for a ranker.
        """
        self._demand("classifier")
        if features.ndim != 2 or features.shape[1] != len(self.features) or features.dtype != np.float32:
            raise FeaturesDoNotFit(
                f"the model takes float32 [n_rows, {len(self.features)}], not {features.dtype} {list(features.shape)}",
                where=self.path,
                next_step="build the matrix with training.data.feature_matrix(table, bundle.columns)",
            )
        if np.isinf(features).any():
            column = self.features[int(np.isinf(features).any(axis=0).argmax())]
            raise FeaturesDoNotFit("a feature is infinite", where=column, next_step="mend the feature's SQL")
        if not len(features):
            return np.empty(0, dtype=np.float32)
        return classifier_module(self._kind).predict(self._model, features)

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Calibrated probabilities: [n_rows] float64 in [0, 1], for features [n_rows, n_features] float32."""
        raw = self.predict_raw(features)
        return self.calibration.apply(raw)

    def rank(self, queries: Queries, catalogue: Catalogue, k: int) -> tuple[np.ndarray, np.ndarray]:
        """(products int64 [n, k], best first, padded with -1; scores float32 [n, k], each product's expected share of
        the next basket) of queries of the catalogue's Monday. Raises WrongFamily for a classifier."""
        return ranker_module(self._kind).rank(self._model, self.vocabulary, queries, catalogue, k)

    def embeddings(self, queries: Queries, catalogue: Catalogue) -> tuple[np.ndarray, np.ndarray]:
        """(items float32 [k, d] of the catalogue, states float32 [n, d] of the queries' households). Raises
        WrongFamily for a classifier."""
        return ranker_module(self._kind).embeddings(self._model, self.vocabulary, queries, catalogue)

    @property
    def _kind(self) -> str:
        return self.report["trainer"]["kind"]


def write_bundle(folder: Path, files: Mapping[str, bytes]) -> Bundle:
    """Writes the files as a bundle at `folder`, whole or not at all.

    The same content already there is left alone. Raises BundleConflict when something else is, BundleNotWritten when
    the disk refuses.
    """
    family = next((family for family, names in FILES_BY_FAMILY.items() if names == set(files)), None)
    if family is None:
        expected = " or ".join(str(sorted(names)) for names in FILES_BY_FAMILY.values())
        raise BundleNotWritten(f"a bundle has exactly the files {expected}, given {sorted(files)}", where=folder)
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    manifest = {
        "format_version": FORMAT_VERSION,
        "family": family,
        "digest": _digest(digests),
        "files": {name: {"sha256": digests[name], "bytes": len(files[name])} for name in sorted(files)},
    }
    aside: Path | None = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".aside", dir=folder.parent))
        aside.chmod(0o755)
        for name, content in files.items():
            _write_durably(aside / name, content)
        kill_point("bundle.files_written")
        _write_durably(aside / MANIFEST, (json.dumps(manifest, indent=2, sort_keys=True) + "\n").encode())
        kill_point("bundle.manifest_written")
        if not folder.exists():
            aside.rename(folder)
            kill_point("bundle.visible")
            return open_bundle(folder)
    except OSError as error:
        if not folder.exists():
            raise BundleNotWritten(
                f"the bundle could not be written: {error.strerror}",
                where=folder,
                next_step="make room or mend the permissions, then train again",
            ) from error
    finally:
        if aside is not None:
            shutil.rmtree(aside, ignore_errors=True)
    there = open_bundle(folder)
    if there.digest != manifest["digest"]:
        raise BundleConflict(
            f"another bundle ({there.digest[:12]}) already lies here; this one is {manifest['digest'][:12]}",
            where=folder,
            next_step="give the new bundle a folder of its own",
        )
    return there


def open_bundle(path: Path) -> Bundle:
    """The bundle at `path`, every byte of it verified. Raises BundleMissing, BundleTooNew or BundleCorrupt."""
    if not path.is_dir() or path.is_symlink():
        raise BundleMissing("there is no bundle", where=path, next_step="materialise the model's candidate")
    there = {entry.name for entry in os.scandir(path)}
    if MANIFEST not in there:
        raise _corrupt(path, f"it has no {MANIFEST}")
    try:
        manifest = json.loads(_content(path / MANIFEST))
        version, digest = int(manifest["format_version"]), str(manifest["digest"])
        if version > FORMAT_VERSION:
            raise BundleTooNew(
                f"the bundle has format version {version}, this platform reads up to {FORMAT_VERSION}",
                where=path,
                next_step="upgrade the platform",
            )
        family = manifest.get("family", "classifier")
        stated = {str(name): (str(file["sha256"]), int(file["bytes"])) for name, file in manifest["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _corrupt(path, f"its manifest cannot be read: {error!r}") from error
    expected = FILES_BY_VERSION.get(version, {}).get(family)
    if expected is None or set(stated) != expected:
        raise _corrupt(path, f"its manifest names the files {sorted(stated)} of a {family} in format version {version}")
    if there != expected | {MANIFEST}:
        raise _corrupt(path, f"files are missing or unknown: {sorted(there ^ (expected | {MANIFEST}))}")
    for name, (sha256, size) in stated.items():
        content = _content(path / name)
        if len(content) != size or hashlib.sha256(content).hexdigest() != sha256:
            raise _corrupt(path, f"{name} differs from the manifest")
    files = {name: sha256 for name, (sha256, _) in stated.items()}
    if digest != _digest(files):
        raise _corrupt(path, "its digest is not that of its files")
    return Bundle(path, digest, files, family)


def set_aside(path: Path) -> Path:
    """Moves what lies at `path` to a hidden name that nobody reads, for a look; returns that name."""
    graveyard = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".corrupt", dir=path.parent))
    return path.rename(graveyard / path.name)


def _digest(files: Mapping[str, str]) -> str:
    return hashlib.sha256("".join(f"{name} {files[name]}\n" for name in sorted(files)).encode()).hexdigest()


def _content(path: Path) -> bytes:
    """Bytes of a regular file. A link, a folder or a device in a bundle is refused."""
    if path.is_symlink() or not path.is_file():
        raise _corrupt(path.parent, f"{path.name} is not a regular file")
    return path.read_bytes()


def _write_durably(path: Path, content: bytes) -> None:
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _corrupt(path: Path, what: str) -> BundleCorrupt:
    return BundleCorrupt(f"the bundle is refused: {what}", where=path, next_step="set the folder aside and train again")
