"""Where alerts go: JSON lines on disk, a Slack-shaped webhook, PagerDuty's Events API v2.

Concept: a `Sink` takes one message or says why not. `SinkDown` is about the sink (it hangs, it answers 500 or garbage,
its key is wrong), `MessageRefused` about this one message. Nothing here retries or remembers; `delivery` does.

Invariants: an answer counts only if it is the one its API promises, so a login page with status 200 is a failure; an
address or key never appears in a cause. A message may come twice: each carries its dedup key.
"""

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from ml_platform.alerts.http import Answer, MessageRefused, SinkDown, post_json
from ml_platform.alerts.records import BREAKING, Digest, Message, Notification, Severity
from ml_platform.settings import Settings

__all__ = ["JsonLines", "MessageRefused", "PagerDuty", "Sink", "SinkDown", "Slack", "read_lines", "sinks_from_env"]

LINE_FORMAT_VERSION = 1
PAGERDUTY_URL = "https://events.pagerduty.com/v2/enqueue"
PAGERDUTY_SEVERITY: dict[Severity, str] = {"page": "critical", "ticket": "warning", "info": "info"}
PAGERDUTY_ACTION = {"opened": "trigger", "told": "trigger", "acknowledged": "acknowledge", "resolved": "resolve"}
PAGERDUTY_LONGEST_SUMMARY = 1024
SLACK_MARKS = {"opened": ":red_circle:", "acknowledged": ":eyes:", "resolved": ":large_green_circle:", "told": ":memo:"}


class Sink(Protocol):
    """Takes messages. `send` returns when the message is safe there; it raises SinkDown or MessageRefused if not."""

    @property
    def name(self) -> str: ...

    def send(self, notification: Message) -> None: ...


class JsonLines:
    """One JSON object a line, on disk before `send` returns. Read it with `read_lines`."""

    name = "jsonl"

    def __init__(self, path: Path) -> None:
        self.path = path

    def send(self, notification: Message) -> None:
        """Appends under a lock; a line that a killed writer left torn is ended first, so that it spoils no other."""
        line = json.dumps({"format_version": LINE_FORMAT_VERSION, **notification.to_json()}, ensure_ascii=False) + "\n"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open(self.path, "ab+", buffering=0) as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                whole = (b"\n" if _ends_torn(file.fileno()) else b"") + line.encode()
                written = file.write(whole)
                if written != len(whole):
                    raise OSError(f"only {written} of {len(whole)} bytes could be written")
                os.fsync(file.fileno())
        except OSError as error:
            raise SinkDown(f"{self.path.name} cannot be written: {error.strerror or error}", where=self.name) from None


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The messages of a JSON lines file, each once by its dedup key; what is torn or of another format is left out."""
    seen = set()
    for line in path.read_bytes().splitlines() if path.exists() else ():
        try:
            message = json.loads(line)
            key, version = message["dedup_key"], message["format_version"]
        except (ValueError, TypeError, KeyError):
            continue
        if version == LINE_FORMAT_VERSION and key not in seen:
            seen.add(key)
            yield message


def _ends_torn(file: int) -> bool:
    size = os.fstat(file).st_size
    return size > 0 and os.pread(file, 1, size - 1) != b"\n"


class Slack:
    """An incoming webhook of Slack, or of what speaks like it. Success is the answer `ok`."""

    name = "slack"

    def __init__(self, url: str) -> None:
        self._url = url

    def send(self, notification: Message) -> None:
        answer = post_json(self._url, slack_body(notification), sink=self.name, secrets=(self._url,))
        if answer.body.strip() != b"ok":
            raise answer.garbage("Slack says `ok`")


def slack_body(message: Message) -> dict[str, Any]:
    """`text` is what a phone shows, `blocks` what the channel shows, `metadata` what tells a repeated message."""
    lines = _slack_digest(message) if isinstance(message, Digest) else _slack_lines(message)
    return {
        "text": lines[0],
        "blocks": [{"type": "section", "text": {"type": "mrkdwn", "text": "\n".join(lines)[:3000]}}],
        "metadata": {"event_type": "ml_platform_alert", "event_payload": {"dedup_key": message.dedup_key}},
    }


def _slack_lines(notification: Notification) -> list[str]:
    alert = notification.alert
    said = [f"{SLACK_MARKS[notification.event]} *{notification.event}* [{alert.severity}] {_slack_text(alert.title)}"]
    if notification.event in BREAKING:
        said += [f"promised: {_slack_text(alert.promised)}", f"found: {_slack_text(alert.found)}"]
    if notification.event == "acknowledged":
        said.append(f"by {_slack_text(alert.acked_by or '')}")
    said.append(f"since {alert.since:%Y-%m-%d %H:%M} UTC · owner {_slack_text(alert.owner)} · alert {alert.id}")
    if alert.asset:
        asset = _slack_text(alert.asset)
        linked = f"<{_slack_text(alert.link)}|{asset}>" if alert.link and _is_web(alert.link) else asset
        said.append(f"asset {linked}")
    return [*said, f"runbook {alert.runbook}"]


def _slack_digest(digest: Digest) -> list[str]:
    first = [f"• {n.event} [{n.alert.severity}] {_slack_text(n.alert.title)}" for n in digest.first_few]
    return [f":warning: *{_slack_text(digest.title)}*", *first, "all of them: `mlp alerts --all`"]


def _slack_text(text: str) -> str:
    """Text that calls nobody (`<!channel>`) and links nowhere."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("|", "¦")


def _is_web(link: str) -> bool:
    return link.startswith(("http://", "https://"))


class PagerDuty:
    """PagerDuty's Events API v2, or what speaks like it. Success is status 2xx and `{"status": "success"}`.

    A digest is one incident for all that broke, but each acknowledgement and resolution in it is sent by itself: they
    call nobody, and an incident that was opened alone would otherwise stay open. A digest's incident is closed by hand.
    """

    name = "pagerduty"

    def __init__(self, url: str, routing_key: str) -> None:
        self._url, self._key = url, routing_key

    def send(self, notification: Message) -> None:
        for body in pagerduty_bodies(notification, self._key):
            answer = post_json(self._url, body, sink=self.name, secrets=(self._key,))
            if not _is_success(answer):
                raise answer.garbage("PagerDuty says `success`")


def pagerduty_bodies(message: Message, routing_key: str) -> list[dict[str, Any]]:
    """The events of a message, in the order they have to be sent."""
    if isinstance(message, Notification):
        return [_pagerduty_event(message, routing_key)]
    quiet = [_pagerduty_event(n, routing_key) for n in message.notifications if n.event not in BREAKING]
    if len(quiet) == len(message.notifications):
        return quiet
    details = {"counts": message.counts, "first": [n.alert.title for n in message.first_few]}
    payload = _pagerduty_payload(message.title, message.severity, message.notifications[-1].at.isoformat(), details)
    trigger = {"event_action": "trigger", "dedup_key": message.dedup_key, "payload": payload}
    return [{"routing_key": routing_key, "client": "ml-platform", **trigger}, *quiet]


def _pagerduty_event(notification: Notification, routing_key: str) -> dict[str, Any]:
    """What breaks is described, what follows only names it: PagerDuty finds the incident by its key."""
    alert, key = notification.alert, notification.alert.dedup_key
    action = PAGERDUTY_ACTION[notification.event]
    event = {"routing_key": routing_key, "event_action": action, "dedup_key": key}
    if action != "trigger":
        return event
    details = {name: getattr(alert, name) for name in ("kind", "owner", "promised", "found", "runbook")}
    details |= {"alert": alert.id, "since": alert.since.isoformat()}
    payload = _pagerduty_payload(alert.title, alert.severity, notification.at.isoformat(), details)
    payload |= {"component": alert.asset, "class": alert.kind}
    links = [{"href": alert.link, "text": alert.asset or alert.title}] if alert.link and _is_web(alert.link) else []
    return {**event, "client": "ml-platform", "payload": payload, "links": links}


def _pagerduty_payload(summary: str, severity: Severity, timestamp: str, details: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "summary": summary[:PAGERDUTY_LONGEST_SUMMARY],
        "source": "ml-platform",
        "severity": PAGERDUTY_SEVERITY[severity],
        "timestamp": timestamp,
        "custom_details": dict(details),
    }


def _is_success(answer: Answer) -> bool:
    try:
        return json.loads(answer.body)["status"] == "success"
    except (ValueError, TypeError, KeyError):
        return False


def sinks_from_env(settings: Settings, environ: Mapping[str, str] = os.environ) -> list[Sink]:
    """JSON lines always; Slack and PagerDuty where the environment has their address or key."""
    sinks: list[Sink] = [JsonLines(settings.alerts_log)]
    if url := environ.get("ML_PLATFORM_SLACK_URL"):
        sinks.append(Slack(url))
    if key := environ.get("ML_PLATFORM_PAGERDUTY_KEY"):
        sinks.append(PagerDuty(environ.get("ML_PLATFORM_PAGERDUTY_URL") or PAGERDUTY_URL, key))
    return sinks
