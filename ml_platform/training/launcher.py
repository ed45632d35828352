"""Starts the processes of one XGBoost training: `python -m ml_platform.training.launcher COUNT -m MODULE ARGUMENT…`.

What torchrun is to the trainer of sequences: every process runs the same command, and is told by its environment which
of them it is and where XGBoost's tracker brings them together. Invariants: they end together, so one that is killed or
fails ends the others at once, and with them the training; the cause is told once, by the first process where it has
one of its own, else here. Told to stop (SIGTERM), it stops them all.
"""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from ml_platform.training.job import STOPPED, TrainingFailed
from ml_platform.training.ranks import Ranks
from ml_platform.training.reporting import open_reporter
from ml_platform.training.trainers.xgboost import TRACKER, import_xgboost

HOST = "127.0.0.1"
POLL_SECONDS = 0.05
OWN_WORDS_SECONDS = 3.0
"""What befalls all processes alike the first one tells itself: so much time it has to do so."""
KNOWN_CAUSE = 1
"""Exit status of a worker that has told why it failed."""


def launch(count: int, arguments: Sequence[str]) -> int:
    """Runs the command as `count` processes to their end. Returns the exit status, as a worker's."""
    with tempfile.TemporaryDirectory() as folder, _tracker(count) as tracker:
        complaints = [Path(folder) / str(number) for number in range(count)]
        processes: list[subprocess.Popen[bytes]] = []
        try:
            for number, path in enumerate(complaints):
                processes.append(_start(Ranks(number, count), tracker, arguments, path))
            failed = _first_to_fail(processes)
            if failed is None:
                return 0
            if processes[failed].returncode == KNOWN_CAUSE:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    processes[0].wait(OWN_WORDS_SECONDS)
        finally:
            for process in processes:
                process.kill()
                process.wait()
        if processes[0].returncode == KNOWN_CAUSE:
            return KNOWN_CAUSE
        return _tell(f"process {failed} of {count} {_end_of(processes[failed].returncode, complaints[failed])}")


@contextlib.contextmanager
def _tracker(count: int) -> Iterator[str]:
    """XGBoost's tracker at work, as `host:port`."""
    xgboost = import_xgboost()
    tracker = xgboost.tracker.RabitTracker(n_workers=count, host_ip=HOST, sortby="task")
    tracker.start()
    try:
        yield f"{HOST}:{tracker.worker_args()['dmlc_tracker_port']}"
    finally:
        # It complains of processes that never said goodbye; why they did not is told already.
        with contextlib.suppress(xgboost.core.XGBoostError):
            tracker.free()


def _start(ranks: Ranks, tracker: str, arguments: Sequence[str], complaints: Path) -> subprocess.Popen[bytes]:
    """One process. Standard error of the first is ours; of the others it is kept for when they fail."""
    environment = {**os.environ, **ranks.to_env(), TRACKER: tracker}
    with complaints.open("wb") as kept:
        return subprocess.Popen([sys.executable, *arguments], env=environment, stderr=None if ranks.is_first else kept)


def _first_to_fail(processes: Sequence[subprocess.Popen[bytes]]) -> int | None:
    """Waits until one has failed, which it gives, or all have succeeded."""
    while True:
        ended = [process.poll() for process in processes]
        for number, status in enumerate(ended):
            if status:
                return number
        if None not in ended:
            return None
        time.sleep(POLL_SECONDS)


def _end_of(status: int, complaints: Path) -> str:
    said = complaints.read_text(errors="replace").strip()
    how = f"was killed by signal {-status}" if status < 0 else f"exited with {status}"
    return f"{how}: {said.splitlines()[-1]}" if said else how


def _tell(what: str) -> int:
    """The cause as a worker tells its own."""
    try:
        with open_reporter():
            raise TrainingFailed(what, next_step="look for memory pressure where it ran, then train again")
    except TrainingFailed as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
    return KNOWN_CAUSE


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(STOPPED))
    sys.exit(launch(int(sys.argv[1]), sys.argv[2:]))
