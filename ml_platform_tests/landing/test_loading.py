"""Each delivery enters the warehouse once, whole, whatever is killed when."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from ml_platform.landing.contract import ContractViolation
from ml_platform.landing.files import LandingFolder, encode
from ml_platform.landing.loading import DeliveryChanged, DeliveryMissing, create_raw, demand_every_day, load_all
from ml_platform.landing.tables import RAW_TABLES
from ml_platform.warehouse.base import Session, Warehouse
from ml_platform.warehouse.duckdb import DuckDBWarehouse
from ml_platform_tests import processes
from ml_platform_tests.landing.conftest import DAY, NOON, deliver, line, lines
from ml_platform_tests.processes import SIGKILLED
from ml_platform_tests.warehouse.fixtures import any_warehouse

__all__ = ["any_warehouse"]

TABLE = RAW_TABLES["transactions"]
NEXT_DAY = DAY + timedelta(days=1)


@pytest.fixture
def session(any_warehouse: Warehouse) -> Iterator[Session]:
    with any_warehouse.session("test") as session:
        create_raw(session)
        yield session


def load_everything(path: Path, root: Path) -> None:
    with DuckDBWarehouse(path).session("load") as session:
        create_raw(session)
        load_all(session, TABLE, LandingFolder(root).deliveries(TABLE.name, date.min, date.max))


def rows_by_day(session: Session, relation: str = "raw.transactions") -> dict[date, int]:
    return dict(
        session.read(
            f"select landed_on, count(*) as n from {relation} group by landed_on order by landed_on"
        ).iter_rows()
    )


def test_dollars_become_cents_and_instants_become_utc_with_the_shops_date_beside(
    session: Session, folder: LandingFolder
) -> None:
    late_evening = datetime(2017, 6, 6, 3, 30, tzinfo=UTC)  # 23:30 on DAY in New York
    prices = {"sales_value": 1.15, "retail_disc": 0.29, "coupon_disc": 1.005, "coupon_match_disc": 840.0}
    load_all(session, TABLE, [folder.land("transactions", DAY, lines(line(event_ts=late_evening, **prices)))])
    (row,) = session.read("select * from raw.transactions").iter_rows(named=True)
    assert (row["sales_cents"], row["retail_disc_cents"], row["coupon_match_disc_cents"]) == (115, 29, 84000)
    assert row["event_ts"] == late_evening.replace(tzinfo=None)
    assert (row["event_date"], row["landed_on"]) == (DAY, DAY)


@pytest.mark.parametrize(
    ("instant", "shops_date"),
    [
        (datetime(2017, 3, 12, 4, 59, tzinfo=UTC), date(2017, 3, 11)),  # winter time: UTC-5
        (datetime(2017, 3, 13, 3, 59, tzinfo=UTC), date(2017, 3, 12)),  # summer time since that morning: UTC-4
        (datetime(2017, 3, 13, 4, 0, tzinfo=UTC), date(2017, 3, 13)),
        (datetime(2017, 11, 6, 4, 59, tzinfo=UTC), date(2017, 11, 5)),  # winter time again
    ],
)
def test_the_shops_date_follows_daylight_saving(
    session: Session, folder: LandingFolder, instant: datetime, shops_date: date
) -> None:
    load_all(session, TABLE, [folder.land("transactions", shops_date, lines(line(event_ts=instant)))])
    assert session.read("select event_date from raw.transactions")["event_date"][0] == shops_date


def test_the_same_delivery_again_is_a_no_op(session: Session, folder: LandingFolder) -> None:
    delivery = folder.land("transactions", DAY, lines(line()))
    (first,) = load_all(session, TABLE, [delivery])
    (again,) = load_all(session, TABLE, [delivery])
    assert (first.loaded, again.loaded, again.rows) == (True, False, 1)
    assert rows_by_day(session) == {DAY: 1}


def test_a_changed_delivery_is_refused_and_what_was_loaded_stays(session: Session, folder: LandingFolder) -> None:
    load_all(session, TABLE, [folder.land("transactions", DAY, lines(line()))])
    changed = deliver(folder, encode(lines(line(sales_value=9.0))))
    with pytest.raises(DeliveryChanged, match="later day's file"):
        load_all(session, TABLE, [changed])
    assert session.read("select sales_cents from raw.transactions")["sales_cents"].to_list() == [199]


def test_a_closed_day_is_loaded_with_no_rows(session: Session, folder: LandingFolder) -> None:
    load_all(session, TABLE, [folder.land("transactions", DAY, lines(), closed=True)])
    assert rows_by_day(session) == {}
    assert rows_by_day(session, "raw.loads") == {DAY: 1}


def test_deliveries_before_a_refused_one_are_loaded_and_stay_so(session: Session, folder: LandingFolder) -> None:
    good = [folder.land("transactions", DAY + timedelta(days=i), lines(line(basket_id=i))) for i in (0, 1, 3)]
    bad = deliver(folder, encode(lines(line()).drop_columns(["quantity"])), day=DAY + timedelta(days=2))
    with pytest.raises(ContractViolation) as caught:
        load_all(session, TABLE, [*reversed(good), bad])
    assert caught.value.landed_on == bad.landed_on
    assert list(rows_by_day(session)) == [DAY, NEXT_DAY]


def test_a_correction_and_a_withdrawal_of_a_line_are_loaded_beside_it(session: Session, folder: LandingFolder) -> None:
    versions = [line(), line(sales_value=2.49), line(sales_value=2.49, is_withdrawn=True)]
    load_all(
        session,
        TABLE,
        [folder.land("transactions", DAY + timedelta(days=i), lines(row)) for i, row in enumerate(versions)],
    )
    found = session.read("select sales_cents, is_withdrawn, event_date from raw.transactions order by landed_on")
    assert found.rows() == [(199, False, DAY), (249, False, DAY), (249, True, DAY)]


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("first_loaded", [DAY, NEXT_DAY])
def test_a_correction_that_moves_a_line_in_time_is_refused(
    session: Session, folder: LandingFolder, together: bool, first_loaded: date
) -> None:
    by_day = {
        DAY: folder.land("transactions", DAY, lines(line())),
        NEXT_DAY: folder.land("transactions", NEXT_DAY, lines(line(event_ts=NOON + timedelta(hours=1)))),
    }
    if not together:
        load_all(session, TABLE, [by_day[first_loaded]])
    with pytest.raises(ContractViolation, match="another event_ts") as caught:
        load_all(session, TABLE, list(by_day.values()))
    assert caught.value.rule == "changed_fixed_column"
    assert len(rows_by_day(session)) == 1


@pytest.mark.parametrize(
    ("point", "days_after_the_kill"),
    [
        ("load:rows-inserted", [DAY]),
        ("load:before-commit", [DAY]),
        ("load:committed", [DAY, NEXT_DAY, NEXT_DAY + timedelta(days=1)]),
    ],
)
def test_a_load_killed_anywhere_leaves_the_old_table_or_the_new_and_converges(
    warehouse: DuckDBWarehouse, folder: LandingFolder, point: str, days_after_the_kill: list[date]
) -> None:
    for offset in range(3):
        rows = lines(*(line(basket_id=100 * offset + i) for i in range(50)))
        folder.land("transactions", DAY + timedelta(days=offset), rows)
        if offset == 0:
            assert processes.run(load_everything, warehouse.path, folder.root) == 0
    assert processes.run(load_everything, warehouse.path, folder.root, kill_at=point) == SIGKILLED
    with warehouse.session("look") as session:
        assert rows_by_day(session) == dict.fromkeys(days_after_the_kill, 50)
        assert list(rows_by_day(session, "raw.loads")) == days_after_the_kill
    assert processes.run(load_everything, warehouse.path, folder.root) == 0
    with warehouse.session("look") as session:
        assert list(rows_by_day(session).values()) == [50, 50, 50]
        assert list(rows_by_day(session, "raw.loads").values()) == [1, 1, 1]


def test_creating_the_raw_tables_again_keeps_their_rows(session: Session, folder: LandingFolder) -> None:
    load_all(session, TABLE, [folder.land("transactions", DAY, lines(line()))])
    create_raw(session)
    assert rows_by_day(session) == {DAY: 1}


def test_a_daily_table_with_a_day_missing_says_which(folder: LandingFolder) -> None:
    landed = [folder.land("transactions", DAY, lines(line()))]
    demand_every_day(TABLE, landed, DAY, DAY)
    with pytest.raises(DeliveryMissing, match="the first is 2017-06-06"):
        demand_every_day(TABLE, landed, DAY, NEXT_DAY)


def test_two_months_of_every_table_load_once_and_every_row_of_them(session: Session, year: LandingFolder) -> None:
    for table in RAW_TABLES.values():
        deliveries = year.deliveries(table.name, date.min, date(2017, 2, 28))
        landed = sum(delivery.rows for delivery in deliveries)
        outcomes = load_all(session, table, deliveries)
        assert sum(outcome.rows for outcome in outcomes if outcome.loaded) == landed > 0
        assert not any(outcome.loaded for outcome in load_all(session, table, deliveries))
        assert session.read(f"select count(*) as n from {table.relation}")["n"][0] == landed
