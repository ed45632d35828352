"""The book's tables, as numbered migrations (see `ml_platform.database`).

Their names all begin with `alert`, so that the book may share a PostgreSQL database with the ledger. To change the
schema, append a migration, and a dump of the version before it to the tests.
"""

import sqlalchemy as sa

from ml_platform.alerts.records import AlertsTooNew, AlertsUnavailable
from ml_platform.database import Holding, Migration

HOLDING = Holding(
    name="the book of alerts",
    variable="ML_PLATFORM_ALERTS_URL",
    versions="alert_schema_version",
    writer_lock=0x6D6C706D,  # the ledger's and one
    unavailable=AlertsUnavailable,
    too_new=AlertsTooNew,
)

_schema = sa.MetaData()


def _table(name: str, whole: str, text: str) -> sa.Table:
    columns = [sa.Column(column, sa.Integer) for column in whole.split()]
    return sa.Table(name, _schema, *columns, *(sa.Column(column, sa.Text) for column in text.split()))


sources = _table("alert_sources", "", "source observed_at")
alerts = _table(
    "alerts",
    "id",
    "source key kind severity owner asset title promised found since link"
    " state opened_at resolved_at acked_by acked_at",
)
notifications = _table("alert_notifications", "number alert_id", "event at recorded_at")
sinks = _table("alert_sinks", "attempts", "sink next_attempt_at cause")
deliveries = _table("alert_deliveries", "number digest attempts", "sink state next_attempt_at cause delivered_at")


def _first(_: str) -> list[str]:
    return [
        "create table alert_sources (source text primary key, observed_at text not null)",
        """create table alerts (
            id integer primary key, source text not null, key text not null, kind text not null,
            severity text not null check (severity in ('page', 'ticket', 'info')), owner text not null, asset text,
            title text not null, promised text not null, found text not null, since text not null, link text,
            state text not null check (state in ('open', 'resolved', 'told')), opened_at text not null,
            resolved_at text, acked_by text, acked_at text)""",
        "create unique index alerts_one_open on alerts (source, key) where state = 'open'",
        "create unique index alerts_told_once on alerts (key) where state = 'told'",
        """create table alert_notifications (
            number integer primary key, alert_id integer not null references alerts (id),
            event text not null check (event in ('opened', 'acknowledged', 'resolved', 'told')),
            at text not null, recorded_at text not null, unique (alert_id, event))""",
        """create table alert_sinks (
            sink text primary key, attempts integer not null, next_attempt_at text, cause text)""",
        """create table alert_deliveries (
            sink text not null references alert_sinks (sink),
            number integer not null references alert_notifications (number),
            state text not null check (state in ('pending', 'delivered')), digest integer,
            attempts integer not null, next_attempt_at text, cause text, delivered_at text,
            primary key (sink, number))""",
        "create index alert_deliveries_pending on alert_deliveries (sink, number) where state = 'pending'",
    ]


MIGRATIONS: tuple[Migration, ...] = (Migration(1, _first),)
