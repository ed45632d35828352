"""The graph on Snowflake's emulator, from landed files to a champion's predictions, beside the same on DuckDB.

On Snowflake the receipts and the assortment have not landed: they are tables that the company has already.
"""

import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from ml_platform.lake import PartitionedTable
from ml_platform.registry.ledger import Ledger
from ml_platform_tests.snowflake.fixtures import DATABASE
from ml_platform_tests.snowflake.walk import CUTOFF

MODEL = "category_replenishment"
HOUSEHOLDS = "25"
EXTERNAL = f"""
[transactions]
relation = "{DATABASE}.erp_whole_graph.receipt_lines"
landed_on = "loaded_on"
columns = {{ household_id = "customer_no", sales_value = "net_amount" }}

[products]
relation = "{DATABASE}.erp_whole_graph.assortment"
"""
METRIC_TOLERANCE = 1e-9
SCORE_TOLERANCE = 1e-6
"""Absolute. Where features agree to the bit so does the model; an ulp in a feature may move a row over a bin's edge."""


@pytest.fixture(scope="module")
def homes(emulator: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Both walked at once, each in a process of its own."""
    folder = tmp_path_factory.mktemp("walked")
    declared = folder / "external.toml"
    declared.write_text(EXTERNAL)
    snowflake = {"ML_PLATFORM_PROFILE": "snowflake", "ML_PLATFORM_SCHEMA_PREFIX": "whole_graph_", **emulator}
    places = {
        "duckdb": {"ML_PLATFORM_WAREHOUSE": "duckdb"},
        "snowflake": {**snowflake, "ML_PLATFORM_EXTERNAL_TABLES": str(declared)},
    }
    command = [sys.executable, "-m", "ml_platform_tests.snowflake.walk", MODEL]
    walks = {}
    for name, place in places.items():
        own = {"ML_PLATFORM_HOME": str(folder / name), "ML_PLATFORM_HOUSEHOLDS": HOUSEHOLDS}
        environ = {**os.environ, **own, **place, "ML_PLATFORM_STEPS": "in_process"}
        walks[name] = subprocess.Popen(
            command, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
    for name, walk in walks.items():
        said = walk.communicate(timeout=900)[1]
        assert walk.returncode == 0, f"{name}: {said[-5000:]}"
    return {name: folder / name for name in places}


def ledger(home: Path) -> Ledger:
    return Ledger(f"sqlite:///{home / 'ledger.db'}")


def test_no_duckdb_file_is_made_where_snowflake_is_the_warehouse(homes: dict[str, Path]) -> None:
    assert (homes["duckdb"] / "warehouse" / "warehouse.duckdb").exists()
    assert not (homes["snowflake"] / "warehouse").exists()


def test_training_reads_the_same_rows_from_both_engines(homes: dict[str, Path]) -> None:
    sets = {name: PartitionedTable(home / "lake" / "training_sets", MODEL).read(CUTOFF) for name, home in homes.items()}
    assert sets["duckdb"].height > 1000
    assert sets["snowflake"].equals(sets["duckdb"])


def test_the_promoted_champions_are_judged_alike(homes: dict[str, Path]) -> None:
    verdicts, champions = {}, {}
    for name, home in homes.items():
        champions[name] = ledger(home).champion(MODEL)
        verdicts[name] = ledger(home).verdict(MODEL, 1)
    assert all(champion and champion.version == 1 for champion in champions.values())
    found, expected = verdicts["snowflake"], verdicts["duckdb"]
    assert found and expected
    assert found.gates == expected.gates
    assert numbers(found.body["metrics"]) == pytest.approx(numbers(expected.body["metrics"]), abs=METRIC_TOLERANCE)


def test_the_champions_predict_the_same(homes: dict[str, Path]) -> None:
    keys = ["household_id", "product_category"]
    found, expected = (
        PartitionedTable(homes[name] / "lake" / "predictions", MODEL).read(CUTOFF).sort(keys)
        for name in ("snowflake", "duckdb")
    )
    assert found.height > 100
    assert found.select(keys).equals(expected.select(keys))
    assert found.select((pl.col("score") - expected["score"]).abs().max()).item() <= SCORE_TOLERANCE


def numbers(body: object, path: str = "") -> dict[str, float]:
    """Every number of a JSON value, by its path."""
    if isinstance(body, dict):
        return {key: each for name, part in body.items() for key, each in numbers(part, f"{path}/{name}").items()}
    return {path: float(body)} if isinstance(body, int | float) else {}
