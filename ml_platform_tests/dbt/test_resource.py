"""Which target dbt is given, and where its parsed project lies."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from ml_platform.settings import Settings
from resources import dbt

ACCOUNT = {
    "ML_PLATFORM_PROFILE": "snowflake", "SNOWFLAKE_ACCOUNT": "a", "SNOWFLAKE_USER": "u", "SNOWFLAKE_ROLE": "r",
    "SNOWFLAKE_WAREHOUSE": "w", "SNOWFLAKE_DATABASE": "d", "SNOWFLAKE_TOKEN": "planted",
    "ML_PLATFORM_SCHEMA_PREFIX": "dev_ana_",
}  # fmt: skip


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    def give(**environ: str) -> None:
        for name, value in {"ML_PLATFORM_HOME": str(tmp_path), **environ}.items():
            monkeypatch.setenv(name, value)

    return give


def test_on_duckdb_dbt_gets_the_homes_file_and_no_prefix(given) -> None:
    given(ML_PLATFORM_SCHEMA_PREFIX="dev_ana_")
    said = dbt.dbt_environment()
    assert (said["DBT_TARGET"], said["DBT_SCHEMA_PREFIX"]) == ("local", "")
    assert said["DBT_DUCKDB_PATH"] == str(Settings.from_env().warehouse_file)


def test_on_snowflake_dbt_gets_the_prefix_and_how_the_credential_signs_in(given) -> None:
    given(**ACCOUNT)
    said = dbt.dbt_environment()
    assert (said["DBT_TARGET"], said["DBT_SCHEMA_PREFIX"]) == ("snowflake", "dev_ana_")
    assert said["SNOWFLAKE_AUTHENTICATOR"] == "programmatic_access_token"
    assert not Settings.from_env().warehouse_file.parent.exists()


def test_each_database_and_prefix_has_a_manifest_of_its_own(given) -> None:
    folders = [dbt._parsed_folder()]
    for other in ({}, {"ML_PLATFORM_SCHEMA_PREFIX": "dev_bo_"}, {"SNOWFLAKE_DATABASE": "e"}):
        given(**ACCOUNT | other)
        folders.append(dbt._parsed_folder())
    assert folders[0] == Path("target") and len(set(folders)) == 4


def test_one_process_parses_while_others_wait_and_nobody_sees_half_a_manifest(
    given, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given()
    manifest, parse, parses = tmp_path / "parsed" / "manifest.json", dbt._parse, []
    monkeypatch.setattr(dbt, "PROJECT", SimpleNamespace(manifest_path=manifest))
    monkeypatch.setattr(dbt, "_parse", lambda folder: parses.append(parse(folder)))
    seen = []
    with ThreadPoolExecutor(3) as pool:
        asked = [pool.submit(dbt.manifest_path) for _ in range(3)]
        while not all(each.done() for each in asked):
            if manifest.exists():
                seen.append(len(json.loads(manifest.read_text())["nodes"]))
            time.sleep(0.001)
        for each in asked:
            seen.append(len(json.loads(each.result().read_text())["nodes"]))
    assert len(parses) == 1 and len(set(seen)) == 1
    left = {path.name for path in manifest.parent.iterdir()}
    assert left == {"manifest.json", "partial_parse.msgpack", "parsing.lock"}
