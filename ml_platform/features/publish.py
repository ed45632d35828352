"""Publishing a feature table: each Monday is read, written aside, checked, and only then swapped into sight.

What breaks its contract or does not agree with the audit is kept aside for a look; readers go on seeing what was there.
"""

from dataclasses import dataclass
from datetime import date

import polars as pl

from ml_platform.contracts import FeatureTable
from ml_platform.features.audit import AuditOutcome, audit_point_in_time, sampled_households
from ml_platform.features.store import FeatureStore
from ml_platform.lake import Published
from ml_platform.warehouse.base import Session, quote


@dataclass(frozen=True)
class Week:
    """What became of one Monday: `published` is None when `failures` or `audit` kept it aside."""

    as_of: date
    rows: int
    published: Published | None
    failures: pl.DataFrame
    audit: AuditOutcome


def publish_week(session: Session, store: FeatureStore, table: FeatureTable, as_of: date) -> Week:
    """Reads `table` as of a Monday from the warehouse, checks it and publishes it; one atomic swap."""
    columns = ", ".join(quote(column) for column in table.schema())
    frame = table.conform(
        session.read(f"select {columns} from {quote(table.relation)} where as_of = $as_of", {"as_of": as_of})
    )
    partitions = store.table(table.name)
    staged = partitions.stage(as_of.isoformat(), frame, {"landed_before": as_of.isoformat()})
    outcome = table.check(frame)
    known = {"as_of": as_of, "households": sampled_households(frame)}
    audit = audit_point_in_time(table, frame, session.read(table.audit_sql.read_text(), known))
    if outcome.passed and audit.passed:
        return Week(as_of, frame.height, partitions.publish(staged), outcome.failure_cases, audit)
    partitions.set_aside(staged, "contract" if not outcome.passed else "point_in_time")
    return Week(as_of, frame.height, None, outcome.failure_cases, audit)
