"""What holds for the repository as a whole, so that it stays as it was laid out."""

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from ml_platform.settings import REPOSITORY

FOLDERS = (
    "assets", "benchmarks", "dbt_project", "deploy", "docs", "ml_platform", "ml_platform_tests", "resources", "sensors",
)  # fmt: skip
FILES = (".ci/run", "Makefile", "README.md", "dagster.yaml", "pyproject.toml", "requirements.lock", "workspace.yaml")
SHELL = ("assets", "resources", "sensors")
HEAVY = (
    "torch",
    "xgboost",
    "mlflow",
    "evidently",
    "pandas",
    "sklearn",
    "snowflake.connector",
    "matplotlib",
    "dagster_k8s",
)
ROOMS_OF_THE_SHELL = {"cli", "definitions"}
LONGEST_MODULE_LINES = 320


def modules(*folders: str) -> list[Path]:
    return sorted(file for folder in folders for file in (REPOSITORY / folder).rglob("*.py"))


def relative(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


def pyproject() -> dict:
    return tomllib.loads((REPOSITORY / "pyproject.toml").read_text())


@pytest.mark.parametrize("name", [*FOLDERS, *FILES])
def test_the_layout_is_the_one_asked_for(name: str) -> None:
    assert (REPOSITORY / name).exists()


def test_loading_the_definitions_imports_nothing_heavy() -> None:
    program = (
        "import json, sys, ml_platform.definitions as d\n"
        f"loaded = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "print('LOADED ' + json.dumps([loaded, len(d.defs.resolve_all_asset_keys())]))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, cwd=REPOSITORY
    )
    assert done.returncode == 0, done.stderr[-2000:]
    heavy, assets = json.loads(done.stdout.rpartition("LOADED ")[2])
    assert heavy == []
    assert assets > 20


def test_ci_calls_make_test() -> None:
    script = REPOSITORY / ".ci" / "run"
    assert os.access(script, os.X_OK)
    lines = script.read_text().splitlines()
    assert "set -euo pipefail" in lines and lines[-1] == "make test"


def test_the_workspace_loads_the_definitions_module() -> None:
    workspace = yaml.safe_load((REPOSITORY / "workspace.yaml").read_text())
    (location,) = workspace["load_from"]
    assert location["python_module"]["module_name"] == pyproject()["tool"]["dg"]["project"]["defs_module"]


def test_dagster_yaml_is_valid_and_keeps_the_promises_of_its_comments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dagster import DagsterInstance

    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    (tmp_path / "dagster.yaml").symlink_to(REPOSITORY / "dagster.yaml")
    with DagsterInstance.get() as instance:
        assert instance.telemetry_enabled is False
        assert instance.run_monitoring_enabled
        assert instance.run_retries_enabled
        assert instance.run_retries_max_retries == 1
        assert instance.run_retries_retry_on_asset_or_op_failure is False
        assert instance.global_op_concurrency_default_limit == 1
        assert instance.run_monitoring_settings["free_slots_after_run_end_seconds"] > 0


def test_the_lock_pins_every_declared_dependency_within_its_bounds() -> None:
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    lines = [
        line for line in (REPOSITORY / "requirements.lock").read_text().splitlines() if line and line[0] not in "#- "
    ]
    pinned = {}
    for line in lines:
        requirement = Requirement(line)
        (specifier,) = requirement.specifier
        assert specifier.operator == "==", line
        pinned[canonicalize_name(requirement.name)] = specifier.version
    declared = pyproject()
    for text in [*declared["project"]["dependencies"], *declared["dependency-groups"]["dev"]]:
        wanted = Requirement(text)
        version = pinned.get(canonicalize_name(wanted.name))
        assert version and wanted.specifier.contains(version), f"{text}: locked is {version}; make lock"


def test_the_import_contracts_name_every_room_of_the_core() -> None:
    contracts = {contract["type"]: contract for contract in pyproject()["tool"]["importlinter"]["contracts"][:2]}
    core = {path.stem for path in (REPOSITORY / "ml_platform").iterdir() if _is_room(path)} - ROOMS_OF_THE_SHELL
    layered = {name for layer in contracts["layers"]["layers"] for name in layer.split(" : ")}
    assert {f"ml_platform.{room}" for room in core} <= layered
    assert {f"ml_platform.{room}" for room in core} == set(contracts["forbidden"]["source_modules"])


def _is_room(path: Path) -> bool:
    return (path.is_dir() and path.name != "__pycache__") or (path.suffix == ".py" and path.stem != "__init__")


def test_every_module_opens_with_a_docstring_and_can_be_read_in_one_sitting() -> None:
    wrong = []
    for path in modules("ml_platform", *SHELL):
        text = path.read_text()
        empty = path.name == "__init__.py" and not text.strip()
        if not (empty or ast.get_docstring(ast.parse(text))) or text.count("\n") > LONGEST_MODULE_LINES:
            wrong.append(relative(path))
    assert wrong == []


def test_nothing_is_imported_from_the_future_where_dagster_reads_annotations() -> None:
    shell = modules(*SHELL, "ml_platform/cli")
    assert [relative(path) for path in shell if "from __future__ import annotations" in path.read_text()] == []


def test_only_the_models_own_files_know_their_names() -> None:
    names = [path.stem for path in (REPOSITORY / "assets" / "models").glob("[a-z]*.py")]
    assert names
    knowing = [
        relative(path)
        for path in modules("ml_platform", "resources", "sensors", "assets")
        if path.parent.name != "models" and any(re.search(rf"['\"/]{name}\b", path.read_text()) for name in names)
    ]
    assert knowing == []
