"""A measured figure and how it is taken: the row of the table, the best of several turns, a process tree's memory."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

REPOSITORY = Path(__file__).resolve().parent.parent
MEMORY_POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Row:
    """A figure in `unit`, beside that of `against` in the same unit (None: nothing to compare with).

    `goal` is the highest ratio allowed, or the highest figure where there is no ratio; None: shown for information.
    """

    name: str
    figure: float
    unit: str
    against: str = ""
    against_figure: float | None = None
    goal: float | None = None
    note: str = ""

    @property
    def ratio(self) -> float | None:
        return None if self.against_figure is None else self.figure / self.against_figure

    @property
    def met(self) -> bool | None:
        """Is the goal reached? None without one."""
        measured = self.figure if self.ratio is None else self.ratio
        return None if self.goal is None else measured <= self.goal

    def to_json(self) -> dict[str, Any]:
        fields = ("name", "figure", "unit", "against", "against_figure", "ratio", "goal", "met", "note")
        return {field: _short(getattr(self, field)) for field in fields}


def _short(value: Any) -> Any:
    return float(f"{value:.4g}") if isinstance(value, float) else value


def take_turns(contenders: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Seconds of each contender's best repeat; they alternate, and what a call returns is dropped before the next."""
    best = dict.fromkeys(contenders, float("inf"))
    for _ in range(repeats):
        for name, call in contenders.items():
            best[name] = min(best[name], seconds_of(call))
    return best


def seconds_of(call: Callable[[], object]) -> float:
    """Wall seconds of one call."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


@dataclass(frozen=True)
class Finished:
    """A process that ended well: wall seconds, and the highest resident memory of it and all its children, in GB."""

    seconds: float
    peak_gb: float
    output: str


def run_tree(command: Sequence[str], environ: Mapping[str, str]) -> Finished:
    """Runs a command at the repository's root to its end, watching its process tree.

    Memory is the sum of proportional set sizes (pages that forked processes share count once), polled. Raises
    RuntimeError with the end of its output when the command fails.
    """
    began = time.perf_counter()
    process = subprocess.Popen(
        command, cwd=REPOSITORY, env=dict(environ), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    peaks: list[int] = [0]
    done = threading.Event()
    watcher = threading.Thread(target=_watch, args=(process.pid, peaks, done), daemon=True)
    watcher.start()
    output, _ = process.communicate()
    seconds = time.perf_counter() - began
    done.set()
    watcher.join()
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} exited with {process.returncode}:\n{output[-3000:]}")
    return Finished(seconds, peaks[0] / 1e9, output)


def _watch(pid: int, peaks: list[int], done: threading.Event) -> None:
    while not done.wait(MEMORY_POLL_SECONDS):
        try:
            root = psutil.Process(pid)
            tree = [root, *root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return
        peaks[0] = max(peaks[0], sum(_memory(process) for process in tree))


def _memory(process: psutil.Process) -> int:
    try:
        return process.memory_full_info().pss
    except (psutil.NoSuchProcess, psutil.AccessDenied, AttributeError):
        pass
    try:
        return process.memory_info().rss
    except psutil.NoSuchProcess:
        return 0


def run_json(python: Path | str, arguments: Sequence[str], environ: Mapping[str, str] | None = None) -> Any:
    """Runs Python with the arguments at the repository's root and reads the last line it prints as JSON."""
    done = subprocess.run(
        [str(python), *arguments], cwd=REPOSITORY, env=dict(environ or os.environ), capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)} exited with {done.returncode}:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def this_python() -> Path:
    """The interpreter that runs the benchmark, not what a link of it points to."""
    return Path(sys.executable)
