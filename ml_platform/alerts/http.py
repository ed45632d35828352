"""One bounded POST of JSON to somebody else's server.

The whole exchange has a deadline, not each of its reads: a server that drips a byte a second is as dead as one that
hangs. It runs in a thread of its own that is left behind when time is up. No redirect is followed, because a POST
becomes a GET on the way and then succeeds without having said anything.
"""

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any

from ml_platform.alerts.text import clean
from ml_platform.errors import PlatformError
from ml_platform.redaction import REDACTED, SHORTEST_SECRET, redact_text

DEADLINE_SECONDS = 5.0
LONGEST_ANSWER_BYTES = 64 * 1024
SHOWN_ANSWER = 200  # characters
OF_THE_MESSAGE = {400, 413, 422}  # the other refusals are about the address, the key or the pace


class SinkDown(PlatformError):
    """The sink takes nothing now. `retry_after_seconds` is what it asked for, if it did."""

    def __init__(self, what: str, *, where: object, retry_after_seconds: float | None = None) -> None:
        self.retry_after_seconds = retry_after_seconds
        super().__init__(what, where=where, next_step="nothing is lost: it is sent again; mend the sink")


class MessageRefused(PlatformError):
    """The sink works, and does not take this message."""


@dataclass(frozen=True)
class Answer:
    """What a server said. `shown` is its body in words that may be kept."""

    status: int
    body: bytes
    shown: str
    sink: str

    def garbage(self, promised: str) -> SinkDown:
        """It answered, but not as its API promises."""
        return SinkDown(f"it answered {self.status} with {self.shown or 'nothing'}; {promised}", where=self.sink)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def post_json(
    url: str,
    body: Mapping[str, Any],
    *,
    sink: str,
    secrets: Sequence[str] = (),
) -> Answer:
    """The answer to a POST, if its status is 2xx. `secrets` are hidden in what errors say.

    Raises MessageRefused for status 400, 413 and 422, SinkDown for every other failure.
    """
    if not url.startswith(("https://", "http://")):
        raise SinkDown("its address does not begin with https:// or http://", where=sink)
    seconds = DEADLINE_SECONDS
    outcome: list[Answer | PlatformError] = []
    sender = threading.Thread(
        target=lambda: outcome.append(_outcome(url, body, sink, secrets, seconds)), name=f"alerts-{sink}", daemon=True
    )
    sender.start()
    sender.join(seconds)
    said = outcome[0] if outcome else SinkDown(f"no whole answer within {seconds:g} s", where=sink)
    if isinstance(said, Answer):
        return said
    raise said


def _outcome(
    url: str, body: Mapping[str, Any], sink: str, secrets: Sequence[str], seconds: float
) -> Answer | PlatformError:
    """An error as a value: one raised in a thread would be lost."""
    hide = _Hider(secrets)
    try:
        request = urllib.request.Request(
            url, json.dumps(body).encode(), {"Content-Type": "application/json", "User-Agent": "ml-platform"}
        )
        opener = urllib.request.build_opener(_NoRedirect)
        with opener.open(request, timeout=seconds) as response:
            said = response.read(LONGEST_ANSWER_BYTES)
            return Answer(response.status, said, hide(said), sink)
    except urllib.error.HTTPError as error:
        with error:
            return _refusal(error, hide, sink)
    except TimeoutError:
        return SinkDown(f"no answer within {seconds:g} s", where=sink)
    except Exception as error:  # whatever it is, the caller waits for a word
        reason = getattr(error, "reason", error)
        return SinkDown(f"{type(reason).__name__}: {hide(str(reason).encode('utf-8', 'replace'))}", where=sink)


def _refusal(error: urllib.error.HTTPError, hide: "_Hider", sink: str) -> PlatformError:
    try:
        said = hide(error.read(LONGEST_ANSWER_BYTES))
    except (OSError, HTTPException):
        said = "a torn answer"
    what = f"it answered {error.code} with {said or 'nothing'}"
    if error.code in OF_THE_MESSAGE:
        return MessageRefused(what, where=sink, next_step="nothing is lost: see the book with `mlp alerts --all`")
    wanted = error.headers.get("Retry-After", "")
    return SinkDown(what, where=sink, retry_after_seconds=float(wanted) if wanted.isdecimal() else None)


class _Hider:
    """Bytes as words that may be kept, without these secrets."""

    def __init__(self, secrets: Sequence[str]) -> None:
        addresses = [secret.partition("://")[2] for secret in secrets]
        paths = [address.partition("/")[2] for address in addresses]
        self._secrets = [part for part in (*secrets, *addresses, *paths) if len(part) >= SHORTEST_SECRET]

    def __call__(self, said: bytes) -> str:
        text = said.decode("utf-8", "replace")
        for secret in self._secrets:
            text = text.replace(secret, REDACTED)
        return clean(redact_text(text), SHOWN_ANSWER)
