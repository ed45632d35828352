"""A road to the emulator that fails as asked: statements that are refused for now, or never answered."""

import gzip
import http.client
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Road:
    """`faults`: for statements that begin with a word, how often each is met by 429, or by silence where the number is
    negative; `seen`: every statement that came by, with those that were not let through."""

    faults: dict[str, int] = field(default_factory=dict)
    seen: list[str] = field(default_factory=list)

    def fault(self, statement: str) -> str | None:
        self.seen.append(statement)
        for word, times in self.faults.items():
            if statement.lower().startswith(word) and times:
                self.faults[word] -= 1 if times > 0 else -1
                return "throttled" if times > 0 else "dropped"
        return None

    def count(self, word: str) -> int:
        return sum(statement.lower().startswith(word) for statement in self.seen)


@contextmanager
def flaky(emulator: Mapping[str, str]) -> Iterator[tuple[Road, dict[str, str]]]:
    """The road, and the environment that leads over it."""
    road = Road()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def forward(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if self.path.startswith("/queries/v1/query-request"):
                plain = gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body
                fault = road.fault(json.loads(plain)["sqlText"].strip())
                if fault == "dropped":
                    self.close_connection = True
                    return
                if fault == "throttled":
                    self.answer(429, b"{}", {})
                    return
            there = http.client.HTTPConnection(emulator["SNOWFLAKE_HOST"], int(emulator["SNOWFLAKE_PORT"]))
            there.request(self.command, self.path, body, dict(self.headers))
            answer = there.getresponse()
            self.answer(answer.status, answer.read(), {"Content-Type": answer.headers.get("Content-Type", "")})
            there.close()

        do_GET = do_POST = do_PUT = forward

        def answer(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield road, {**emulator, "SNOWFLAKE_PORT": str(server.server_address[1])}
    finally:
        server.shutdown()
        server.server_close()
