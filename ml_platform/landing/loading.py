"""Loading: each delivery enters the warehouse once, whole, in one transaction.

`raw.loads` is the ledger of it, written in the same transaction as the rows; so the rows of a landing day are there
exactly when the ledger says so, whatever was killed when. The same digest again is a no-op, another one is refused.
Deliveries are loaded in landing order, which keeps `landed_on` clustered and its zone maps sharp.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date

from ml_platform.calendar import days
from ml_platform.errors import PlatformError
from ml_platform.killpoints import kill_point
from ml_platform.landing.contract import ContractViolation, verify
from ml_platform.landing.files import Delivery
from ml_platform.landing.tables import RAW_TABLES, RawTable
from ml_platform.warehouse.base import Session, quote


class DeliveryMissing(PlatformError):
    """A daily table has no delivery on a day it was asked for."""


class DeliveryChanged(PlatformError):
    """A delivery that has been loaded now has another digest."""


@dataclass(frozen=True)
class LoadOutcome:
    """`loaded` is False for a delivery that was in the warehouse already; `rows` is its row count either way."""

    landed_on: date
    rows: int
    loaded: bool


def demand_every_day(table: RawTable, deliveries: Sequence[Delivery], first: date, last: date) -> None:
    """A daily table lands every day, a closed day too. Raises DeliveryMissing for the days from first to last without one."""
    if table.cadence != "daily":
        return
    missing = sorted(set(days(first, last)) - {delivery.landed_on for delivery in deliveries})
    if missing:
        raise DeliveryMissing(
            f"{len(missing)} of the days asked for have not landed, the first is {missing[0]}",
            where=table.name,
            next_step=f"land them (`mlp land --until {missing[-1]}`), or ask for days that have",
        )


def create_raw(session: Session) -> None:
    """Creates the raw schema, its tables and the load ledger where they are missing."""
    session.execute("create schema if not exists raw")
    for table in RAW_TABLES.values():
        columns = ", ".join(f"{quote(column.name)} {column.type}" for column in table.columns)
        session.execute(f"create table if not exists {quote(table.relation)} ({columns}, landed_on date not null)")
    session.execute(
        """
        create table if not exists raw.loads (
            table_name varchar not null, landed_on date not null, sha256 varchar not null, row_count bigint not null,
            loaded_at timestamp not null, primary key (table_name, landed_on)
        )
        """
    )


def load(session: Session, table: RawTable, delivery: Delivery) -> LoadOutcome:
    """`load_all` for one delivery."""
    return load_all(session, table, [delivery])[0]


def load_all(
    session: Session,
    table: RawTable,
    deliveries: Sequence[Delivery],
    progress: Callable[[LoadOutcome], None] = lambda outcome: None,
) -> list[LoadOutcome]:
    """Loads what is not in the warehouse yet, one transaction each, in landing order; `create_raw` came before.

    Raises ContractViolation or DeliveryChanged at the first delivery that is refused: those before it are loaded and
    stay so, and a later call goes on from there.
    """
    known = session.read(
        "select landed_on, sha256 from raw.loads where table_name = $table_name", {"table_name": table.name}
    )
    digests: dict[date, str] = dict(known.iter_rows())
    outcomes = []
    for delivery in sorted(deliveries, key=lambda each: each.landed_on):
        digest = digests.get(delivery.landed_on)
        if digest is None:
            verify(table, delivery)
            _insert(session, table, delivery)
            digests[delivery.landed_on] = delivery.sha256
        elif digest != delivery.sha256:
            raise DeliveryChanged(
                f"{table.name} of {delivery.landed_on} was loaded with digest {digest[:12]}…, "
                f"and is now {delivery.sha256[:12]}…",
                where=delivery.folder,
                next_step="restore the delivery that was loaded, and deliver the difference as a later day's file",
            )
        outcomes.append(LoadOutcome(delivery.landed_on, delivery.rows, loaded=digest is None))
        progress(outcomes[-1])
    return outcomes


def _insert(session: Session, table: RawTable, delivery: Delivery) -> None:
    day = {"landed_on": delivery.landed_on}
    with session.transaction():
        rows = session.insert_parquet(table.relation, delivery.data_path, table.columns, day)
        kill_point("load:rows-inserted")
        if table.fixed and rows:
            _refuse_moved_rows(session, table, delivery)
        session.execute(
            "insert into raw.loads values ($table_name, $landed_on, $sha256, $row_count, now() at time zone 'UTC')",
            {"table_name": table.name, **day, "sha256": delivery.sha256, "row_count": rows},
        )
        kill_point("load:before-commit")
    kill_point("load:committed")


def _refuse_moved_rows(session: Session, table: RawTable, delivery: Delivery) -> None:
    """A correction has the values its row should have had, never another place in time: sums by day rest on it."""
    key = ", ".join(quote(column) for column in table.key)
    moved = " or ".join(f"new.{quote(column)} <> old.{quote(column)}" for column in table.fixed)
    found = session.read(
        f"""
        with new as (select * from {quote(table.relation)} where landed_on = $landed_on)
        select {key} from {quote(table.relation)} as old join new using ({key})
        where old.landed_on <> $landed_on and ({moved}) order by {key} limit 1
        """,
        {"landed_on": delivery.landed_on},
    )
    if found.height:
        raise ContractViolation(
            "changed_fixed_column",
            f"a version of {found.row(0, named=True)} differs from another in {', '.join(table.fixed)}",
            delivery,
        )
