"""What is alerted: broken promises, the alerts made of them and the notifications sent, as frozen records.

Concept: a `Condition` is a promise that is broken now, as an observer sees it. An `Alert` is what is stored of it: one
row from the moment it broke until it holds again. A `Notification` is one thing to tell people about an alert, and a
`Digest` is many of them told as one.

Only the standard library is imported, so that the graph can name these types at no cost.
"""

from collections import Counter
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Literal, get_args

from ml_platform.errors import PlatformError

Severity = Literal["page", "ticket", "info"]
Kind = Literal[
    "freshness", "check", "run", "sensor", "gate", "rollback", "drift", "performance", "alias", "slo", "promotion"
]
State = Literal["open", "resolved", "told"]
Event = Literal["opened", "acknowledged", "resolved", "told"]

SEVERITIES: tuple[Severity, ...] = get_args(Severity)  # worst first
KINDS: tuple[Kind, ...] = get_args(Kind)
BREAKING: tuple[Event, ...] = ("opened", "told")  # the events that are news to act on
FIRST_FEW = 5  # of a digest, by name


class ConditionRejected(PlatformError):
    """A condition lacks what makes an alert good, or says it in no known word."""


class UnknownAlert(PlatformError):
    """There is no alert of this number."""


class NothingToAcknowledge(PlatformError):
    """The promise holds again: nobody has to look after it."""


class AlertsUnavailable(PlatformError):
    """The book of alerts cannot be opened, read or written."""


class AlertsTooNew(PlatformError):
    """The book of alerts was written by a newer release; reading it with this one could misread it."""


@dataclass(frozen=True)
class Condition:
    """A promise that is broken now. `key` names the promise and stays the same for as long as it is broken.

    `title` is read first; `promised` and `found` say the same measure twice (at most 26 h old; 31 h old). `since` is
    when it broke. `link` leads to the asset in the UI. What is stored is cleaned first (`ml_platform.alerts.text`).
    Raises ConditionRejected for an unknown kind or severity, an empty key, title or owner, or an instant without zone.
    """

    key: str
    kind: Kind
    severity: Severity
    owner: str
    asset: str | None
    title: str
    promised: str
    found: str
    since: datetime
    link: str | None = None

    def __post_init__(self) -> None:
        where = f"condition {self.key!r}"
        for name, known in (("kind", KINDS), ("severity", SEVERITIES)):
            if getattr(self, name) not in known:
                raise ConditionRejected(
                    f"{getattr(self, name)!r} is no {name}", where=where, next_step=f"one of: {', '.join(known)}"
                )
        for name in ("key", "title", "owner"):
            if not getattr(self, name).strip():
                raise ConditionRejected(f"it has no {name}", where=where, next_step=f"say its {name}")
        in_utc(self.since, where)

    @property
    def runbook(self) -> str:
        """The page for whoever is called, in the repository."""
        return f"docs/runbooks/{self.kind}.md"


@dataclass(frozen=True, kw_only=True)
class Alert(Condition):
    """A broken promise as it is stored, in the words of the moment it broke. `id` counts from 1 and orders alerts.

    `source` is who observed it. An event that was only told (a refusal, a rollback) is never open.
    """

    id: int
    source: str
    state: State
    opened_at: datetime
    resolved_at: datetime | None = None
    acked_by: str | None = None
    acked_at: datetime | None = None

    @property
    def dedup_key(self) -> str:
        """What a receiver knows the incident by: the same whenever this promise of this source breaks."""
        return f"{self.source}/{self.key}"


@dataclass(frozen=True)
class Notification:
    """One thing to tell about an alert. `number` counts from 1 over all; `alert` is as it stands now."""

    number: int
    event: Event
    at: datetime
    alert: Alert

    @property
    def dedup_key(self) -> str:
        """The same however often it is sent: a receiver that counts these counts each event once."""
        return f"{self.alert.dedup_key}#{self.alert.id}/{self.event}"

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; instants in ISO 8601, UTC."""
        said = {"dedup_key": self.dedup_key, "event": self.event, "at": self.at.isoformat()}
        return {**said, "incident": self.alert.dedup_key, "alert": alert_row(self.alert)}


@dataclass(frozen=True)
class Digest:
    """Many notifications told as one, so that a storm is one message. Their order is that of the events."""

    notifications: tuple[Notification, ...]

    @property
    def dedup_key(self) -> str:
        return f"digest/{self.notifications[0].number}-{self.notifications[-1].number}"

    @property
    def severity(self) -> Severity:
        """The worst of what broke; info where all of it holds again."""
        broken = (SEVERITIES.index(n.alert.severity) for n in self.notifications if n.event in BREAKING)
        return SEVERITIES[min(broken, default=SEVERITIES.index("info"))]

    @property
    def counts(self) -> dict[str, int]:
        """How many of each event, severity and kind ("opened page freshness"), worst first."""
        counted = Counter((n.event, n.alert.severity, n.alert.kind) for n in self.notifications)
        ordered = sorted(counted, key=lambda named: (SEVERITIES.index(named[1]), named))
        return {" ".join(named): counted[named] for named in ordered}

    @property
    def first_few(self) -> tuple[Notification, ...]:
        """The worst ones, oldest first among equals."""
        return tuple(sorted(self.notifications, key=lambda n: (SEVERITIES.index(n.alert.severity), n.number)))[
            :FIRST_FEW
        ]

    @property
    def title(self) -> str:
        counts = ", ".join(f"{count} {named}" for named, count in self.counts.items())
        return f"{len(self.notifications)} alerts at once: {counts}"

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values. `covers` has the key of every notification that it stands for."""
        return {
            "dedup_key": self.dedup_key,
            "event": "digest",
            "at": self.notifications[-1].at.isoformat(),
            "severity": self.severity,
            "title": self.title,
            "counts": self.counts,
            "first": [n.to_json() for n in self.first_few],
            "covers": [n.dedup_key for n in self.notifications],
        }


Message = Notification | Digest


def in_utc(instant: datetime, where: object) -> datetime:
    """The same instant in UTC. Raises ConditionRejected for a naive one."""
    if instant.tzinfo is None:
        raise ConditionRejected(
            f"{instant.isoformat()} says no time zone", where=where, next_step="give an instant in UTC"
        )
    return instant.astimezone(UTC)


def _plain(value: object) -> object:
    return value.isoformat() if isinstance(value, datetime) else value


def alert_row(alert: Alert) -> dict[str, Any]:
    """An alert as plain JSON values, with its runbook."""
    first = ("id", "source", "state")
    stated = {name: _plain(value) for name, value in asdict(alert).items()}
    return {**{name: stated[name] for name in first}, **stated, "runbook": alert.runbook}
