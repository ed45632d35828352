"""Bundles load whole and verified, or not at all."""

import hashlib
import json
import os
import resource
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from ml_platform.errors import PlatformError
from ml_platform.monitoring.sketch import build_sketch, count_into, model_columns
from ml_platform.registry.bundles import (
    FILES,
    FILES_BY_VERSION,
    FORMAT_VERSION,
    BundleConflict,
    BundleCorrupt,
    BundleMissing,
    BundleNotWritten,
    BundleTooNew,
    FeaturesDoNotFit,
    ReferenceMissing,
    open_bundle,
    write_bundle,
)
from ml_platform.training.data import read_role
from ml_platform_tests.training.conftest import ROWS_BY_ROLE, Trained

CONTENT = {name: f"content of {name}".encode() for name in FILES}


def rewrite_manifest(**changes: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "manifest.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return change


def make_link(folder: Path) -> None:
    (folder / "model.ubj").rename(folder.parent / "outside")
    (folder / "model.ubj").symlink_to(folder.parent / "outside")


@pytest.mark.parametrize(
    ("damage", "error", "words"),
    [
        (
            lambda folder: (folder / "model.ubj").write_bytes(b"content of model.ubJ"),
            BundleCorrupt,
            "model.ubj differs",
        ),
        (lambda folder: (folder / "model.ubj").unlink(), BundleCorrupt, "missing or unknown.*model.ubj"),
        (lambda folder: (folder / "model.pkl").write_bytes(b"x"), BundleCorrupt, "missing or unknown.*model.pkl"),
        (lambda folder: (folder / "sub").mkdir(), BundleCorrupt, "missing or unknown.*sub"),
        (make_link, BundleCorrupt, "not a regular file"),
        (lambda folder: (folder / "manifest.json").unlink(), BundleCorrupt, "no manifest.json"),
        (lambda folder: (folder / "manifest.json").write_text("{"), BundleCorrupt, "cannot be read"),
        (lambda folder: (folder / "manifest.json").write_text("[]"), BundleCorrupt, "cannot be read"),
        (rewrite_manifest(files={"../model.ubj": {"sha256": "", "bytes": 0}}), BundleCorrupt, "names the files"),
        (rewrite_manifest(files={}), BundleCorrupt, "names the files"),
        (rewrite_manifest(digest="0" * 64), BundleCorrupt, "digest is not that of its files"),
        (rewrite_manifest(format_version=FORMAT_VERSION + 1), BundleTooNew, "format version 4.*upgrade"),
        (rewrite_manifest(format_version=0), BundleCorrupt, "format version 0"),
        (lambda folder: shutil.rmtree(folder), BundleMissing, "no bundle"),
    ],
)
def test_what_does_not_verify_is_not_loaded(
    tmp_path: Path, damage: Callable[[Path], object], error: type[PlatformError], words: str
) -> None:
    folder = write_bundle(tmp_path / "bundle", CONTENT).path
    damage(folder)
    with pytest.raises(error, match=words):
        open_bundle(folder)


def test_a_file_changed_after_the_bundle_was_opened_is_not_used(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "bundle", CONTENT)
    (bundle.path / "model.ubj").write_bytes(b"swapped in later")
    with pytest.raises(BundleCorrupt, match=r"model\.ubj differs"):
        bundle.read("model.ubj")


def test_the_digest_is_of_the_content_and_not_of_the_place(tmp_path: Path) -> None:
    here, there = write_bundle(tmp_path / "a", CONTENT), write_bundle(tmp_path / "deep" / "b", CONTENT)
    other = write_bundle(tmp_path / "c", {**CONTENT, "report.json": b"{}"})
    assert here.digest == there.digest != other.digest
    assert {p.name for p in here.path.iterdir()} == FILES | {"manifest.json"}


def test_writing_the_same_bundle_twice_is_absorbed_and_another_is_refused(tmp_path: Path) -> None:
    first = write_bundle(tmp_path / "bundle", CONTENT)
    assert write_bundle(tmp_path / "bundle", CONTENT) == first
    with pytest.raises(BundleConflict, match="another bundle"):
        write_bundle(tmp_path / "bundle", {**CONTENT, "report.json": b"{}"})
    assert open_bundle(tmp_path / "bundle") == first
    assert os.listdir(tmp_path) == ["bundle"]


@pytest.mark.parametrize("files", [{"model.ubj": b""}, {**CONTENT, "model.pkl": b""}])
def test_a_bundle_of_other_files_is_not_written(tmp_path: Path, files: dict[str, bytes]) -> None:
    with pytest.raises(BundleNotWritten, match="exactly the files"):
        write_bundle(tmp_path / "bundle", files)
    assert os.listdir(tmp_path) == []


def test_a_disk_that_takes_no_more_leaves_nothing_behind(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(BundleNotWritten, match="could not be written: File too large"):
            write_bundle(tmp_path / "bundle", {**CONTENT, "model.ubj": bytes(5000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("features", "words"),
    [
        (np.zeros((3, 3), np.float32), r"float32 \[n_rows, 4\], not float32 \[3, 3\]"),
        (np.zeros((3, 4)), "not float64"),
        (np.zeros(4, np.float32), r"not float32 \[4\]"),
        (np.full((1, 4), np.inf, np.float32), "infinite.*shopper:visits"),
    ],
)
def test_features_that_do_not_fit_the_model_are_refused(trained: Trained, features: np.ndarray, words: str) -> None:
    with pytest.raises(FeaturesDoNotFit, match=words):
        trained.bundle.predict(features)


def test_a_missing_value_is_scored_and_no_rows_give_no_scores(trained: Trained) -> None:
    score = trained.bundle.predict(np.full((1, 4), np.nan, np.float32))
    assert score.dtype == np.float64 and 0.0 < score[0] < 1.0
    assert trained.bundle.predict(np.empty((0, 4), np.float32)).shape == (0,)


def test_rows_are_scored_alike_alone_and_together(trained: Trained) -> None:
    features = np.random.default_rng(0).normal(2, 2, (50, 4)).astype(np.float32)
    alone = np.concatenate([trained.bundle.predict(row[None]) for row in features])
    assert alone.tobytes() == trained.bundle.predict(features).tobytes()


def test_a_bundle_holds_the_sketch_of_its_training_rows_and_their_scores(trained: Trained) -> None:
    rows = read_role(trained.data, "train", trained.bundle.features)
    seen = model_columns(trained.bundle.features, rows.features, trained.bundle.predict(rows.features))
    reference = trained.bundle.reference()
    assert reference.names == (*trained.spec.features, "score")
    assert reference.rows == ROWS_BY_ROLE["train"]
    assert reference == build_sketch(seen) == count_into(reference, seen)
    unknown = np.isnan(pq.read_table(trained.data, filters=[("role", "==", "train")])["shopper__spend"].to_pandas())
    assert reference.column("shopper:spend").missing == unknown.sum() > 0


def test_a_bundle_from_before_sketches_still_scores_and_asks_for_a_training_when_it_is_to_be_watched(
    trained: Trained, tmp_path: Path
) -> None:
    old = tmp_path / "old"
    shutil.copytree(trained.bundle.path, old)
    (old / "reference.json").unlink()
    manifest = json.loads((old / "manifest.json").read_text())
    files = {name: file for name, file in manifest["files"].items() if name in FILES_BY_VERSION[1]["classifier"]}
    digest = hashlib.sha256("".join(f"{n} {files[n]['sha256']}\n" for n in sorted(files)).encode()).hexdigest()
    rewrite_manifest(format_version=1, files=files, digest=digest)(old)
    bundle = open_bundle(old)
    features = np.ones((2, 4), np.float32)
    assert bundle.predict(features).tobytes() == trained.bundle.predict(features).tobytes()
    with pytest.raises(ReferenceMissing, match="train again"):
        bundle.reference()
