"""The outbox: what there is still to tell, and to whom.

Concept: a notification is written with the change it tells of, together with one delivery per sink that is known then.
A delivery stays pending until its sink has taken it. A sink is known from its first delivery on.

Invariants:
- A delivery leaves the outbox only as delivered. A failure keeps its cause and the instant of the next attempt.
- What was sent together as a digest is sent together again: its members are kept before it is first sent, so a sender
  killed before it could mark them repeats the very same digest.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from ml_platform.alerts import schema
from ml_platform.alerts.records import Alert, Digest, Event, Message, Notification
from ml_platform.database import Database

_deliveries, _notifications = schema.deliveries, schema.notifications


@dataclass(frozen=True)
class SinkState:
    """How a sink does: attempts that failed in a row, why the last one did, and when the next may be made."""

    attempts: int
    next_attempt_at: datetime | None
    cause: str | None


@dataclass(frozen=True)
class Pending:
    """A message that a sink has not taken yet, and how the attempts at it went."""

    message: Message
    attempts: int
    next_attempt_at: datetime | None

    @property
    def notifications(self) -> tuple[Notification, ...]:
        return self.message.notifications if isinstance(self.message, Digest) else (self.message,)

    @property
    def alert_ids(self) -> set[int]:
        return {notification.alert.id for notification in self.notifications}


class Outbox:
    """Reads and marks the deliveries of a book."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(
        self, connection: sa.Connection, alerts: Sequence[Alert], event: Event, at: datetime, recorded_at: datetime
    ) -> None:
        """Notes inside the caller's transaction that this is to be told of these alerts, to every known sink."""
        last = connection.scalar(sa.select(sa.func.max(_notifications.c.number))) or 0
        said = {"event": event, "at": at.isoformat(), "recorded_at": recorded_at.isoformat()}
        rows = [{"number": number, "alert_id": a.id, **said} for number, a in enumerate(alerts, start=last + 1)]
        connection.execute(_notifications.insert(), rows)
        _expect(connection, schema.sinks.c.sink.is_not(None), _notifications.c.number > last)

    def join(self, names: Iterable[str]) -> None:
        """Makes sinks known. The first ones ever are told everything, later ones of the alerts that are still open."""
        with self._database.reading() as connection:
            known = set(connection.scalars(sa.select(schema.sinks.c.sink)))
        if set(names) <= known:
            return
        with self._database.writing() as connection:
            known = set(connection.scalars(sa.select(schema.sinks.c.sink)))
            new = sorted(set(names) - known)
            if new:
                connection.execute(schema.sinks.insert(), [{"sink": name, "attempts": 0} for name in new])
                still_open = sa.select(schema.alerts.c.id).where(schema.alerts.c.state == "open")
                told = _notifications.c.alert_id.in_(still_open) if known else sa.true()
                _expect(connection, schema.sinks.c.sink.in_(new), told)

    def states(self) -> dict[str, SinkState]:
        """Every known sink, by name."""
        with self._database.reading() as connection:
            rows = connection.execute(sa.select(schema.sinks).order_by(schema.sinks.c.sink)).all()
        return {row.sink: SinkState(row.attempts, _instant(row.next_attempt_at), row.cause) for row in rows}

    def pending(self, sink: str) -> list[Pending]:
        """Every message not yet taken, in the order of events; the members of a digest together."""
        chosen = (
            sa.select(_deliveries, _notifications.c.event, _notifications.c.at, schema.alerts)
            .join(_notifications, _notifications.c.number == _deliveries.c.number)
            .join(schema.alerts, schema.alerts.c.id == _notifications.c.alert_id)
            .where(_deliveries.c.sink == sink, _deliveries.c.state == "pending")
            .order_by(_deliveries.c.number)
            .set_label_style(sa.LABEL_STYLE_TABLENAME_PLUS_COL)
        )
        with self._database.reading() as connection:
            rows = connection.execute(chosen).all()
        groups: dict[tuple[str, int], list[sa.Row]] = {}
        for row in rows:
            digest = row.alert_deliveries_digest
            groups.setdefault(
                ("single", row.alert_deliveries_number) if digest is None else ("digest", digest), []
            ).append(row)
        return [_pending(kind == "digest", members) for (kind, _), members in groups.items()]

    def count(self, sink: str) -> int:
        """How many notifications the sink has not taken."""
        chosen = sa.select(sa.func.count()).where(_deliveries.c.sink == sink, _deliveries.c.state == "pending")
        with self._database.reading() as connection:
            return connection.scalar(chosen) or 0

    def fold(self, sink: str, singles: Sequence[Pending]) -> Pending:
        """Keeps that these messages are told as one digest from now on."""
        members = tuple(notification for single in singles for notification in single.notifications)
        first = members[0].number
        with self._database.writing() as connection:
            connection.execute(
                _deliveries.update()
                .where(_deliveries.c.sink == sink, _deliveries.c.number == sa.bindparam("member"))
                .values(digest=first, attempts=0, next_attempt_at=None),
                [{"member": notification.number} for notification in members],
            )
        return Pending(Digest(members), 0, None)

    def delivered(self, sink: str, pending: Pending, now: datetime) -> None:
        """The sink has taken the message: it is well."""
        with self._database.writing() as connection:
            _update(connection, sink, pending, state="delivered", delivered_at=now.isoformat(), cause=None)
            well = schema.sinks.update().where(schema.sinks.c.sink == sink)
            connection.execute(well.values(attempts=0, next_attempt_at=None, cause=None))

    def refused(self, sink: str, pending: Pending, cause: str, next_attempt_at: datetime) -> None:
        """The sink works and does not take this message: it waits, the others go on."""
        attempts = pending.attempts + 1
        with self._database.writing() as connection:
            _update(
                connection, sink, pending, attempts=attempts, cause=cause, next_attempt_at=next_attempt_at.isoformat()
            )

    def down(self, sink: str, attempts: int, cause: str, next_attempt_at: datetime) -> None:
        """The sink does not work: everything for it waits."""
        broken = schema.sinks.update().where(schema.sinks.c.sink == sink)
        with self._database.writing() as connection:
            connection.execute(
                broken.values(attempts=attempts, next_attempt_at=next_attempt_at.isoformat(), cause=cause)
            )


def _expect(connection: sa.Connection, sinks: Any, notifications: Any) -> None:
    """One pending delivery for each of these sinks and notifications."""
    columns = (schema.sinks.c.sink, _notifications.c.number, sa.literal("pending"), sa.literal(0))
    every = schema.sinks.join(_notifications, sa.true())
    wanted = sa.select(*columns).select_from(every).where(sinks, notifications)
    connection.execute(_deliveries.insert().from_select(["sink", "number", "state", "attempts"], wanted))


def _update(connection: sa.Connection, sink: str, pending: Pending, **values: Any) -> None:
    if isinstance(pending.message, Digest):
        these = _deliveries.c.digest == pending.message.notifications[0].number
    else:
        these = _deliveries.c.number == pending.message.number
    connection.execute(_deliveries.update().where(_deliveries.c.sink == sink, these).values(**values))


def _pending(is_digest: bool, rows: Sequence[sa.Row]) -> Pending:
    members = tuple(_notification(row) for row in rows)
    first = rows[0]
    return Pending(
        Digest(members) if is_digest else members[0],
        first.alert_deliveries_attempts,
        _instant(first.alert_deliveries_next_attempt_at),
    )


def _notification(row: sa.Row) -> Notification:
    return Notification(
        number=row.alert_deliveries_number,
        event=row.alert_notifications_event,
        at=datetime.fromisoformat(row.alert_notifications_at),
        alert=alert_of(row, prefix="alerts_"),
    )


def alert_of(row: sa.Row, prefix: str = "") -> Alert:
    """An alert as its table row has it; `prefix` stands before the columns of a joined row."""
    stated: dict[str, Any] = {column.name: row._mapping[prefix + column.name] for column in schema.alerts.c}
    for name in ("since", "opened_at", "resolved_at", "acked_at"):
        stated[name] = _instant(stated[name])
    return Alert(**stated)


def _instant(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
