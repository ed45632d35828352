"""A table that the company has already is read as if it had landed, on both engines."""

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import dagster as dg
import pytest

from ml_platform.calendar import OPENING_DAY, days
from ml_platform.clock import Clock
from ml_platform.errors import ConfigurationError
from ml_platform.landing.external import (
    ExternalDayChanged,
    ExternalTable,
    ExternalTableDiffers,
    glance,
    read_external_tables,
    take,
)
from ml_platform.landing.files import LandingFolder
from ml_platform.landing.loaded import Loaded, read_loaded
from ml_platform.landing.loading import create_raw, load_all
from ml_platform.landing.tables import DAILY, RAW_TABLES, RawTable
from ml_platform.landing.through import known_through
from ml_platform.settings import REPOSITORY, Settings
from ml_platform.warehouse.base import Session, Warehouse, WarehouseError, quote
from ml_platform.warehouse.duckdb import DuckDBWarehouse
from ml_platform_tests.landing.company import keep_elsewhere
from ml_platform_tests.snowflake.fixtures import DATABASE
from ml_platform_tests.warehouse.fixtures import any_warehouse
from resources import WarehouseResource

__all__ = ["any_warehouse"]

LAST = OPENING_DAY + timedelta(days=13)
OVER = LAST + timedelta(days=1)
RENAMED = {"transactions": {"household_id": "customer_no", "sales_value": "net_amount"}}


@pytest.fixture
def session(any_warehouse: Warehouse) -> Iterator[Session]:
    with any_warehouse.session("test") as session:
        create_raw(session, external=RAW_TABLES)
        yield session


@pytest.fixture
def erp(any_warehouse: Warehouse) -> str:
    """A schema that is not the platform's own."""
    database = "warehouse" if isinstance(any_warehouse, DuckDBWarehouse) else DATABASE
    return f"{database}.erp_{uuid.uuid4().hex[:10]}"


def company_table(session: Session, schema: str, table: RawTable, year: LandingFolder, last: date) -> ExternalTable:
    """What landed until `last`."""
    external = ExternalTable(table, f"{schema}.{table.name}", "loaded_on", RENAMED.get(table.name, {}))
    keep_elsewhere(session, external, year.deliveries(table.name, OPENING_DAY, last))
    return external


@pytest.fixture
def receipts(session: Session, erp: str, year: LandingFolder) -> ExternalTable:
    return company_table(session, erp, RAW_TABLES["transactions"], year, LAST)


def one_more(session: Session, external: ExternalTable, day: date) -> None:
    """Another line, that became known on `day`."""
    session.execute(
        f"""
        insert into {quote(external.relation)}
        select customer_no, store_id, basket_id, product_id + 1, quantity, 1.25, retail_disc, coupon_disc,
            coupon_match_disc, event_ts, is_withdrawn, $day
        from {quote(external.relation)} order by product_id desc limit 1
        """,
        {"day": day},
    )


@pytest.mark.parametrize("name", RAW_TABLES)
def test_every_raw_table_has_the_rows_that_landing_would_have_given_it(
    session: Session, erp: str, name: str, year: LandingFolder, tmp_path: Path
) -> None:
    table = RAW_TABLES[name]
    last = date(2017, 4, 30) if name == "coupon_redemptions" else LAST  # none is redeemed before a campaign
    external = replace(company_table(session, erp, table, year, last), quiet_days=True)
    loaded = take(session, tmp_path, external, last + timedelta(days=1))
    assert loaded is not None and loaded.landed_on == last
    assert read_loaded(tmp_path, name) == loaded
    with DuckDBWarehouse(tmp_path / "landed.duckdb").session("test") as landed:
        create_raw(landed)
        load_all(landed, table, year.deliveries(name, OPENING_DAY, last))
        order = ", ".join(quote(column) for column in (*table.key, "landed_on"))
        read = f"select * from {quote(table.relation)} order by {order}"
        expected, found = landed.read(read), session.read(read)
    assert expected.height > 0
    assert found.cast(dict(expected.schema)).rows() == expected.rows()
    counts = "select landed_on, row_count from raw.loads where table_name = $table order by landed_on"
    entered = session.read(counts, {"table": name})
    assert entered["row_count"].sum() == expected.height
    assert entered["landed_on"].to_list() == list(days(OPENING_DAY, last))


def test_a_day_is_whole_when_it_is_over_and_enters_once(
    session: Session, receipts: ExternalTable, tmp_path: Path
) -> None:
    assert take(session, tmp_path, receipts, OPENING_DAY) is None, "the first day is not over"
    half = take(session, tmp_path, receipts, LAST)
    assert half is not None and half.landed_on == LAST - timedelta(days=1)
    first = glance(session, receipts)
    one_more(session, receipts, LAST)
    second = glance(session, receipts)
    assert (second.rows, second.mark != first.mark) == (first.rows + 1, True)
    assert take(session, tmp_path, receipts, OVER) == take(session, tmp_path, receipts, OVER)
    entered = session.read("select count(*) as n, count(distinct landed_on) as days from raw.loads")
    assert entered.row(0) == (14, 14)
    silent = take(session, tmp_path, receipts, OVER + timedelta(days=7))
    assert silent is not None and silent.landed_on == LAST, "a loader that died leaves no whole days behind it"


def test_what_was_known_before_the_first_day_counts_as_known_on_it(
    session: Session, receipts: ExternalTable, tmp_path: Path
) -> None:
    one_more(session, receipts, date(2015, 3, 1))
    take(session, tmp_path, receipts, OVER)
    newest = session.read("select min(landed_on) as first, count(*) as n from raw.transactions")
    assert newest.row(0) == (OPENING_DAY, glance(session, receipts).rows)


def test_a_row_that_comes_into_a_whole_day_is_refused_until_somebody_decides(
    session: Session, receipts: ExternalTable, tmp_path: Path
) -> None:
    take(session, tmp_path, receipts, OVER)
    one_more(session, receipts, LAST)
    with pytest.raises(ExternalDayChanged, match=f"1 landing days have other rows.*{LAST} had .*delete them"):
        take(session, tmp_path, receipts, OVER)
    session.execute("delete from raw.loads where landed_on = $day", {"day": LAST})
    assert take(session, tmp_path, receipts, OVER) is not None


def test_a_missing_column_and_another_type_are_named_together(
    session: Session, receipts: ExternalTable, tmp_path: Path
) -> None:
    wrong = {"household_id": "nobody", "quantity": "is_withdrawn"}
    with pytest.raises(ExternalTableDiffers) as refused:
        take(session, tmp_path, ExternalTable(receipts.table, receipts.relation, "when_known", wrong), OVER)
    said = str(refused.value)
    assert "nobody is missing; is_withdrawn is Boolean and should be int64; sales_value is missing" in said
    assert "when_known is missing and should be a date or an instant" in said
    assert session.read("select count(*) as n from raw.loads")["n"][0] == 0


def test_rows_that_do_not_say_when_they_became_known_are_refused(
    session: Session, receipts: ExternalTable, tmp_path: Path
) -> None:
    session.execute(f"update {quote(receipts.relation)} set loaded_on = null where store_id > 0")
    with pytest.raises(ExternalTableDiffers, match="rows do not say when they became known"):
        take(session, tmp_path, receipts, OVER)


def test_a_table_that_is_not_there_and_one_that_files_were_loaded_into_are_errors(
    session: Session, receipts: ExternalTable, tmp_path: Path
) -> None:
    with pytest.raises(WarehouseError, match=r"(?i)no_such_table"):
        glance(session, ExternalTable(receipts.table, f"{receipts.relation}_no_such_table", "loaded_on"))
    create_raw(session)
    with pytest.raises(WarehouseError, match=r"(?i)transactions"):
        take(session, tmp_path, receipts, OVER)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[transactions", "cannot be read"),
        ("[receipts]\nrelation = 'a.b.c'", "no raw table 'receipts'"),
        ("[transactions]\nrelation = 'erp.receipts'", "should be database.schema.table"),
        ("[transactions]\nrelation = 'a.b.\"c; drop\"'", "is not an identifier"),
        ("[transactions]\nrelation = 'a.b.c'\nlanded = 'x'", "no setting 'landed'"),
        ("[transactions]\nrelation = 'a.b.c'\ncolumns = { price = 'x' }", "renames household_id"),
        ("[transactions]\nrelation = 'a.b.c'\nquiet_days = 1", "quiet_days is 1"),
        ("[transactions]\nlanded_on = 'x'", "transactions.relation is None"),
        ("transactions = 'a.b.c'", "cannot be read"),
    ],
)
def test_a_declaration_that_cannot_hold_is_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "external.toml"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=said):
        read_external_tables(path)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_external_tables(tmp_path / "nowhere.toml")


def test_its_sensor_records_the_last_change_and_each_whole_day_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, year: LandingFolder
) -> None:
    from assets.raw import build_external_asset
    from sensors.external import build_external_sensor

    monkeypatch.setenv("ML_PLATFORM_HOME", str(tmp_path))
    settings = Settings.from_env()
    Clock(settings.home).move_to(OVER)
    warehouse = DuckDBWarehouse(settings.warehouse_file)
    with warehouse.session("test") as session:
        create_raw(session, external=["transactions"])
        external = company_table(session, "warehouse.erp", RAW_TABLES["transactions"], year, LAST)
    key, sensor = build_external_asset(external).key, build_external_sensor(external)
    resources = {"warehouse": WarehouseResource()}

    def tick(cursor: str | None) -> dg.SensorResult | dg.SkipReason:
        with dg.build_sensor_context(instance, cursor=cursor, sensor_name=sensor.name, resources=resources) as context:
            found = sensor(context)
        assert isinstance(found, dg.SensorResult | dg.SkipReason)
        for event in found.asset_events if isinstance(found, dg.SensorResult) else []:
            assert isinstance(event, dg.AssetMaterialization | dg.AssetObservation)
            instance.report_runless_asset_event(event)
        return found

    with dg.DagsterInstance.ephemeral() as instance:
        first = tick(None)
        assert isinstance(first, dg.SensorResult)
        assert len(instance.get_materialized_partitions(key)) == 14
        (seen,) = instance.fetch_observations(key, limit=9).records
        assert seen.asset_observation
        assert seen.asset_observation.metadata["newest_landing"].value == str(LAST)
        again = tick(first.cursor)
        assert isinstance(again, dg.SkipReason) and "no change" in str(again.skip_message)
        Clock(settings.home).move_to(OVER + timedelta(days=1))
        with warehouse.session("test") as session:
            one_more(session, external, OVER)
        second = tick(first.cursor)
        assert isinstance(second, dg.SensorResult)
        kinds = [type(event).__name__ for event in second.asset_events]
        assert kinds == ["AssetObservation", "AssetMaterialization"], "only the day that is new"
        assert max(instance.get_materialized_partitions(key)) == str(OVER)
    assert read_loaded(settings.lake, "transactions") == Loaded("transactions", OVER, LAST)


def test_what_is_known_whole_is_bounded_by_files_and_external_tables_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, year: LandingFolder
) -> None:
    declared = tmp_path / "external.toml"
    declared.write_text("[transactions]\nrelation = 'warehouse.erp.receipts'\n")
    monkeypatch.setenv("ML_PLATFORM_HOME", str(tmp_path))
    monkeypatch.setenv("ML_PLATFORM_EXTERNAL_TABLES", str(declared))
    settings = Settings.from_env()
    settings.lake.mkdir()
    other = next(name for name in DAILY if name != "transactions")
    assert known_through(settings) is None
    for delivery in year.deliveries(other, OPENING_DAY, LAST):
        place = settings.landing / other / str(delivery.landed_on)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(delivery.folder)
    assert known_through(settings) is None, "nobody has looked at the external table"
    (settings.lake / "loaded").mkdir()
    for day in (LAST - timedelta(days=3), OVER):
        noted = {"format_version": 1, "table": "transactions", "landed_on": str(day), "event": None}
        (settings.lake / "loaded" / "transactions.json").write_text(json.dumps(noted))
        assert known_through(settings) == min(day, LAST)


def test_the_graph_watches_a_declared_table_and_does_not_make_it(tmp_path: Path) -> None:
    declared = tmp_path / "external.toml"
    declared.write_text("[transactions]\nrelation = 'warehouse.erp.receipts'\n")
    said = """
from ml_platform.definitions import defs
graph = defs.resolve_asset_graph()
made = {key.to_user_string() for key in graph.materializable_asset_keys}
there = {key.to_user_string() for key in graph.get_all_asset_keys()}
print(sorted(key for key in there - made), [sensor.name for sensor in defs.sensors if "external" in sensor.name])
"""
    home = {"ML_PLATFORM_HOME": str(tmp_path), "ML_PLATFORM_EXTERNAL_TABLES": str(declared)}
    done = subprocess.run(
        [sys.executable, "-c", said], env={**os.environ, **home}, cwd=REPOSITORY, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().splitlines()[-1] == "['raw/loads', 'raw/transactions'] ['external_transactions']"
    (tmp_path / "external.toml").unlink()
    refused = subprocess.run(
        [sys.executable, "-c", said], env={**os.environ, **home}, cwd=REPOSITORY, capture_output=True, text=True
    )
    assert refused.returncode != 0 and "external tables cannot be read" in refused.stderr
