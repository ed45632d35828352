"""The landing folder: immutable deliveries, one folder for each table and landing day.

`<root>/<table>/<YYYY-MM-DD>/` holds `data.parquet` and `manifest.json`. Both are written and synced in a hidden folder
beside it, and one rename brings them into sight: a delivery is there whole or not at all. It never changes: the same
rows again are a no-op, other rows are refused. What a dead process leaves is hidden and never read.
"""

import errno
import hashlib
import io
import json
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ml_platform.calendar import DAY, NotADay, parse_day
from ml_platform.errors import PlatformError
from ml_platform.killpoints import kill_point
from ml_platform.landing.tables import DAILY, raw_table

FORMAT_VERSION = 1
DISK_IS_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class LandingConflict(PlatformError):
    """A delivery would change one that has landed."""


class LandingDamaged(PlatformError):
    """A delivery's manifest cannot be read, or tells of another delivery."""


class LandingFull(PlatformError):
    """The disk took no more bytes; nothing of the delivery is in sight."""


@dataclass(frozen=True)
class Delivery:
    """What a manifest says. `folder` holds the data and the manifest; `closed`: the shops were shut, no rows."""

    table: str
    landed_on: date
    rows: int
    sha256: str
    closed: bool
    folder: Path

    @property
    def data_path(self) -> Path:
        return self.folder / "data.parquet"


class LandingFolder:
    """Deliveries under `root`, which is made when the first one lands."""

    def __init__(self, root: Path) -> None:
        self.root = Path(root)

    def land(self, table: str, landed_on: date, data: pa.Table, closed: bool = False) -> Delivery:
        """Lands rows as they are; the contract is checked by whoever loads them.

        Landed already with the same rows: a no-op that returns the delivery that stands. Raises LandingConflict for
        other rows, LandingFull when the disk is full.
        """
        content, rows = encode(data), data.num_rows
        delivery = Delivery(
            table, landed_on, rows, hashlib.sha256(content).hexdigest(), closed, self._folder(table, landed_on)
        )
        standing = self.delivery(table, landed_on)
        if standing is None:
            try:
                self._write(delivery, content)
                return delivery
            except FileExistsError:  # another process landed it first, or something else lies there
                standing = self.delivery(table, landed_on)
        if standing is None or standing.closed != closed or not _same_rows(standing, delivery.sha256, content):
            raise LandingConflict(
                f"{table} of {landed_on} has landed with other content",
                where=delivery.folder,
                next_step="a landed file never changes: deliver the difference as a later day's file, "
                "or use another ML_PLATFORM_HOME if the replay's configuration changed",
            )
        return standing

    def delivery(self, table: str, landed_on: date) -> Delivery | None:
        """The delivery of that day, None when it has not landed. Raises LandingDamaged for an unreadable manifest."""
        folder = self._folder(table, landed_on)
        path = folder / "manifest.json"
        try:
            manifest = json.loads(path.read_bytes())
            version = manifest["format_version"]
            if version != FORMAT_VERSION:
                raise LandingDamaged(
                    f"manifest has format version {version}, this code reads {FORMAT_VERSION}",
                    where=path,
                    next_step="use the platform version that wrote it, or later",
                )
            delivery = Delivery(
                table=manifest["table"],
                landed_on=date.fromisoformat(manifest["landed_on"]),
                rows=int(manifest["rows"]),
                sha256=str(manifest["sha256"]),
                closed=bool(manifest["closed"]),
                folder=folder,
            )
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise LandingDamaged(
                f"manifest cannot be read: {error!r}", where=path, next_step="deliver it again into an empty folder"
            ) from error
        if (delivery.table, delivery.landed_on) != (table, landed_on):
            raise LandingDamaged(
                f"manifest tells of {delivery.table} of {delivery.landed_on}",
                where=path,
                next_step="move the delivery to its own folder",
            )
        return delivery

    def deliveries(self, table: str, first: date, last: date) -> list[Delivery]:
        """What has landed from `first` to `last`, both included, in time order."""
        found = (self.delivery(table, day) for day in sorted(self._days(table)) if first <= day <= last)
        return [delivery for delivery in found if delivery is not None]

    def landed_through(self, tables: Collection[str] = DAILY) -> date | None:
        """The newest day up to which each of these tables has landed without a gap; None before the first."""
        complete = set.intersection(*(set(self._days(name)) for name in tables))
        if not complete:
            return None
        newest = min(complete)
        while newest + DAY in complete:
            newest += DAY
        return newest

    def _folder(self, table: str, landed_on: date) -> Path:
        return self.root / raw_table(table).name / landed_on.isoformat()

    def _days(self, table: str) -> Iterator[date]:
        try:
            names = os.listdir(self.root / raw_table(table).name)
        except FileNotFoundError:
            return
        for name in names:
            try:
                day = parse_day(name)
            except NotADay:  # a hidden folder of a delivery under way or of a dead process, or not ours
                continue
            if (self.root / table / name / "manifest.json").exists():
                yield day

    def _write(self, delivery: Delivery, content: bytes) -> None:
        parent = delivery.folder.parent
        aside: Path | None = None
        try:
            parent.mkdir(parents=True, exist_ok=True)
            aside = Path(tempfile.mkdtemp(prefix=f".{delivery.landed_on}-", dir=parent))
            with _synced(aside / "data.parquet") as file:
                file.write(content)
            kill_point("landing:data-written")
            manifest = {
                "format_version": FORMAT_VERSION,
                "table": delivery.table,
                "landed_on": delivery.landed_on.isoformat(),
                "rows": delivery.rows,
                "sha256": delivery.sha256,
                "closed": delivery.closed,
            }
            with _synced(aside / "manifest.json") as file:
                file.write(json.dumps(manifest, indent=1).encode())
            _sync_folder(aside)
            kill_point("landing:manifest-written")
            aside.rename(delivery.folder)
            _sync_folder(parent)
            kill_point("landing:landed")
        except OSError as error:
            if aside is not None:
                shutil.rmtree(aside, ignore_errors=True)
            if error.errno in DISK_IS_FULL:
                raise LandingFull(
                    f"no room for {delivery.table} of {delivery.landed_on}: {error.strerror}",
                    where=parent,
                    next_step="free some disk space and land again",
                ) from error
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                raise FileExistsError(error.errno, error.strerror, str(delivery.folder)) from error
            raise


def encode(data: pa.Table) -> bytes:
    """The Parquet file of the rows, in their order."""
    buffer = io.BytesIO()
    pq.write_table(data, buffer, compression="zstd")
    return buffer.getvalue()


def _same_rows(standing: Delivery, sha256: str, content: bytes) -> bool:
    """Whether the content is the delivery that stands, perhaps encoded by another version of the Parquet writer."""
    if standing.sha256 == sha256:
        return True
    try:
        return pq.read_table(standing.data_path).equals(pq.read_table(io.BytesIO(content)))
    except (pa.ArrowException, OSError):  # what stands is damaged, so it is not this
        return False


@contextmanager
def _synced(path: Path) -> Iterator[io.BufferedWriter]:
    with path.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
