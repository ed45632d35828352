"""Work done in a process of its own, which can be killed without killing the tests.

The processes are forked from a server that has the imports done, so one costs milliseconds. `work` is a function of a
test module, found there by name.
"""

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Event
from typing import Any

SIGKILLED = -signal.SIGKILL
PATIENCE_SECONDS = 120

_server = multiprocessing.get_context("forkserver")
_server.set_forkserver_preload(["ml_platform.landing.loading", "ml_platform.landing.replay", "pytest"])


def run(work: Callable[..., None], *args: Any, kill_at: str = "") -> int:
    """Does the work until its end, or until the named kill point; the exit code."""
    process = _server.Process(target=_armed, args=(kill_at, work, args))
    process.start()
    process.join(PATIENCE_SECONDS)
    assert process.exitcode is not None, "the process hangs"
    return process.exitcode


@contextmanager
def holding(work: Callable[..., Any], *args: Any) -> Iterator[BaseProcess]:
    """A process inside `with work(*args)`, which stays there until it is killed or this block ends."""
    inside, leave = _server.Event(), _server.Event()
    process = _server.Process(target=_hold, args=(inside, leave, work, args))
    process.start()
    assert inside.wait(PATIENCE_SECONDS), "the process never got in"
    try:
        yield process
    finally:
        if process.is_alive():
            leave.set()
        process.join(PATIENCE_SECONDS)


def _armed(kill_at: str, work: Callable[..., None], args: tuple[Any, ...]) -> None:
    os.environ["ML_PLATFORM_KILL_AT"] = kill_at
    work(*args)


def _hold(inside: Event, leave: Event, work: Callable[..., Any], args: tuple[Any, ...]) -> None:
    with work(*args):
        inside.set()
        leave.wait(PATIENCE_SECONDS)
