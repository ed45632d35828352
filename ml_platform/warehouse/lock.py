"""One process at a time in an embedded database: an advisory lock that says who holds it.

Invariants: the operating system releases the lock when its process dies, however it dies; the lock file is never
deleted (a deleted one could be locked twice); its text is only news about the holder, never the lock itself.
"""

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from ml_platform.warehouse.base import WarehouseBusy

POLL_SECONDS = 0.05


@contextmanager
def hold(path: Path, purpose: str, wait_seconds: float) -> Iterator[None]:
    """Holds the lock file at `path`. Not reentrant: a second hold in the same process waits like any other.

    Raises WarehouseBusy, naming process, purpose and since when, if it is not free within `wait_seconds`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        _acquire(descriptor, path, purpose, wait_seconds)
        news = {"pid": os.getpid(), "purpose": purpose, "since": datetime.now(UTC).isoformat(timespec="seconds")}
        _rewrite(descriptor, json.dumps(news).encode())
        try:
            yield
        finally:
            _rewrite(descriptor, b"")
            # Closing alone would not do: a forked child may still have the descriptor open.
            fcntl.flock(descriptor, fcntl.LOCK_UN)
    finally:
        os.close(descriptor)


def _acquire(descriptor: int, path: Path, purpose: str, wait_seconds: float) -> None:
    deadline = time.monotonic() + wait_seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise WarehouseBusy(
                    f"{_holder(descriptor)} holds the warehouse; {purpose!r} waited {wait_seconds:g} s",
                    where=path,
                    next_step="wait for it to end, or end that process; nothing has to be cleaned up after it",
                ) from None
        time.sleep(POLL_SECONDS)


def _holder(descriptor: int) -> str:
    """The holder in words. It may be writing its news right now: then it is only known to exist."""
    try:
        news = json.loads(os.pread(descriptor, 4096, 0))
        return f"process {news['pid']} ({news['purpose']}, since {news['since']})"
    except (ValueError, KeyError):
        return "another process"


def _rewrite(descriptor: int, text: bytes) -> None:
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, text, 0)
