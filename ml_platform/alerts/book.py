"""The book of alerts: which promises are broken, since when, and what there is to tell of it.

Concept: observers say what is broken now, as often as they like; the book turns that into alerts. A promise that breaks
is one alert, open until an observation of the same source no longer names it. What is to be told of it goes into the
outbox, which `ml_platform.alerts.delivery` empties.

Invariants:
- One observation is one transaction, its notifications included: a process killed at any moment leaves all or nothing.
- At most one open alert per source and key, whoever observes, and however often; the database holds to it too.
- The words of an alert are those of the moment it broke; while it stays broken, nothing about it changes.
- Alerts are ordered by number, never by time, and none is resolved before it opened. An observation older than the one
  before it (a clock moved back, a late observer) is told and not believed; the next one counts again.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from ml_platform.alerts import schema
from ml_platform.alerts.outbox import Outbox, alert_of
from ml_platform.alerts.records import (
    Alert,
    Condition,
    ConditionRejected,
    Event,
    NothingToAcknowledge,
    State,
    UnknownAlert,
    in_utc,
)
from ml_platform.alerts.text import LONGEST_SOURCE, clean, clean_key
from ml_platform.database import Database
from ml_platform.killpoints import kill_point

TOLD = "told"  # the source of what was told once and never observed


class AlertBook:
    """Opens the book at a SQLAlchemy URL (`sqlite:///path` or `postgresql+psycopg2://…`), made or migrated as needed.

    Raises AlertsTooNew, AlertsUnavailable, or ConfigurationError for a URL or driver that cannot serve. `clock` says
    when something was written; when it happened is said with each observation. Instants are UTC.
    """

    def __init__(self, url: str, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._database = Database(url, schema.HOLDING)
        self.where = self._database.where
        self.outbox = Outbox(self._database)
        self._clock = clock
        self._database.migrate(schema.MIGRATIONS, clock())

    def observe(self, source: str, broken: Sequence[Condition], at: datetime) -> list[Alert]:
        """Takes all that is broken of one source at an instant; the alerts this resolved and opened, in that order.

        `broken` is the whole set: what was broken and is not in it holds again. A key given twice counts once. Raises
        ConditionRejected for a source without a name and for an instant without a zone.
        """
        if not (source := clean_key(source, LONGEST_SOURCE)) or source == TOLD:
            raise ConditionRejected(f"{source!r} names no observer", where="source", next_step="name who observes")
        at = in_utc(at, f"observation of {source}")
        conditions: dict[str, Condition] = {}
        environ = dict(os.environ)  # reading os.environ anew for every text would cost most of a tick
        for condition in broken:
            conditions.setdefault(clean_key(condition.key, environ=environ), condition)
        with self._database.writing() as connection:
            before = _mark(connection, source, at)
            if before is not None and at < before:
                changed = self._tell(connection, _clock_moved_back(source, before, at), at)
            else:
                changed = self._compare(connection, source, conditions, at)
            kill_point("alerts.observing")
        kill_point("alerts.observed")
        return changed

    def tell(self, condition: Condition, at: datetime) -> Alert | None:
        """Tells of an event that is over as soon as it happened, once per key for ever; None if it was told before."""
        at = in_utc(at, f"event {condition.key!r}")
        with self._database.writing() as connection:
            told = self._tell(connection, _cleaned(condition, os.environ), at)
            kill_point("alerts.telling")
        return told[0] if told else None

    def tell_all(self, conditions: Sequence[Condition], at: datetime) -> list[Alert]:
        """As `tell` for many events, most of them told before: they cost one look, and only news is written."""
        environ = dict(os.environ)
        by_key = {clean_key(condition.key, environ=environ): condition for condition in conditions}
        told = sa.select(schema.alerts.c.key).where(schema.alerts.c.state == "told")
        with self._database.reading() as connection:
            known = set(connection.scalars(told.where(schema.alerts.c.key.in_(list(by_key)))))
        news = (self.tell(condition, at) for key, condition in by_key.items() if key not in known)
        return [alert for alert in news if alert]

    def alerts(self, open_only: bool = False, limit: int | None = None) -> list[Alert]:
        """The newest alerts, newest first."""
        chosen = sa.select(schema.alerts).order_by(schema.alerts.c.id.desc()).limit(limit)
        if open_only:
            chosen = chosen.where(schema.alerts.c.state == "open")
        with self._database.reading() as connection:
            return [alert_of(row) for row in connection.execute(chosen)]

    def ack(self, id: int, who: str, at: datetime) -> Alert:
        """Notes who looks after an alert; the first one stays, and a second is a no-op.

        Raises UnknownAlert, NothingToAcknowledge for a promise that holds again, ConditionRejected without a name.
        """
        if not (who := clean(who)):
            raise ConditionRejected("an acknowledgement has a name", where=f"alert {id}", next_step="say who")
        at = in_utc(at, f"acknowledgement of alert {id}")
        with self._database.writing() as connection:
            row = connection.execute(sa.select(schema.alerts).where(schema.alerts.c.id == id)).one_or_none()
            if row is None:
                raise UnknownAlert(
                    f"there is no alert {id}", where=self.where, next_step="see `mlp alerts --all` for their numbers"
                )
            alert = alert_of(row)
            if alert.acked_by is not None:
                return alert
            if alert.state == "resolved":
                raise NothingToAcknowledge(
                    f"{alert.title}: it holds again since {alert.resolved_at:%Y-%m-%d %H:%M} UTC",
                    where=f"alert {id}",
                    next_step="nothing; see `mlp alerts` for what is still broken",
                )
            acked = replace(alert, acked_by=who, acked_at=max(at, alert.opened_at))
            self._change(connection, [acked], "acknowledged", at)
        return acked

    def _compare(
        self, connection: sa.Connection, source: str, broken: dict[str, Condition], at: datetime
    ) -> list[Alert]:
        """Resolves what is open and no longer broken, opens what is broken and not yet open."""
        chosen = sa.select(schema.alerts).where(schema.alerts.c.source == source, schema.alerts.c.state == "open")
        known = [alert_of(row) for row in connection.execute(chosen.order_by(schema.alerts.c.id))]
        resolved: list[Alert] = [
            replace(alert, state="resolved", resolved_at=max(at, alert.opened_at))
            for alert in known
            if alert.key not in broken
        ]
        self._change(connection, resolved, "resolved", at)
        environ, still = dict(os.environ), {alert.key for alert in known}
        news = [_cleaned(condition, environ) for key, condition in broken.items() if key not in still]
        return resolved + self._add(connection, source, news, "open", "opened", at)

    def _tell(self, connection: sa.Connection, condition: Condition, at: datetime) -> list[Alert]:
        same = sa.select(schema.alerts.c.id).where(
            schema.alerts.c.key == condition.key, schema.alerts.c.state == "told"
        )
        if connection.execute(same).first() is not None:
            return []
        return self._add(connection, TOLD, [condition], "told", "told", at)

    def _add(
        self,
        connection: sa.Connection,
        source: str,
        conditions: Sequence[Condition],
        state: State,
        event: Event,
        at: datetime,
    ) -> list[Alert]:
        """New alerts, numbered on from the last: writers stand in line, so no number is given twice."""
        if not conditions:
            return []
        last = connection.scalar(sa.select(sa.func.max(schema.alerts.c.id))) or 0
        added = [
            Alert(**condition.__dict__, id=id, source=source, state=state, opened_at=at)
            for id, condition in enumerate(conditions, start=last + 1)
        ]
        connection.execute(schema.alerts.insert(), [_row(alert) for alert in added])
        self.outbox.put(connection, added, event, at, self._clock())
        return added

    def _change(self, connection: sa.Connection, changed: Sequence[Alert], event: Event, at: datetime) -> None:
        """Writes the fields that a later event may set, and what there is to tell of it."""
        if not changed:
            return
        rows = [
            {"changed": row["id"], **{name: row[name] for name in ("state", "resolved_at", "acked_by", "acked_at")}}
            for row in map(_row, changed)
        ]
        connection.execute(schema.alerts.update().where(schema.alerts.c.id == sa.bindparam("changed")), rows)
        self.outbox.put(connection, changed, event, at, self._clock())


def _mark(connection: sa.Connection, source: str, at: datetime) -> datetime | None:
    """Notes when the source was observed; the instant of the observation before."""
    table, of_source = schema.sources, schema.sources.c.source == source
    text = connection.scalar(sa.select(table.c.observed_at).where(of_source))
    if text is None:
        connection.execute(table.insert().values(source=source, observed_at=at.isoformat()))
        return None
    connection.execute(table.update().where(of_source).values(observed_at=at.isoformat()))
    return datetime.fromisoformat(text)


def _clock_moved_back(source: str, before: datetime, at: datetime) -> Condition:
    """At most one a day and source: two observers whose clocks differ would otherwise tell it at every tick."""
    return Condition(
        key=clean_key(f"clock/{at:%Y-%m-%d}/{source}"),
        kind="sensor",
        severity="ticket",
        owner="team:platform",
        asset=None,
        title=f"The clock of {source} moved back",
        promised=f"no observation older than that of {before:%Y-%m-%d %H:%M:%S} UTC",
        found=f"one of {at:%Y-%m-%d %H:%M:%S} UTC, which was not believed; the next one counts again",
        since=at,
    )


def _cleaned(condition: Condition, environ: Mapping[str, str]) -> Condition:
    """The condition in words that may be kept. Raises ConditionRejected where nothing is left of one it needs."""
    said = {name: getattr(condition, name) for name in ("owner", "title", "promised", "found", "asset", "link")}
    return replace(
        condition,
        key=clean_key(condition.key, environ=environ),
        since=in_utc(condition.since, f"condition {condition.key!r}"),
        **{name: text if text is None else clean(text, environ=environ) for name, text in said.items()},
    )


def _row(alert: Alert) -> dict[str, Any]:
    """An alert as the text and numbers of its table."""
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in alert.__dict__.items()}
