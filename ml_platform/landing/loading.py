"""Loading: each delivery enters the warehouse once, whole, in one transaction.

`raw.loads` is the ledger of it, written in the same transaction as the rows; so the rows of a landing day are there
exactly when the ledger says so, whatever was killed when. The same digest again is a no-op, another one is refused.
Deliveries are loaded in landing order, which keeps `landed_on` clustered and its zone maps sharp.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
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
    """A daily table lands every day, a closed day too. Raises DeliveryMissing for a day from first to last without."""
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
    in_order = sorted(deliveries, key=lambda delivery: delivery.landed_on)
    arriving = [delivery for delivery in in_order if delivery.landed_on not in digests]
    refused = _refusals(session, table, arriving)
    outcomes = []
    for delivery in in_order:
        digest = digests.get(delivery.landed_on)
        if digest is None:
            if delivery.landed_on in refused:
                raise refused[delivery.landed_on]
            _insert(session, table, delivery)
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


def _refusals(session: Session, table: RawTable, arriving: Sequence[Delivery]) -> dict[date, ContractViolation]:
    """Why a landing day's delivery may not enter. All are looked at together: one by one costs three times as much."""

    def violation(delivery: Delivery) -> ContractViolation | None:
        try:
            verify(table, delivery)
        except ContractViolation as error:
            return error
        return None

    with ThreadPoolExecutor() as pool:
        found = dict(zip((each.landed_on for each in arriving), pool.map(violation, arriving), strict=True))
    refused = {day: error for day, error in found.items() if error is not None}
    sound = [delivery for delivery in arriving if delivery.landed_on not in refused]
    if table.fixed and sound and (moved := _first_moved_version(session, table, sound)):
        refused[moved.landed_on] = moved
    return refused


def _first_moved_version(session: Session, table: RawTable, arriving: Sequence[Delivery]) -> ContractViolation | None:
    """A correction has the values its row should have had, never another place in time: sums by day rest on it."""
    columns = [column for column in table.columns if column.name in (*table.key, *table.fixed)]
    declared = ", ".join(f"{quote(column.name)} {column.type}" for column in columns)
    session.execute(f"create or replace temporary table arriving ({declared}, landed_on date)")
    for delivery in arriving:
        session.insert_parquet("arriving", delivery.data_path, columns, {"landed_on": delivery.landed_on})
    names = ", ".join(quote(column.name) for column in columns)
    key = ", ".join(quote(name) for name in table.key)
    moved = " or ".join(f"new.{quote(name)} <> old.{quote(name)}" for name in table.fixed)
    found = session.read(
        f"""
        with versions as (
            select {names}, landed_on, true as is_loaded from {quote(table.relation)}
            union all
            select {names}, landed_on, false as is_loaded from arriving
        )
        select new.landed_on, {key} from versions as old join arriving as new using ({key})
        where ({moved}) and (old.is_loaded or old.landed_on < new.landed_on)
        order by new.landed_on, {key} limit 1
        """
    )
    session.execute("drop table arriving")
    for row in found.iter_rows(named=True):
        day = row.pop("landed_on")
        delivery = next(each for each in arriving if each.landed_on == day)
        return ContractViolation(
            "changed_fixed_column", f"a version of {row} has another {', '.join(table.fixed)}", delivery
        )
    return None


def _insert(session: Session, table: RawTable, delivery: Delivery) -> None:
    day = {"landed_on": delivery.landed_on}
    with session.transaction():
        rows = session.insert_parquet(table.relation, delivery.data_path, table.columns, day)
        kill_point("load:rows-inserted")
        session.execute(
            "insert into raw.loads values ($table_name, $landed_on, $sha256, $row_count, now() at time zone 'UTC')",
            {"table_name": table.name, **day, "sha256": delivery.sha256, "row_count": rows},
        )
        kill_point("load:before-commit")
    kill_point("load:committed")
