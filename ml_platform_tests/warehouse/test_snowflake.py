"""What only Snowflake has: an account, tags, prefixes, and a network between."""

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
import snowflake.connector
import snowflake.connector.errors as engine
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from ml_platform.cli.doctor import diagnose
from ml_platform.errors import ConfigurationError
from ml_platform.landing.files import LandingFolder
from ml_platform.landing.loading import create_raw, load_all
from ml_platform.landing.tables import RAW_TABLES
from ml_platform.settings import REPOSITORY, Settings
from ml_platform.warehouse import open_warehouse
from ml_platform.warehouse.base import (
    WarehouseBusy,
    WarehouseDenied,
    WarehouseError,
    WarehouseUnavailable,
)
from ml_platform.warehouse.snowflake import SnowflakeSession, SnowflakeWarehouse
from ml_platform.warehouse.snowflake_arrow import conformed
from ml_platform.warehouse.snowflake_errors import typed
from ml_platform.warehouse.snowflake_sql import translate
from ml_platform_tests.landing.conftest import DAY, line, lines
from ml_platform_tests.warehouse.fixtures import on_snowflake
from ml_platform_tests.warehouse.flaky import Road, flaky

TABLE = RAW_TABLES["transactions"]
SECRET = "hunter2-never-shown"
BOUND = {"as_ofs": [DAY], "as_of": DAY, "cutoff": DAY, "entities": [1]}
OUR_SQL = sorted((REPOSITORY / "assets").rglob("*.sql"))


@pytest.fixture
def road(emulator: dict[str, str]) -> Iterator[tuple[Road, SnowflakeWarehouse]]:
    """A warehouse behind a road that can fail; nobody waits long for it."""
    with flaky(emulator) as (road, environ):
        warehouse = on_snowflake(environ, patience_seconds=1, attempts=3)
        with warehouse.session("prepare") as session:
            session.execute("create schema shop")
            session.execute("create table shop.t (a bigint)")
        road.seen.clear()
        yield road, warehouse


def a_load(warehouse: SnowflakeWarehouse, folder: Path, days: int = 1) -> int:
    """Loads a line a day from DAY on. Returns how many deliveries were not there yet."""
    landing = LandingFolder(folder)
    deliveries = [
        landing.land(TABLE.name, DAY + timedelta(days=day), lines(line(basket_id=day))) for day in range(days)
    ]
    with warehouse.session("load") as session:
        create_raw(session)
        return sum(outcome.loaded for outcome in load_all(session, TABLE, deliveries))


def loaded(session: SnowflakeSession) -> list[tuple[date, int]]:
    return session.read(f"select landed_on, count(*) from {TABLE.relation} group by 1 order by 1").rows()


def test_the_profile_chooses_snowflake_and_the_override_takes_it_back(emulator: dict[str, str]) -> None:
    settings = Settings.from_env({**emulator, "ML_PLATFORM_PROFILE": "snowflake"})
    assert isinstance(open_warehouse(settings), SnowflakeWarehouse)
    assert (settings.compute, settings.steps) == ("local", "forked")
    back = Settings.from_env({"ML_PLATFORM_PROFILE": "snowflake", "ML_PLATFORM_WAREHOUSE": "duckdb"})
    assert back.snowflake is None


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"SNOWFLAKE_ROLE": "", "SNOWFLAKE_DATABASE": ""}, "needs SNOWFLAKE_ROLE, SNOWFLAKE_DATABASE"),
        ({"SNOWFLAKE_PASSWORD": ""}, "one of SNOWFLAKE_PRIVATE_KEY_PATH, SNOWFLAKE_TOKEN, SNOWFLAKE_PASSWORD"),
        ({"SNOWFLAKE_TOKEN": SECRET}, "SNOWFLAKE_TOKEN and SNOWFLAKE_PASSWORD are both set"),
        ({"SNOWFLAKE_PASSWORD": "", "SNOWFLAKE_PRIVATE_KEY_PATH": "/no/where.p8"}, "no file /no/where.p8"),
        ({"SNOWFLAKE_PASSWORD": "", "SNOWFLAKE_TOKEN": SECRET, "SNOWFLAKE_AUTHENTICATOR": "x"}, "'x' does not sign in"),
        ({"ML_PLATFORM_SCHEMA_PREFIX": 'a"b'}, "cannot begin the name of a schema"),
        ({"SNOWFLAKE_PORT": "0"}, "'0' is not a port"),
    ],
)
def test_what_is_missing_or_cannot_hold_is_named_before_anything_connects(
    emulator: dict[str, str], changed: dict[str, str], says: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Settings.from_env({**emulator, "ML_PLATFORM_PROFILE": "snowflake", **changed})
    assert says in caught.value.what
    assert SECRET not in str(caught.value) and emulator["SNOWFLAKE_PASSWORD"] not in str(caught.value)


def test_a_key_pair_signs_in_and_a_wrong_passphrase_is_a_clear_error(emulator: dict[str, str], tmp_path: Path) -> None:
    made = rsa.generate_private_key(65537, 2048)
    locked = serialization.BestAvailableEncryption(SECRET.encode())
    path = tmp_path / "key.p8"
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8)
    path.write_bytes(made.private_bytes(*form, locked))
    environ = {**emulator, "SNOWFLAKE_PASSWORD": "", "SNOWFLAKE_PRIVATE_KEY_PATH": str(path)}
    with on_snowflake({**environ, "SNOWFLAKE_PRIVATE_KEY_PASSPHRASE": SECRET}).session("sign in") as session:
        assert session.read("select 1 as one")["one"].to_list() == [1]
    for wrong in ("another", ""):
        with pytest.raises(WarehouseDenied, match="SNOWFLAKE_PRIVATE_KEY_PASSPHRASE"):
            with on_snowflake({**environ, "SNOWFLAKE_PRIVATE_KEY_PASSPHRASE": wrong}).session("sign in"):
                pass


def test_a_statement_of_ours_is_whole_in_snowflakes_words_and_its_relations_have_the_prefix() -> None:
    assert OUR_SQL
    for path in OUR_SQL:
        text, bound = translate(path.read_text(), BOUND, "dev_")
        assert text.count("?") == len(bound) > 0, path
        for schema in ("raw", "marts", "staging", "feature_models"):
            assert f" {schema}." not in text.lower(), path
        assert not [word for word in ("unnest", "list_", "//", "$") if word in text.lower()], path
        assert "DEV_" in text, path


def test_a_bound_list_becomes_one_value() -> None:
    text, bound = translate("select a from shop.t where day in (select unnest($days))", {"days": [DAY]}, "")
    assert text == (
        'SELECT a FROM "SHOP".t WHERE day IN '
        '(SELECT CAST(value AS DATE) AS "VALUE" FROM TABLE(FLATTEN(input => PARSE_JSON(?))))'
    )
    assert bound == ['["2017-06-05"]']
    with pytest.raises(WarehouseError, match=r"no value is given for \$day"):
        translate("select $day", {}, "")


def test_a_session_is_tagged_with_asset_run_and_purpose_and_has_its_limits(
    emulator: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(snowflake.connector, "connect", lambda **arguments: asked.append(arguments))
    warehouse = on_snowflake(emulator, tags={"assets": "raw/products", "run": "abc"}, wait_seconds=7)
    SnowflakeSession(warehouse, "")
    with pytest.raises(AttributeError), warehouse.session("load raw.products") as session:
        session.read("select 1")  # the connection is none
    parameters = asked[1]["session_parameters"]
    assert parameters["QUERY_TAG"] == '{"assets": "raw/products", "run": "abc", "purpose": "load raw.products"}'
    assert (parameters["LOCK_TIMEOUT"], parameters["STATEMENT_TIMEOUT_IN_SECONDS"]) == (7, 3600)
    assert emulator["SNOWFLAKE_PASSWORD"] not in str(parameters)


@pytest.mark.parametrize(
    ("error", "kind", "mend"),
    [
        (engine.DatabaseError("Incorrect username or password", errno=250001), WarehouseDenied, "SNOWFLAKE_USER"),
        (engine.DatabaseError("JWT token is invalid.", errno=390144), WarehouseDenied, "docs/snowflake.md"),
        (engine.ForbiddenError(), WarehouseDenied, "SNOWFLAKE_ROLE"),
        (engine.ProgrammingError("Insufficient privileges", errno=3001), WarehouseDenied, "grant"),
        (engine.ProgrammingError("No active warehouse selected", errno=606), WarehouseError, "resume"),
        (engine.ProgrammingError("cannot be resumed, quota", errno=90073), WarehouseError, "resource monitor"),
        (engine.ProgrammingError("Statement has locked table", errno=625), WarehouseBusy, "wait"),
        (engine.ProgrammingError("reached its timeout", errno=630), WarehouseError, "larger"),
        (engine.ProgrammingError("Object does not exist", errno=2003), WarehouseError, "ML_PLATFORM_SCHEMA_PREFIX"),
        (engine.ProgrammingError("invalid identifier", errno=904), WarehouseError, "declaration"),
        (engine.OperationalError("session gone", errno=390112), WarehouseUnavailable, "run again"),
        (engine.OperationalError("failed to connect", errno=250001), WarehouseUnavailable, "run again"),
        (engine.TooManyRequests(), WarehouseUnavailable, "run again"),
        (ConnectionResetError("reset"), WarehouseUnavailable, "run again"),
    ],
)
def test_every_fault_has_its_own_error_and_next_step_and_never_a_secret(
    error: Exception, kind: type[WarehouseError], mend: str
) -> None:
    if isinstance(error, engine.Error) and error.msg:
        error.msg = f"{error.msg} ({SECRET}) password={SECRET[:5]}"
    found = typed(error, "select 1", [SECRET])
    assert type(found) is kind
    assert mend in found.next_step
    assert "hunter2" not in str(found)


def test_no_secret_is_shown_by_settings_errors_or_the_connectors_log(
    emulator: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    settings = Settings.from_env({**emulator, "ML_PLATFORM_WAREHOUSE": "snowflake", "SNOWFLAKE_PASSWORD": SECRET})
    assert settings.snowflake and settings.snowflake.password == SECRET
    warehouse = replace(on_snowflake(emulator), account=settings.snowflake)
    with warehouse.session("look") as session:
        session.read("select 1 as one")
        assert "sqlText" in caplog.text or "query" in caplog.text
        assert SECRET not in caplog.text
        with pytest.raises(WarehouseError) as caught:
            session.read(f'select 1 from raw."{SECRET}"')
    assert caught.value.__cause__ is None and caught.value.__suppress_context__
    for text in (repr(settings), repr(warehouse), repr(caught.value)):
        assert SECRET not in text and SECRET.upper() not in text


def test_what_two_prefixes_hold_never_meets(emulator: dict[str, str]) -> None:
    ours, theirs = on_snowflake(emulator), on_snowflake(emulator)
    for place, number in ((ours, 1), (theirs, 2)):
        with place.session("make") as session:
            session.execute("create schema shop")
            session.execute("create table shop.t (a bigint)")
            session.execute("insert into shop.t values ($a)", {"a": number})
    for place, number in ((ours, 1), (theirs, 2)):
        with place.session("look") as session:
            assert session.read("select a from shop.t")["a"].to_list() == [number]
            assert list(session.relations()) == [("shop", "t")]


def test_a_read_is_tried_again_on_another_connection(road: tuple[Road, SnowflakeWarehouse]) -> None:
    way, warehouse = road
    with warehouse.session("read") as session:
        way.faults["select"] = -100
        with pytest.raises(WarehouseUnavailable, match=r"(?i)request"):
            session.read("select a from shop.t")
        way.faults["select"] = 0
        assert session.read("select a from shop.t").is_empty()


def test_a_write_is_never_repeated_by_us(road: tuple[Road, SnowflakeWarehouse]) -> None:
    way, warehouse = road
    with warehouse.session("write") as session:
        way.faults["insert"] = -100
        with pytest.raises(WarehouseUnavailable), session.transaction():
            session.execute("insert into shop.t values (1)")
        way.faults["insert"] = 0
        assert way.count("rollback") == 1
        assert session.read("select a from shop.t").is_empty()


def test_a_connection_that_drops_in_the_middle_of_a_copy_leaves_nothing_and_the_next_load_is_whole(
    road: tuple[Road, SnowflakeWarehouse], tmp_path: Path
) -> None:
    way, warehouse = road
    way.faults["copy"] = -100
    with pytest.raises(WarehouseUnavailable, match=r"(?i)request"):
        a_load(warehouse, tmp_path, days=2)
    way.faults["copy"] = 0
    with warehouse.session("look") as session:
        assert loaded(session) == []
        assert not [name for _, name in session.relations() if name.startswith("arriving")]
    assert a_load(warehouse, tmp_path, days=2) == 2
    with warehouse.session("look") as session:
        assert loaded(session) == [(DAY, 1), (DAY + timedelta(days=1), 1)]


def test_two_runs_on_one_partition_leave_it_once_and_the_later_one_is_told(
    snowflake_warehouse: SnowflakeWarehouse, tmp_path: Path
) -> None:
    delivery = LandingFolder(tmp_path).land(TABLE.name, DAY, lines(line()))
    with snowflake_warehouse.session("first") as first, snowflake_warehouse.session("second") as second:
        create_raw(first)
        with first.transaction():
            first.execute("update raw.claims set claims = claims + 1 where table_name = 'transactions'")
            with pytest.raises(WarehouseBusy, match=r"(?i)conflict"):
                load_all(second, TABLE, [delivery])
        assert [outcome.loaded for outcome in load_all(first, TABLE, [delivery])] == [True]
        assert [outcome.loaded for outcome in load_all(second, TABLE, [delivery])] == [False]
        assert loaded(second) == [(DAY, 1)]


def test_a_whole_number_beyond_64_bits_is_refused_or_exact_where_a_decimal_is_declared(
    snowflake_warehouse: SnowflakeWarehouse,
) -> None:
    with snowflake_warehouse.session("count") as session:
        with pytest.raises(WarehouseError, match="does not fit int64") as caught:
            session.read("select 9223372036854775808 as a")
        assert caught.value.where == "a"
        answer = session.read("select 9223372036854775808 as a", schema={"a": pl.Decimal(38, 0)})
    assert int(answer["a"][0]) == 2**63


def test_chunks_of_an_answer_have_one_type_whatever_integers_they_came_in() -> None:
    schema = pa.schema([("a", pa.int64()), ("b", pa.decimal128(10, 2))])
    parts = [
        conformed(pa.table({"a": pa.array([1], kind), "b": pa.array([1], pa.decimal128(3, 2))}), schema)
        for kind in (pa.int8(), pa.int32(), pa.decimal128(38, 0))
    ]
    assert pa.concat_tables(parts).schema == schema


def test_cost_is_what_snowflake_reports_and_nothing_where_it_does_not(
    snowflake_warehouse: SnowflakeWarehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    with snowflake_warehouse.session("cost") as session:
        assert session.cost() == {}
        figures = pl.DataFrame({"queries": [3], "bytes_scanned": [1024], "cloud_services_credits": [None]})
        monkeypatch.setattr(SnowflakeSession, "_read", lambda *arguments: figures)
        assert session.cost() == {"snowflake/queries": 3.0, "snowflake/bytes_scanned": 1024.0}


def test_the_doctor_asks_snowflake_and_says_what_is_wrong(
    emulator: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in {**emulator, "ML_PLATFORM_HOME": str(tmp_path), "ML_PLATFORM_WAREHOUSE": "snowflake"}.items():
        monkeypatch.setenv(name, value)
    (finding,) = [found for found in diagnose() if found.subject == "warehouse"]
    assert finding.ok and "as ml_platform" in finding.says
    monkeypatch.setattr(SnowflakeWarehouse, "connect", _refuse)
    (finding,) = [found for found in diagnose() if found.subject == "warehouse"]
    assert finding.ok is False and "SNOWFLAKE_ROLE" in finding.mend


def _refuse(self: SnowflakeWarehouse, tag: str) -> None:
    raise typed(engine.DatabaseError("Incorrect username or password", errno=250001), "connect", [])


def test_the_smoke_script_finds_every_promise_kept_and_leaves_nothing(emulator: dict[str, str]) -> None:
    script = [sys.executable, "-W", "ignore", "scripts/snowflake_smoke.py"]
    environ = {**os.environ, **emulator, "ML_PLATFORM_SCHEMA_PREFIX": "smoked_"}
    done = subprocess.run(script, cwd=REPOSITORY, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("✓") == 6
    settings = Settings.from_env({**environ, "ML_PLATFORM_WAREHOUSE": "snowflake"})
    with open_warehouse(settings).session("look") as session:
        assert session.relations() == {}


def test_the_smoke_script_says_which_variable_is_missing() -> None:
    script = [sys.executable, "-W", "ignore", "scripts/snowflake_smoke.py"]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("SNOWFLAKE_")}
    done = subprocess.run(script, cwd=REPOSITORY, env=environ, capture_output=True, text=True)
    assert done.returncode == 1 and "SNOWFLAKE_ACCOUNT" in done.stdout
