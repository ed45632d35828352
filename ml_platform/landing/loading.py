"""Loading: each delivery enters the warehouse once, whole, and with those of its chunk in one transaction.

`raw.loads` is the ledger of it, written in the same transaction as the rows; so the rows of a landing day are there
exactly when the ledger says so, whatever was killed when. The same digest again is a no-op, another one is refused.
Deliveries are loaded in landing order, which keeps `landed_on` clustered and its zone maps sharp. A transaction claims
its table first: where two runs may load at once, the second waits, and then finds what the first has left.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, date, datetime

from ml_platform.calendar import days
from ml_platform.errors import PlatformError
from ml_platform.killpoints import kill_point
from ml_platform.landing.contract import ContractViolation, verify
from ml_platform.landing.files import Delivery
from ml_platform.landing.tables import RAW_TABLES, RawTable
from ml_platform.warehouse.base import Arrival, Session, quote, replace_rows

DELIVERIES_AT_ONCE = 64
ROWS_AT_ONCE = 2_000_000
"""The bounds of a chunk: a statement costs a second in a warehouse far away, whatever it moves."""


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


def create_raw(session: Session, external: Collection[str] = ()) -> None:
    """Creates the raw schema, its tables and the load ledger where they are missing. `external`: what is no table here,
    but a view of one that is elsewhere (`landing.external`)."""
    session.execute("create schema if not exists raw")
    for table in (table for name, table in RAW_TABLES.items() if name not in external):
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
    session.execute("create table if not exists raw.claims (table_name varchar not null, claims bigint not null)")
    session.execute(
        """
        insert into raw.claims
        select table_name, 0 from (select unnest($table_names) as table_name) as known
        where table_name not in (select table_name from raw.claims)
        """,
        {"table_names": list(RAW_TABLES)},
    )


def load_all(
    session: Session,
    table: RawTable,
    deliveries: Sequence[Delivery],
    progress: Callable[[LoadOutcome], None] = lambda outcome: None,
) -> list[LoadOutcome]:
    """Loads what is not in the warehouse yet, chunk by chunk in landing order; `create_raw` came before.

    Raises ContractViolation or DeliveryChanged at the first delivery that is refused: those before it are loaded and
    stay so, and a later call goes on from there.
    """
    digests = _digests(session, table)
    in_order = sorted(deliveries, key=lambda delivery: delivery.landed_on)
    changed = [each for each in in_order if digests.get(each.landed_on, each.sha256) != each.sha256]
    outcomes = []
    for chunk in _chunks(in_order[: in_order.index(changed[0])] if changed else in_order):
        refused = _load(session, table, [delivery for delivery in chunk if delivery.landed_on not in digests])
        for delivery in chunk:
            if refused and delivery.landed_on >= refused.landed_on:
                raise refused
            outcomes.append(LoadOutcome(delivery.landed_on, delivery.rows, loaded=delivery.landed_on not in digests))
            progress(outcomes[-1])
    if changed:
        raise _other_digest(changed[0], digests[changed[0].landed_on])
    return outcomes


def _digests(session: Session, table: RawTable) -> dict[date, str]:
    """What of the table is loaded: its digest by landing day."""
    known = session.read(
        "select landed_on, sha256 from raw.loads where table_name = $table_name", {"table_name": table.name}
    )
    return dict(known.iter_rows())


def _other_digest(delivery: Delivery, loaded: str) -> DeliveryChanged:
    return DeliveryChanged(
        f"{delivery.table} of {delivery.landed_on} was loaded with digest {loaded[:12]}…, "
        f"and is now {delivery.sha256[:12]}…",
        where=delivery.folder,
        next_step="restore the delivery that was loaded, and deliver the difference as a later day's file",
    )


def _chunks(in_order: Sequence[Delivery]) -> Iterator[list[Delivery]]:
    chunk: list[Delivery] = []
    for delivery in in_order:
        rows = delivery.rows + sum(each.rows for each in chunk)
        if chunk and (len(chunk) == DELIVERIES_AT_ONCE or rows > ROWS_AT_ONCE):
            yield chunk
            chunk = []
        chunk.append(delivery)
    if chunk:
        yield chunk


def _load(session: Session, table: RawTable, arriving: Sequence[Delivery]) -> ContractViolation | None:
    """Loads the deliveries before the first that is refused; why that one may not enter, None when all are loaded."""
    refused = _first_violation(table, arriving)
    sound = [delivery for delivery in arriving if refused is None or delivery.landed_on < refused.landed_on]
    if not sound:
        return refused
    arrivals = [Arrival(delivery.data_path, {"landed_on": delivery.landed_on}) for delivery in sound]
    with session.staged(table.relation, arrivals, table.columns) as staged:
        if table.fixed and (moved := _first_moved_version(session, table, sound, staged)):
            refused = moved
            sound = [delivery for delivery in sound if delivery.landed_on < moved.landed_on]
        if sound:
            _insert(session, table, sound, staged)
    return refused


def _first_violation(table: RawTable, arriving: Sequence[Delivery]) -> ContractViolation | None:
    """Why the first delivery that breaks the contract may not enter. One after the other costs three times as much."""

    def violation(delivery: Delivery) -> ContractViolation | None:
        try:
            verify(table, delivery)
        except ContractViolation as error:
            return error
        return None

    with ThreadPoolExecutor() as pool:
        return next((found for found in pool.map(violation, arriving) if found is not None), None)


def _first_moved_version(
    session: Session, table: RawTable, arriving: Sequence[Delivery], staged: str
) -> ContractViolation | None:
    """A correction has the values its row should have had, never another place in time: sums by day rest on it."""
    names = ", ".join(quote(name) for name in (*table.key, *table.fixed))
    key = ", ".join(quote(name) for name in table.key)
    moved = " or ".join(f"new.{quote(name)} <> old.{quote(name)}" for name in table.fixed)
    found = session.read(
        f"""
        with versions as (
            select {names}, landed_on, true as is_loaded from {quote(table.relation)}
            union all
            select {names}, landed_on, false as is_loaded from {staged}
        )
        select new.landed_on, {key} from versions as old join {staged} as new using ({key})
        where ({moved}) and (old.is_loaded or old.landed_on < new.landed_on)
        order by new.landed_on, {key} limit 1
        """
    )
    for row in found.iter_rows(named=True):
        day = row.pop("landed_on")
        delivery = next(each for each in arriving if each.landed_on == day)
        return ContractViolation(
            "changed_fixed_column", f"a version of {row} has another {', '.join(table.fixed)}", delivery
        )
    return None


def _insert(session: Session, table: RawTable, chunk: Sequence[Delivery], staged: str) -> None:
    named: dict[str, object] = {"table_name": table.name}
    with session.transaction():
        session.execute("update raw.claims set claims = claims + 1 where table_name = $table_name", named)
        # Again, now that nobody else can load: another run may have done so since this one looked.
        digests = _digests(session, table)
        for delivery in chunk:
            if digests.get(delivery.landed_on, delivery.sha256) != delivery.sha256:
                raise _other_digest(delivery, digests[delivery.landed_on])
        fresh = [delivery for delivery in chunk if delivery.landed_on not in digests]
        if not fresh:
            return
        replace_rows(session, staged, table.relation, "landed_on", [delivery.landed_on for delivery in fresh])
        kill_point("load:rows-inserted")
        values, bound = [], dict(named)
        for number, delivery in enumerate(fresh):
            values.append(f"($table_name, $day_{number}, $sha256_{number}, $rows_{number}, $loaded_at)")
            bound |= {f"day_{number}": delivery.landed_on, f"sha256_{number}": delivery.sha256}
            bound[f"rows_{number}"] = delivery.rows
        bound["loaded_at"] = datetime.now(UTC).replace(tzinfo=None)
        session.execute(f"insert into raw.loads values {', '.join(values)}", bound)
        kill_point("load:before-commit")
    kill_point("load:committed")
