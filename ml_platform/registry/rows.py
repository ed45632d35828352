"""The ledger's tables as SQLAlchemy sees them, and its records as their rows and back."""

import json
from datetime import date, datetime
from typing import Any

import sqlalchemy as sa

from ml_platform.registry.records import Entry, ModelVersion, RecordedVerdict, Retirement, Waiver

_schema = sa.MetaData()
VERSIONS = sa.Table(
    "versions",
    _schema,
    *(sa.Column(name, sa.Text) for name in ("model", "bundle_digest", "bundle_uri", "cutoff", "training_set_digest")),
    *(sa.Column(name, sa.Text) for name in ("spec_digest", "run_id", "tracking_run_id", "registered_at")),
    sa.Column("version", sa.Integer),
)
VERDICTS = sa.Table(
    "verdicts",
    _schema,
    *(sa.Column(name, sa.Text) for name in ("model", "digest", "body", "recorded_at")),
    *(sa.Column(name, sa.Integer) for name in ("version", "seq", "champion_version")),
)
ENTRIES = sa.Table(
    "entries",
    _schema,
    *(sa.Column(name, sa.Text) for name in ("model", "action", "who", "reason", "evidence_digest", "waivers")),
    *(sa.Column(name, sa.Integer) for name in ("seq", "from_version", "to_version")),
    sa.Column("recorded_at", sa.Text),
)
RETIREMENTS = sa.Table(
    "retirements",
    _schema,
    *(sa.Column(name, sa.Text) for name in ("model", "who", "reason", "evidence", "recorded_at")),
    *(sa.Column(name, sa.Integer) for name in ("version", "champion_version")),
)


def row_of(record: ModelVersion | RecordedVerdict | Entry | Retirement) -> dict[str, Any]:
    """A record as the text and numbers of its table."""
    return {name: value.isoformat() if isinstance(value, date) else value for name, value in record.__dict__.items()}


def _typed(row: sa.Row, **read: Any) -> dict[str, Any]:
    """A table row with its instants read back, and `read` in place of the columns of those names."""
    values = row._mapping.items()
    return {name: datetime.fromisoformat(text) if name.endswith("_at") else text for name, text in values} | read


def version_of(row: sa.Row) -> ModelVersion:
    return ModelVersion(**_typed(row, cutoff=date.fromisoformat(row.cutoff)))


def verdict_of(row: sa.Row) -> RecordedVerdict:
    return RecordedVerdict(**_typed(row, body=json.loads(row.body)))


def retirement_of(row: sa.Row) -> Retirement:
    return Retirement(**_typed(row, evidence=json.loads(row.evidence)))


def entry_of(row: sa.Row) -> Entry:
    return Entry(**_typed(row, waivers=tuple(Waiver.from_json(stated) for stated in json.loads(row.waivers))))
