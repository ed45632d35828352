"""dbt as a resource: the project, its manifest kept fresh, and one build at a time on the warehouse of the profile."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from datetime import date
from functools import cached_property
from importlib.metadata import version
from pathlib import Path

import dagster as dg
from dagster_dbt import DagsterDbtTranslator, DbtCliInvocation, DbtCliResource, DbtProject
from packaging.version import Version

from ml_platform.errors import ConfigurationError
from ml_platform.settings import REPOSITORY, Settings

PROJECT = DbtProject(project_dir=REPOSITORY / "dbt_project", profiles_dir=REPOSITORY / "dbt_project")
DBT = Path(sys.executable).with_name("dbt")
SOURCE_SUFFIXES = {".sql", ".yml", ".yaml"}


def manifest_path() -> Path:
    """The manifest, parsed anew only when a source file is newer: a look costs milliseconds, a parse seconds."""
    manifest = PROJECT.manifest_path
    if not manifest.exists() or manifest.stat().st_mtime < _newest_source():
        _parse()
    return manifest


def _newest_source() -> float:
    folders = ("models", "macros", "tests")
    files = [file for folder in folders for file in (PROJECT.project_dir / folder).rglob("*")]
    files += [PROJECT.project_dir / "dbt_project.yml", PROJECT.project_dir / "profiles.yml"]
    return max(file.stat().st_mtime for file in files if file.suffix in SOURCE_SUFFIXES)


def _parse() -> None:
    command = [str(DBT), "--quiet", "parse", "--target-path", str(PROJECT.manifest_path.parent)]
    done = subprocess.run(command, cwd=PROJECT.project_dir, capture_output=True, text=True, env=dbt_environment())
    if done.returncode:
        raise ConfigurationError(
            f"dbt cannot parse the project:\n{done.stdout[-2000:]}{done.stderr[-2000:]}",
            where=PROJECT.project_dir,
            next_step="mend the file that dbt names, then run again",
        )


def dbt_environment() -> dict[str, str]:
    """What dbt's profile reads: where this home's warehouse is."""
    warehouse = Settings.from_env().warehouse
    warehouse.parent.mkdir(parents=True, exist_ok=True)
    return {**os.environ, "DBT_DUCKDB_PATH": str(warehouse), "DBT_SEND_ANONYMOUS_USAGE_STATS": "false"}


class _InstalledDbt(DbtCliResource):
    """The resource asks the executable for its version before each invocation, which costs seconds; ours is the one of
    this environment, whose version is known."""

    @cached_property
    def _cli_version(self) -> Version:
        return Version(version("dbt-core"))


class Dbt(dg.ConfigurableResource):
    """Runs `dbt build` for the assets of one op: one invocation, whatever the number of models or partitions."""

    def build(
        self, context: dg.AssetExecutionContext, translator: DagsterDbtTranslator, variables: Mapping[str, date]
    ) -> DbtCliInvocation:
        """Starts dbt as a process of its own; the caller holds the warehouse lock and reads the events.

        Unit tests are of the code, not of the data: the test suite runs them.
        """
        os.environ.update(dbt_environment())
        stated = json.dumps({name: day.isoformat() for name, day in variables.items()})
        folder = str(PROJECT.project_dir)
        cli = _InstalledDbt(project_dir=folder, profiles_dir=folder, dbt_executable=str(DBT))
        command = ["build", "--exclude-resource-type", "unit_test", "--vars", stated]
        return cli.cli(command, context=context, dagster_dbt_translator=translator)
