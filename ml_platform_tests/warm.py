"""Processes forked from one that has its imports behind it: real ones, to be killed for real, that start in no time.

`Warm` starts the parent, `python -m ml_platform_tests.warm SOCKET MODULE…`, which imports the modules and then forks
one child a connection, in the state it was in before any of them: no thread, no file, no connection of its own. A child
runs one command line of Python with the environment and the standard output it is sent. Workers find none of the HEAVY
libraries. Of every command some test starts a fresh process too.
"""

import contextlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TextIO

POLL_SECONDS = 0.01
LENGTH = 1 << 20
WORKER = "ml_platform.training.worker"
HEAVY = ("dagster", "polars", "mlflow", "pandera", "duckdb", "evidently")
"""What no worker finds here, as where Dagster is not installed."""


class Process:
    """What is used of a Popen: `pid`, `stdout`, and its end."""

    def __init__(self, connection: socket.socket, stdout: TextIO) -> None:
        self.stdout, self._connection = stdout, connection
        self.pid = int(connection.recv(32))
        self.returncode: int | None = None
        connection.setblocking(False)

    def poll(self) -> int | None:
        if self.returncode is None:
            with contextlib.suppress(BlockingIOError):
                self.returncode = int(self._connection.recv(32))
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        until = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if until is not None and time.monotonic() > until:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
            time.sleep(POLL_SECONDS)
        return code

    def terminate(self) -> None:
        os.kill(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)


class Warm:
    """A parent that has imported `modules`, and starts those commands whose module or program is `program`."""

    def __init__(self, program: str, *modules: str) -> None:
        self._program, self._folder = program, tempfile.TemporaryDirectory(prefix="warm-")
        self._path = Path(self._folder.name) / "socket"  # short: the system allows a hundred characters
        command = [sys.executable, "-m", __name__, str(self._path), program, *modules]
        self._parent = subprocess.Popen(command, stdin=subprocess.PIPE)

    def wait_until_ready(self) -> None:
        """Until its imports are done: who calls over HTTP waits for a container with a limit."""
        self._connect().close()

    def runs(self, command: Sequence[str]) -> bool:
        return self._program in (command[0], command[2] if command[1:2] == ["-m"] else None)

    def start(self, command: Sequence[str], environment: Mapping[str, str]) -> Process:
        """The command as a process whose output, errors included, is its `stdout`."""
        connection = self._connect()
        reading, writing = os.pipe()
        request = json.dumps({"command": list(command), "environment": dict(environment)}).encode()
        assert len(request) < LENGTH
        socket.send_fds(connection, [request], [writing])
        os.close(writing)
        return Process(connection, os.fdopen(reading))

    def stop(self) -> None:
        self._parent.communicate()  # the end of its input is its own
        self._folder.cleanup()

    def _connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        while connection.connect_ex(str(self._path)):
            assert self._parent.poll() is None, "the warm parent died"
            time.sleep(POLL_SECONDS)
        return connection


class _Forbidden:
    """Import finder: what a worker must not need is not there for it."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name.partition(".")[0] in HEAVY:
            raise ImportError(f"{name} must not be needed by a worker")


def _serve(path: str, program: str, modules: Sequence[str]) -> None:
    if program == WORKER:
        from ml_platform.training.worker import _Unneeded

        sys.meta_path[:0] = [_Forbidden(), _Unneeded()]  # type: ignore[list-item]
    for module in modules:
        import_module(module)
    sys.modules.pop(program, None)  # it is run, as `python -m` does, not imported
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
        server.bind(path)
        server.listen()
        while select.select([server, sys.stdin], [], [])[0] == [server]:
            connection, _ = server.accept()
            if os.fork() == 0:
                server.close()
                _attend(connection)
            connection.close()
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass


def _attend(connection: socket.socket) -> None:
    """Runs what the connection asks for, and tells it the process's number, and in the end its status."""
    request, outputs, *_ = socket.recv_fds(connection, LENGTH, 1)
    if not outputs:
        os._exit(0)  # only asked whether we are ready
    (output,) = outputs
    if (pid := os.fork()) == 0:
        connection.close()
        _run(output, **json.loads(request))
    os.close(output)
    connection.send(str(pid).encode())
    _, status = os.waitpid(pid, 0)
    with contextlib.suppress(OSError):
        connection.send(str(os.waitstatus_to_exitcode(status)).encode())
    os._exit(0)


def _run(output: int, command: list[str], environment: dict[str, str]) -> None:
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)
    sys.stdin = open(os.devnull)  # noqa: SIM115
    os.environ.clear()
    os.environ.update(environment)
    code: object = 1
    try:
        if command[1] == "-m":
            sys.argv = ["", *command[3:]]
            runpy.run_module(command[2], run_name="__main__", alter_sys=True)
        else:
            sys.argv = command
            import_module("dagster._cli").main()
        code = 0
    except SystemExit as ended:
        code = ended.code
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else int(code is not None))


if __name__ == "__main__":
    _serve(sys.argv[1], sys.argv[2], sys.argv[3:])
