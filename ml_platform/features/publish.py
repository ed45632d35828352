"""Publishing a feature table: each Monday is read, written aside, checked, and only then swapped into sight.

What breaks its contract or does not agree with the audit is kept aside for a look; readers go on seeing what was there.
A Monday is published only when every daily file that lands before it is in the warehouse: what is still to be loaded
would be missing from the features and from their audit alike.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import polars as pl

from ml_platform.calendar import DAY, OPENING_DAY, days
from ml_platform.contracts import CheckOutcome, FeatureTable
from ml_platform.errors import PlatformError
from ml_platform.features.audit import AuditOutcome, audit_point_in_time, sampled_entities
from ml_platform.features.store import FeatureStore
from ml_platform.lake import Published
from ml_platform.landing.tables import DAILY
from ml_platform.warehouse.base import Session, quote

MONDAYS_AT_ONCE = 8
"""Bounds the memory of a backfill: 8 Mondays of the largest reference table are 800,000 rows."""


class NotYetLanded(PlatformError):
    """A Monday is asked for before all that lands before it is in the warehouse."""


@dataclass(frozen=True)
class Week:
    """What became of one Monday: `published` is None when `failures` or `audit` kept it aside."""

    as_of: date
    rows: int
    published: Published | None
    failures: pl.DataFrame
    audit: AuditOutcome


def publish_weeks(session: Session, store: FeatureStore, table: FeatureTable, as_ofs: Sequence[date]) -> list[Week]:
    """Reads `table` as of each Monday from the warehouse, checks it and publishes it; one atomic swap a Monday.

    Raises NotYetLanded, ContractViolation (the relation has not the declared columns), LakeWriteFailed.
    """
    columns = ", ".join(quote(column) for column in table.schema())
    query = f"select {columns} from {quote(table.relation)} where as_of in (select unnest($as_ofs))"
    weeks = []
    for start in range(0, len(as_ofs), MONDAYS_AT_ONCE):
        chunk = as_ofs[start : start + MONDAYS_AT_ONCE]
        for as_of in chunk:
            _demand_landed(session, as_of)
        frame = table.conform(session.read(query, {"as_ofs": list(chunk)}))
        # A scan, and a check, of several Mondays cost little more than of one: only a failure is looked at by the week.
        together = table.check(frame)
        for as_of in chunk:
            rows = frame.filter(pl.col("as_of") == as_of)
            outcome = together if together.passed else table.check(rows)
            weeks.append(_publish(session, store, table, as_of, rows, outcome))
    return weeks


def _publish(
    session: Session, store: FeatureStore, table: FeatureTable, as_of: date, frame: pl.DataFrame, outcome: CheckOutcome
) -> Week:
    """Audits one Monday's rows and swaps them into sight, or keeps them aside."""
    partitions = store.table(table.name)
    staged = partitions.stage(as_of.isoformat(), frame, {"landed_before": as_of.isoformat()})
    entities = sampled_entities(table, frame)
    recomputed = session.read(table.audit_sql.read_text(), {"as_of": as_of, "entities": entities})
    audit = audit_point_in_time(table, frame, recomputed, entities)
    if outcome.passed and audit.passed:
        return Week(as_of, frame.height, partitions.publish(staged), outcome.failure_cases, audit)
    differing = f"{audit.mismatches.height} of {audit.compared} values differ from the point-in-time recomputation"
    partitions.set_aside(staged, differing if outcome.passed else outcome.explain())
    return Week(as_of, frame.height, None, outcome.failure_cases, audit)


def _demand_landed(session: Session, as_of: date) -> None:
    expected = {(name, day) for name in DAILY for day in days(OPENING_DAY + DAY, as_of - DAY)}
    loads = session.read("select table_name, landed_on from raw.loads where landed_on < $as_of", {"as_of": as_of})
    missing = sorted(expected - set(loads.iter_rows()), key=lambda load: (load[1], load[0]))
    if missing:
        raise NotYetLanded(
            f"{len(missing)} daily files that land before {as_of} are not loaded",
            where=f"{missing[0][0]} of {missing[0][1]}",
            next_step=f"land and load them (`mlp land --until {as_of - DAY}`, `mlp run`), then publish this Monday",
        )
