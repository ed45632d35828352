"""A real book on SQLite, the shortest words for conditions, and a real web server that can misbehave."""

import json
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from ml_platform.alerts import http
from ml_platform.alerts.book import AlertBook
from ml_platform.alerts.records import Condition

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
PATIENCE_SECONDS = 60
SIGKILLED = -signal.SIGKILL


def minutes(count: float) -> datetime:
    return NOON + timedelta(minutes=count)


def late(key: str = "transactions", **change: Any) -> Condition:
    """A promise of freshness that is broken."""
    said = {
        "kind": "freshness",
        "severity": "page",
        "owner": "team:shops",
        "asset": f"raw/{key}",
        "title": f"{key} are late",
        "promised": "at most 26 h old",
        "found": "31 h old",
        "since": NOON - timedelta(hours=5),
        "link": f"http://127.0.0.1:3000/assets/raw/{key}",
    }
    return Condition(key=key, **said | change)


class Webhook:
    """A server on this machine. `behave` says what it does with the next requests, the last one for ever."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.taken: list[dict[str, Any]] = []
        self._behaviours = ["ok"]
        self._released = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/services/T0/B0/hush-hush"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def behave(self, *behaviours: str) -> None:
        self._behaviours = list(behaviours)

    def close(self) -> None:
        self._released.set()
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        webhook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                webhook._answer(self, body)

            def log_message(self, *_: Any) -> None:
                pass

        return Handler

    def _answer(self, request: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        self.bodies.append(body)
        behaviour = self._behaviours.pop(0) if len(self._behaviours) > 1 else self._behaviours[0]
        answers: dict[str, tuple[int, bytes]] = {
            "ok": (200, b"ok"),
            "success": (202, b'{"status": "success", "message": "Event processed"}'),
            "garbage": (200, b"<html>\x1b[2J\x00please log in \xff\xfe</html>"),
            "empty": (200, b""),
            "error": (500, f"boom at {self.url} and {request.path}".encode()),
            "refuses": (400, b"invalid_payload"),
            "forbids": (403, b"invalid_token"),
            "slow down": (429, b"rate_limited"),
            "redirects": (302, b""),
        }
        if behaviour == "hangs":
            self._released.wait(PATIENCE_SECONDS)
        elif behaviour == "drips":
            request.wfile.write(b"HTTP/1.0 200 OK\r\n")
            while not self._released.wait(0.02):
                request.wfile.write(b"x")
        elif behaviour == "closes":
            request.connection.close()
        else:
            status, said = answers[behaviour]
            if 200 <= status < 300 and behaviour in ("ok", "success"):
                self.taken.append(body)
            request.send_response(status)
            if behaviour == "slow down":
                request.send_header("Retry-After", "600")
            if behaviour == "redirects":
                request.send_header("Location", self.url)
            request.end_headers()
            request.wfile.write(said)


@pytest.fixture
def webhook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Webhook]:
    # Patient, so that a busy machine is no failure; a test of what hangs sets a short deadline.
    monkeypatch.setattr(http, "DEADLINE_SECONDS", PATIENCE_SECONDS)
    server = Webhook()
    yield server
    server.close()


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'alerts.db'}"


@pytest.fixture
def book(url: str) -> AlertBook:
    return AlertBook(url, clock=lambda: NOON)


def start_process(work: Callable[..., Any], *args: Any, kill_at: str = "") -> Any:
    """A process of its own that does the work. Forked: importing everything anew costs a second."""

    def run() -> None:
        os.environ["ML_PLATFORM_KILL_AT"] = kill_at
        work(*args)

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    return process


def exit_code(process: Any) -> int:
    process.join(PATIENCE_SECONDS)
    assert process.exitcode is not None, "the process hangs"
    return process.exitcode


def states(book: AlertBook) -> dict[str, str]:
    return {alert.key: alert.state for alert in reversed(book.alerts())}


def retried(report: Any, name: str) -> datetime:
    """The instant at which a sink that failed is tried again."""
    (mine,) = [sink for sink in report.sinks if sink.sink == name]
    assert mine.next_attempt_at is not None
    return mine.next_attempt_at
