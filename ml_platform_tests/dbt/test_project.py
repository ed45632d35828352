"""The project through dbt itself: its materialisation, its own tests, its contracts and its words."""

import json
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest
from sqlglot import exp, parse_one

from assets.feature_tables import FEATURE_TABLES
from ml_platform.calendar import OPENING_DAY
from ml_platform.contracts import FeatureTable
from ml_platform.landing.tables import RAW_TABLES
from ml_platform_tests.dbt.conftest import Product, Version, day, fill_raw, invoke, table

MONDAYS = (date(2017, 1, 30), date(2017, 2, 6))
PRODUCTS = (Product(1), Product(2, category="FISH"), Product(3, department="FUEL"))
ON_TIME = Version(1, 1, 1, event_day=20, landed_day=20, sales_cents=199)
VERSIONS = [
    ON_TIME,
    ON_TIME.later(31, sales_cents=149),  # a correction
    Version(1, 1, 2, event_day=20, landed_day=25, sales_cents=500),  # a late line
    Version(2, 2, 1, event_day=28, landed_day=28, sales_cents=300),
    Version(2, 2, 1, event_day=28, landed_day=32, sales_cents=300, is_withdrawn=True),
    Version(2, 3, 2, event_day=32, landed_day=32, sales_cents=700),
    Version(2, 3, 3, event_day=32, landed_day=32, sales_cents=9900),  # fuel
]
CAMPAIGNS = [(1, 1, "Type A", day(29), day(60), day(28))]
NOT_A_DAY = "landed_from must be a day written YYYY-MM-DD"
LANDED = MONDAYS[-1] - timedelta(days=1)


def variables(landed: tuple[date, date] = (OPENING_DAY, LANDED), as_of: tuple[date, date] = MONDAYS) -> dict[str, str]:
    names = ("landed_from", "landed_to", "as_of_from", "as_of_to")
    return {name: each.isoformat() for name, each in zip(names, (*landed, *as_of), strict=True)}


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two warehouses of the same landings: one built and tested at once, one run in parts, a part of it twice.

    A last invocation has a var that is no day, and has to fail with these words.
    """
    folder = tmp_path_factory.mktemp("dbt")
    paths = {name: folder / name / "warehouse.duckdb" for name in ("at_once", "in_parts")}
    for path in paths.values():
        path.parent.mkdir()
        with duckdb.connect(path) as connection:
            fill_raw(connection, VERSIONS, PRODUCTS, loaded_through=LANDED, campaigns=CAMPAIGNS)

    def call(home: str, *args: str, **ranges: tuple[date, date]) -> dict[str, Any]:
        path = paths[home]
        environ, target = {"DBT_DUCKDB_PATH": str(path)}, str(path.parent / "target")
        return {"environ": environ, "target": target, "args": args, "vars": variables(**ranges)}

    parts = [(OPENING_DAY, day(30)), (day(31), LANDED), (day(30), day(31))]
    invoke(
        call("at_once", "build"),
        call("at_once", "source", "freshness"),
        *(call("in_parts", "run", "--select", "staging", "marts", landed=each) for each in parts),
        *(call("in_parts", "run", "--select", "feature_models", as_of=(each, each)) for each in reversed(MONDAYS)),
        call("in_parts", "compile", "--select", "line_changes")
        | {"vars": variables() | {"landed_from": "2017-01-01'; drop schema raw; --"}, "fails": NOT_A_DAY},
    )
    return paths


@pytest.fixture(scope="module")
def manifest(homes: dict[str, Path]) -> dict[str, Any]:
    return json.loads((homes["at_once"].parent / "target" / "manifest.json").read_text())


@pytest.fixture
def at_once(homes: dict[str, Path]) -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(homes["at_once"], read_only=True) as connection:
        yield connection


def test_runs_by_day_and_by_monday_leave_the_tables_of_one_run(
    homes: dict[str, Path], at_once: duckdb.DuckDBPyConnection
) -> None:
    relations = at_once.execute(
        "select table_schema || '.' || table_name from information_schema.tables where table_schema <> 'raw'"
    ).fetchall()
    assert len(relations) == 20
    with duckdb.connect(homes["in_parts"], read_only=True) as in_parts:
        for (relation,) in relations:
            assert table(in_parts, relation) == table(at_once, relation), relation


def test_a_correction_a_late_line_and_a_withdrawal_move_the_features_of_later_mondays_only(
    at_once: duckdb.DuckDBPyConnection,
) -> None:
    rows = at_once.execute(
        "select household_id, as_of, trips_84d, spend_cents_84d, active_campaigns "
        "from feature_models.household_features order by household_id, as_of"
    ).fetchall()
    assert rows == [
        (1, MONDAYS[0], 1, 699, 1),
        (1, MONDAYS[1], 1, 649, 1),
        (2, MONDAYS[0], 1, 300, 0),
        (2, MONDAYS[1], 1, 700, 0),
    ]


def test_every_dbt_test_ran_and_passed(homes: dict[str, Path], manifest: dict[str, Any]) -> None:
    # `source freshness` and later runs write elsewhere, so the build's own results are still there.
    results = json.loads((homes["at_once"].parent / "target" / "run_results.json").read_text())["results"]
    told = {result["unique_id"]: result["status"] for result in results}
    tests = [key for key, node in manifest["nodes"].items() if node["resource_type"] == "test"]
    assert len(tests) > 20 and manifest["unit_tests"]
    assert {told[key] for key in [*tests, *manifest["unit_tests"]]} == {"pass"}


def test_freshness_is_read_from_the_load_ledger(homes: dict[str, Path]) -> None:
    results = json.loads((homes["at_once"].parent / "target" / "sources.json").read_text())["results"]
    assert {result["unique_id"].rpartition(".")[2]: result["status"] for result in results} == {
        "transactions": "pass", "coupon_redemptions": "pass", "promotions": "pass",
    }  # fmt: skip


def test_every_model_and_column_is_described_typed_and_under_contract(manifest: dict[str, Any]) -> None:
    models = [node for node in manifest["nodes"].values() if node["resource_type"] == "model"]
    assert len(models) == 20
    for node in models:
        assert node["description"] and node["config"]["contract"]["enforced"], node["name"]
        assert node["config"]["meta"]["owner"].startswith("team:"), node["name"]
        for column in node["columns"].values():
            assert column["description"] and column["data_type"], f"{node['name']}.{column['name']}"


def test_every_model_is_in_the_grammar_and_the_functions_of_snowflake(manifest: dict[str, Any]) -> None:
    for node in manifest["nodes"].values():
        if node["resource_type"] in ("model", "test"):
            tree = parse_one(node["compiled_code"], dialect="snowflake")
            unknown = {call.name for call in tree.find_all(exp.Anonymous)}
            assert not unknown and not tree.find(exp.Command, exp.Filter), f"{node['name']}: {unknown}"


def test_sources_are_the_raw_tables_and_lead_to_their_assets(manifest: dict[str, Any]) -> None:
    sources = {node["name"]: node for node in manifest["sources"].values()}
    assert sources.keys() == {*RAW_TABLES, "loads"}
    for name, raw in RAW_TABLES.items():
        assert sources[name]["meta"]["dagster"]["asset_key"] == ["raw", name]
        stated = {column["name"]: column["data_type"] for column in sources[name]["columns"].values()}
        assert stated == {**{column.name: column.type for column in raw.columns}, "landed_on": "date"}


DTYPES = {
    pl.Int32(): "integer", pl.Int64(): "bigint", pl.Float64(): "double", pl.String(): "varchar", pl.Date(): "date",
    pl.List(pl.Int32()): "integer[]", pl.List(pl.Int64()): "bigint[]",
}  # fmt: skip


@pytest.mark.parametrize("contract", FEATURE_TABLES.values(), ids=FEATURE_TABLES)
def test_a_feature_model_has_the_columns_types_nulls_and_words_of_its_contract(
    contract: FeatureTable, manifest: dict[str, Any]
) -> None:
    node = manifest["nodes"][f"model.ml_platform.{contract.relation.rpartition('.')[2]}"]
    columns = node["columns"].values()
    schema = contract.schema()
    assert [(column["name"], column["data_type"]) for column in columns] == [
        (name, DTYPES[dtype]) for name, dtype in schema.items()
    ]
    never_null = {column["name"] for column in columns if column["constraints"]}
    assert never_null == {column.name for column in contract.columns if not column.nullable}
    assert {column["name"]: column["description"].rstrip(".") for column in columns} == {
        column.name: column.description.rstrip(".") for column in contract.columns
    }
