"""`python scripts/snowflake_smoke.py`: does the warehouse do on this Snowflake account what the tests say it does?

Reads the account from the environment (docs/snowflake.md), works in a schema of its own under a prefix that nobody else
has, and drops it at the end. It says of each promise whether it holds, and ends with 1 when one does not. The account
is asked for a few dozen small statements.
"""

import sys
import tempfile
import traceback
import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import polars as pl

from ml_platform.errors import PlatformError
from ml_platform.landing.loading import create_raw
from ml_platform.snowflake_account import SnowflakeAccount
from ml_platform.warehouse.base import Arrival, Column, WarehouseBusy, WarehouseError, replace_rows
from ml_platform.warehouse.snowflake import SnowflakeWarehouse

DAY = date(2017, 6, 5)
EVENING = datetime(2017, 6, 6, 3, 30, tzinfo=UTC)  # 23:30 of DAY in New York
COLUMNS = (
    Column("id", "bigint", "id"),
    Column("cents", "bigint", "dollars", "cents"),
    Column("event_ts", "timestamp", "instant", "utc"),
    Column("event_date", "date", "instant", "business_date"),
)
TABLE = "create table smoke.t (id bigint, cents bigint, event_ts timestamp, event_date date, landed_on date)"


def arrival(*ids: int) -> Arrival:
    rows = pl.DataFrame({"id": list(ids), "dollars": [1.15] * len(ids), "instant": [EVENING] * len(ids)})
    return Arrival(rows, {"landed_on": DAY})


def rows_arrive_converted_and_a_second_load_replaces_them(warehouse: SnowflakeWarehouse) -> None:
    with warehouse.session("smoke: load") as session:
        session.execute(TABLE)
        for ids in ((1, 2), (3,)):
            with session.staged("smoke.t", [arrival(*ids)], COLUMNS) as staged, session.transaction():
                replace_rows(session, staged, "smoke.t", "landed_on", [DAY])
        expect(session.read("select * from smoke.t").rows(), [(3, 115, EVENING.replace(tzinfo=None), DAY, DAY)])
        expect([table for schema, table in session.relations() if schema == "smoke"], ["t"])


def what_fails_half_way_leaves_the_old_rows(warehouse: SnowflakeWarehouse) -> None:
    with warehouse.session("smoke: roll back") as session:
        try:
            with session.staged("smoke.t", [arrival(4)], COLUMNS) as staged, session.transaction():
                replace_rows(session, staged, "smoke.t", "landed_on", [DAY])
                raise KeyboardInterrupt
        except KeyboardInterrupt:
            pass
        expect(session.read("select id from smoke.t")["id"].to_list(), [3])


def two_loads_of_one_table_wait_for_each_other(warehouse: SnowflakeWarehouse) -> None:
    claim = "update raw.claims set claims = claims + 1 where table_name = 'transactions'"
    impatient = replace(warehouse, wait_seconds=5)
    with warehouse.session("smoke: first") as first, impatient.session("smoke: second") as second:
        create_raw(first)
        with first.transaction():
            first.execute(claim)
            try:
                with second.transaction():
                    second.execute(claim)
            except WarehouseBusy:
                return
    raise AssertionError("the second load did not wait for the first")


def values_and_answers_are_exact(warehouse: SnowflakeWarehouse) -> None:
    hostile = "x'; drop table smoke.t; -- Ünï©ode"
    with warehouse.session("smoke: values") as session:
        answer = session.read(
            "select $word as word, $day - 84 as day, cast('0.10' as decimal(38, 2)) as money, $whole as whole",
            {"word": hostile, "day": DAY, "whole": 2**62},
        )
        expect(answer.rows(), [(hostile, date(2017, 3, 13), Decimal("0.10"), 2**62)])
        nulls = "select a from (select unnest($a) as a union all select null) as x order by a desc"
        expect(session.read(nulls, {"a": [1, 2]})["a"].to_list(), [2, 1, None])
        listed = "select array_agg(a order by a desc) as a from (select unnest($a) as a) as x"
        expect(session.read(listed, {"a": [1, 3, 2]})["a"].to_list(), [[3, 2, 1]])


def an_export_has_every_row(warehouse: SnowflakeWarehouse) -> None:
    ids = pl.DataFrame({"id": range(300_000)})
    with tempfile.TemporaryDirectory() as folder, warehouse.session("smoke: export") as session:
        path = Path(folder) / "rows.parquet"
        with session.staged("smoke.t", [Arrival(ids, {})], COLUMNS[:1]) as staged:
            expect(session.export(f"select id from {staged} order by id", path), ids.height)
        print(f"  the history says of this session: {session.cost() or 'nothing'}")
        expect(pl.read_parquet(path).equals(ids), True)


def a_missing_table_is_a_clear_error(warehouse: SnowflakeWarehouse) -> None:
    with warehouse.session("smoke: missing") as session:
        try:
            session.read("select * from smoke.nowhere")
        except WarehouseError as error:
            expect("ML_PLATFORM_SCHEMA_PREFIX" in error.next_step, True)
        else:
            raise AssertionError("no error at all")


CHECKS: tuple[Callable[[SnowflakeWarehouse], None], ...] = (
    rows_arrive_converted_and_a_second_load_replaces_them,
    what_fails_half_way_leaves_the_old_rows,
    two_loads_of_one_table_wait_for_each_other,
    values_and_answers_are_exact,
    an_export_has_every_row,
    a_missing_table_is_a_clear_error,
)


def expect(found: object, wanted: object) -> None:
    if found != wanted:
        raise AssertionError(f"{found!r} instead of {wanted!r}")


def main() -> int:
    """Runs every check. Returns 1 when one fails."""
    try:
        account = SnowflakeAccount.from_env()
        own = replace(account, schema_prefix=f"{account.schema_prefix}smoke_{uuid.uuid4().hex[:8]}_")
        warehouse = SnowflakeWarehouse(own, {"run": "smoke"})
        with warehouse.session("smoke: begin") as session:
            session.execute("create schema smoke")
    except PlatformError as error:
        print(f"✗ {error}")
        return 1
    failed = 0
    try:
        for check in CHECKS:
            said = check.__name__.replace("_", " ")
            try:
                check(warehouse)
                print(f"✓ {said}")
            except (PlatformError, AssertionError) as error:
                failed += 1
                print(f"✗ {said}: {error}")
                traceback.print_exc()
    finally:
        with warehouse.session("smoke: end") as session:
            for schema in ("smoke", "raw"):
                session.execute(f"drop schema if exists {schema} cascade")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
