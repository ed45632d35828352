"""A table of published partitions: written aside, checked, and only then swapped into sight.

    <root>/<name>/published/<partition>.json            the pointer: what readers may see
    <root>/<name>/data/<partition>/<sha256>.parquet     immutable files, named by their content
    <root>/<name>/quarantine/<partition>/<sha256>.parquet, .json   what failed its checks, and why

Invariants: a reader goes through the pointer, so it sees a whole partition, the old or the new, and never half of one,
whatever process dies when. Publishing is one replacement of the pointer (os.replace on a local folder, a single PUT on
an object store). Equal frames give equal bytes, hence the same digest, whatever the thread count or chunking; row
order is part of a frame. A replaced file outlives its pointer by one publication and an hour, so that who read the old
pointer can finish; what is older goes at the next publication. Features, training sets and predictions all live so.
"""

import hashlib
import io
import json
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import polars as pl
from upath import UPath

from ml_platform.errors import PlatformError
from ml_platform.killpoints import kill_point

POINTER_FORMAT_VERSION = 1
ROW_GROUP_ROWS = 131_072
STALE_AFTER_SECONDS = 3600
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


class LakeNameRefused(PlatformError):
    """A table or partition name that could lead out of its folder, or could not be a file name."""


class LakeWriteFailed(PlatformError):
    """The bytes could not be written (a full disk, no permission). What was published before still is."""


class LakeCorruption(PlatformError):
    """A pointer or a published file is missing, torn, or not what its digest says."""


class PartitionMissing(PlatformError):
    """Nothing is published under that partition."""


@dataclass(frozen=True)
class Staged:
    """A partition written aside. No reader sees it. `digest`: SHA-256 of the file; `size` in bytes."""

    partition: str
    path: UPath | Path
    digest: str
    size: int
    rows: int
    metadata: Mapping[str, str]


@dataclass(frozen=True)
class Published:
    """A partition in sight. `digest`: SHA-256 of the file; `size` in bytes."""

    partition: str
    path: UPath | Path
    digest: str
    size: int
    rows: int
    metadata: Mapping[str, str]


@dataclass(frozen=True)
class _Pointer:
    """What the pointer file says. `previous` is the digest it replaced: that file is kept until the next swap."""

    partition: str
    sha256: str
    size: int
    rows: int
    metadata: dict[str, str]
    previous: str | None = None
    format_version: int = field(default=POINTER_FORMAT_VERSION)


class PartitionedTable:
    """One table under `root` (a local folder, or any object store that UPath opens)."""

    def __init__(self, root: UPath | Path, name: str) -> None:
        self.name = _checked(name, "table name")
        self.folder = root / name

    def stage(self, partition: str, frame: pl.DataFrame, metadata: Mapping[str, str] | None = None) -> Staged:
        """Writes the frame aside and syncs it to disk. Raises LakeWriteFailed; leaves nothing half-written."""
        content = parquet_bytes(frame)
        digest = hashlib.sha256(content).hexdigest()
        path = self._data(_checked(partition, "partition"), digest)
        write_atomically(path, content, "lake.data")
        return Staged(partition, path, digest, len(content), frame.height, dict(metadata or {}))

    def publish(self, staged: Staged) -> Published:
        """Swaps the staged partition into sight; publishing the same content and metadata again changes nothing.

        Raises LakeCorruption when the staged file is no longer what was staged, LakeWriteFailed when the pointer cannot
        be written; in both cases readers keep what they had.
        """
        _verify(staged.path, staged.digest, staged.size)
        now = self._replaceable(staged.partition)
        unchanged = now is not None and (now.sha256, now.metadata) == (staged.digest, dict(staged.metadata))
        if not unchanged:
            previous = now and (now.previous if now.sha256 == staged.digest else now.sha256)
            fields = (staged.partition, staged.digest, staged.size, staged.rows, dict(staged.metadata), previous)
            content = json.dumps(asdict(_Pointer(*fields)), indent=1, sort_keys=True).encode()
            write_atomically(self._pointer_path(staged.partition), content, "lake.pointer")
            kill_point("lake.published")
            self._forget_stale(staged.partition, keep={staged.digest, previous or ""})
        return Published(**asdict(staged))

    def set_aside(self, staged: Staged, reason: str) -> UPath | Path:
        """Moves what failed its checks to the quarantine, where no reader looks, and says why beside it."""
        kept = self.folder / "quarantine" / staged.partition / f"{staged.digest}.parquet"
        write_atomically(kept, staged.path.read_bytes(), "lake.quarantine")
        note = {"format_version": 1, "reason": reason, "rows": staged.rows, "metadata": dict(staged.metadata)}
        write_atomically(kept.with_suffix(".json"), json.dumps(note, indent=1).encode(), "lake.quarantine")
        now = self._replaceable(staged.partition)
        if now is None or staged.digest not in (now.sha256, now.previous):
            staged.path.unlink(missing_ok=True)
        return kept

    def published(self, partition: str) -> Published | None:
        """What readers see of the partition, from its pointer alone; None when nothing was ever published."""
        now = self._pointer(_checked(partition, "partition"))
        if now is None:
            return None
        path = self._data(partition, now.sha256)
        return Published(partition, path, now.sha256, now.size, now.rows, now.metadata)

    def partitions(self) -> list[str]:
        """The published partitions, sorted."""
        folder = self.folder / "published"
        return sorted(path.stem for path in folder.glob("*.json")) if folder.exists() else []

    def marks(self) -> list[tuple[str, float]]:
        """A mark of each published partition, sorted; they change when what is published does. Opens no file."""
        folder = self.folder / "published"
        return sorted((path.stem, path.stat().st_mtime) for path in folder.glob("*.json")) if folder.exists() else []

    def read(self, partition: str, *, verify: bool = False) -> pl.DataFrame:
        """The published rows. The file's size is always compared with the pointer; `verify` compares its digest too.
        Raises PartitionMissing or LakeCorruption."""
        seen = self.require(partition)
        content = seen.path.read_bytes()
        if verify and hashlib.sha256(content).hexdigest() != seen.digest:
            raise _corrupt("the file is not what its digest says", seen.path)
        try:
            return pl.read_parquet(io.BytesIO(content))
        except pl.exceptions.PolarsError as error:
            raise _corrupt(f"the file is not readable Parquet ({error})", seen.path) from error

    def scan(self, partitions: Sequence[str]) -> pl.LazyFrame:
        """The rows of the partitions in the order given, lazily where the files are local. Raises as `read`."""
        seen = [self.require(partition) for partition in partitions]
        if all(isinstance(one.path, Path) for one in seen):
            return pl.scan_parquet([str(one.path) for one in seen])
        return pl.concat([self.read(partition).lazy() for partition in partitions])

    def require(self, partition: str) -> Published:
        """As `published`, for who cannot go on without it; the file is there and has its size. Raises PartitionMissing
        or LakeCorruption."""
        seen = self.published(partition)
        if seen is None:
            raise PartitionMissing(
                f"nothing is published under {partition}",
                where=self.folder,
                next_step="materialise that partition first",
            )
        try:
            size = seen.path.stat().st_size
        except FileNotFoundError:
            raise _corrupt("the published file is gone", seen.path) from None
        if size != seen.size:
            raise _corrupt(f"the file has {size} bytes, its pointer says {seen.size}", seen.path)
        return seen

    def _data(self, partition: str, digest: str) -> UPath | Path:
        return self.folder / "data" / partition / f"{digest}.parquet"

    def _pointer_path(self, partition: str) -> UPath | Path:
        return self.folder / "published" / f"{partition}.json"

    def _pointer(self, partition: str) -> _Pointer | None:
        path = self._pointer_path(partition)
        try:
            stated = json.loads(path.read_bytes())
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise _corrupt("the pointer is not JSON", path) from error
        version = stated.get("format_version") if isinstance(stated, dict) else None
        if version != POINTER_FORMAT_VERSION:
            raise LakeCorruption(
                f"the pointer has format version {version!r}, this code reads {POINTER_FORMAT_VERSION}",
                where=path,
                next_step="use the version of the platform that wrote it, or publish the partition anew",
            )
        try:
            pointer = _Pointer(**stated)
        except TypeError as error:
            raise _corrupt(f"the pointer lacks or invents a field ({error})", path) from error
        if not re.fullmatch(r"[0-9a-f]{64}", pointer.sha256) or pointer.partition != partition:
            raise _corrupt("the pointer speaks of another file", path)
        return pointer

    def _replaceable(self, partition: str) -> _Pointer | None:
        """The pointer, or None also for a damaged one: publishing anew is its cure."""
        try:
            return self._pointer(partition)
        except LakeCorruption:
            return None

    def _forget_stale(self, partition: str, keep: set[str]) -> None:
        """Removes replaced versions and what killed writers left, once an hour old; a newer file may be another
        writer's, or still be read by someone who has the old pointer."""
        horizon = time.time() - STALE_AFTER_SECONDS
        for path in (self.folder / "data" / partition).iterdir():
            if path.stem not in keep and path.stat().st_mtime < horizon:
                path.unlink(missing_ok=True)


def parquet_bytes(frame: pl.DataFrame) -> bytes:
    """The frame as Parquet: the same bytes for equal frames, whatever their chunks and the number of threads."""
    # Lists that are a slice of longer ones would be cut into pages by the length of those: gathered, they stand alone.
    lists = [name for name, dtype in frame.schema.items() if dtype == pl.List]
    whole = frame.rechunk().with_columns(pl.col(lists).gather(pl.int_range(pl.len())))
    buffer = io.BytesIO()
    whole.write_parquet(buffer, compression="zstd", compression_level=3, row_group_size=ROW_GROUP_ROWS)
    return buffer.getvalue()


def write_atomically(path: UPath | Path, content: bytes, kill_name: str = "write") -> None:
    """Puts the whole content at the path, or leaves the path as it was. Raises LakeWriteFailed.

    Local: a sibling file, synced, then os.replace. Object store: one PUT, which is atomic there. Kill points:
    `<kill_name>.half` (half the bytes are in the sibling) and `<kill_name>.written` (all are, not yet replaced).
    """
    try:
        if not isinstance(path, Path):
            path.write_bytes(content)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        with _sibling(path) as sibling:
            with open(sibling, "wb") as file:
                half = len(content) // 2
                file.write(content[:half])
                file.flush()
                kill_point(f"{kill_name}.half")
                file.write(content[half:])
                file.flush()
                os.fsync(file.fileno())
            kill_point(f"{kill_name}.written")
            os.replace(sibling, path)
        _sync_folder(path.parent)
    except OSError as error:
        raise LakeWriteFailed(
            f"{len(content)} bytes could not be written: {error.strerror or error}",
            where=path,
            next_step="free some space or mend the permissions, then run it again; what was published before still is",
        ) from error


@contextmanager
def _sibling(path: Path) -> Iterator[Path]:
    sibling = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield sibling
    finally:
        sibling.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """A replaced name survives a power cut only once its folder is synced."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _verify(path: UPath | Path, digest: str, size: int) -> None:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise _corrupt("the staged file is gone", path) from None
    if len(content) != size or hashlib.sha256(content).hexdigest() != digest:
        raise _corrupt("the staged file is not what was staged", path)


def _checked(name: str, what: str) -> str:
    if not _NAME.fullmatch(name):
        raise LakeNameRefused(
            f"{name!r} cannot be a {what}", where="lake", next_step="use letters, digits, '_', '-' and '.', up to 100"
        )
    return name


def _corrupt(what: str, path: UPath | Path) -> LakeCorruption:
    return LakeCorruption(what, where=path, next_step="publish the partition anew; its inputs are still there")
