"""dbt as a resource: the project, its manifest kept fresh, and builds on the warehouse of the profile.

A manifest names relations, so each warehouse, and on Snowflake each database and schema prefix, has one of its own. A
build leaves nothing behind but what its events say; the folder of an op's last failed build is kept to be looked at.
"""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster_dbt import DagsterDbtTranslator, DbtProject
from dagster_dbt.asset_utils import (
    DAGSTER_DBT_EXCLUDE_METADATA_KEY,
    DAGSTER_DBT_SELECT_METADATA_KEY,
    DAGSTER_DBT_SELECTOR_METADATA_KEY,
    get_subset_selection_for_context,
)
from dagster_dbt.core.dbt_cli_event import DbtCoreCliEventMessage

from ml_platform.errors import ConfigurationError
from ml_platform.settings import REPOSITORY, Settings

if TYPE_CHECKING:
    from dbt.cli.main import dbtRunnerResult
    from dbt.contracts.graph.manifest import Manifest

FOLDER = REPOSITORY / "dbt_project"


def _parsed_folder() -> Path:
    """Where the parsed project lies, within its folder."""
    account = Settings.from_env().snowflake
    if account is None:
        return Path("target")
    place = f"{account.database}.{account.schema_prefix}"
    return Path("target", f"snowflake-{hashlib.sha256(place.encode()).hexdigest()[:8]}")


PROJECT = DbtProject(project_dir=FOLDER, profiles_dir=FOLDER, target_path=_parsed_folder())
DBT = Path(sys.executable).with_name("dbt")
PARTIAL_PARSE = "partial_parse.msgpack"
SOURCE_SUFFIXES = {".sql", ".yml", ".yaml"}


def manifest_path() -> Path:
    """The manifest, parsed anew only when a source file is newer: a look costs milliseconds, a parse seconds.

    One process parses while the others wait, and what it has parsed appears whole: the manifest is the last of it.
    """
    manifest = PROJECT.manifest_path
    if _is_old(manifest):
        manifest.parent.mkdir(parents=True, exist_ok=True)
        with manifest.with_name("parsing.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if _is_old(manifest):
                _parse(manifest.parent)
    return manifest


def _is_old(manifest: Path) -> bool:
    return not manifest.exists() or manifest.stat().st_mtime < _newest_source()


def _newest_source() -> float:
    folders = ("models", "macros", "tests")
    files = [file for folder in folders for file in (FOLDER / folder).rglob("*")]
    files += [FOLDER / "dbt_project.yml", FOLDER / "profiles.yml"]
    return max(file.stat().st_mtime for file in files if file.suffix in SOURCE_SUFFIXES)


def _parse(folder: Path) -> None:
    """Parses the project into the folder, from what was parsed there before."""
    with tempfile.TemporaryDirectory(prefix="parsing-", dir=folder) as aside:
        parsed = folder / PARTIAL_PARSE
        if parsed.exists():
            shutil.copy(parsed, aside)
        command = [str(DBT), "--quiet", "parse", "--target-path", aside]
        done = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, env=dbt_environment())
        if done.returncode:
            raise ConfigurationError(
                f"dbt cannot parse the project:\n{done.stdout[-2000:]}{done.stderr[-2000:]}",
                where=FOLDER,
                next_step="mend the file that dbt names, then run again",
            )
        for name in (PARTIAL_PARSE, PROJECT.manifest_path.name):
            Path(aside, name).replace(folder / name)


def dbt_environment() -> dict[str, str]:
    """What dbt's profile reads: which target, and where it is. The account's own variables it reads as they are."""
    settings = Settings.from_env()
    said = {"DBT_TARGET": "local", "DBT_SCHEMA_PREFIX": "", "DBT_SEND_ANONYMOUS_USAGE_STATS": "false"}
    if account := settings.snowflake:
        said |= {"DBT_TARGET": "snowflake", "DBT_SCHEMA_PREFIX": account.schema_prefix}
        return {**os.environ, **said, "SNOWFLAKE_AUTHENTICATOR": account.authenticator}
    settings.warehouse_file.parent.mkdir(parents=True, exist_ok=True)
    return {**os.environ, **said, "DBT_DUCKDB_PATH": str(settings.warehouse_file)}


@dataclass(frozen=True)
class Built:
    """What an invocation said. `events`: dbt's structured log, as dagster-dbt reads it; `manifest`: with the SQL that
    was compiled; `failure`: why it failed and where dbt's log is, None when it did not."""

    events: list[DbtCoreCliEventMessage]
    manifest: dict[str, Any]
    failure: str | None


class Dbt(dg.ConfigurableResource):
    """Runs `dbt build` for the assets of one op: one invocation, whatever the number of models or partitions."""

    def build(
        self, context: dg.AssetExecutionContext, translator: DagsterDbtTranslator, variables: Mapping[str, date]
    ) -> Built:
        """Builds in this process, from the parsed project; the caller holds the warehouse lock.

        A process of its own would import dbt and parse the project again each time, which takes five times as long as
        a day's SQL. Unit tests are of the code, not of the data: the test suite runs them.
        """
        from dbt.cli.main import dbtRunner

        os.environ.update(dbt_environment())
        os.environ["DBT_QUERY_TAG"] = f"{context.op.name} {context.run_id}"
        events: list[DbtCoreCliEventMessage] = []
        runner = dbtRunner(manifest=_parsed(), callbacks=[lambda event: _keep(events, event)])
        with tempfile.TemporaryDirectory(prefix="dbt-") as target:
            command = [
                *("build", "--exclude-resource-type", "unit_test", "--quiet"),
                *("--vars", json.dumps({name: day.isoformat() for name, day in variables.items()})),
                *("--project-dir", str(FOLDER), "--profiles-dir", str(FOLDER)),
                *("--target-path", target, "--log-path", target),
                *_selection(context, translator),
            ]
            try:
                done = runner.invoke(command)
            finally:
                _let_go()
            written = Path(target, "manifest.json")
            manifest = json.loads(written.read_text()) if written.exists() else {}
            if done.success:
                return Built(events, manifest, None)
            failed = FOLDER / PROJECT.target_path / f"{context.op.name}-failed"
            shutil.rmtree(failed, ignore_errors=True)
            shutil.copytree(target, failed)
            return Built(events, manifest, f"{_failure(done)}; what dbt logged and compiled is in {failed}")


def _let_go() -> None:
    """dbt keeps DuckDB's file open for as long as the process lives; it is the next one's."""
    if Settings.from_env().warehouse == "duckdb":
        from dbt.adapters.duckdb.connections import DuckDBConnectionManager

        DuckDBConnectionManager.close_all_connections()


def _parsed() -> "Manifest":
    """The project as `manifest_path` has it parsed; dbt fills in what it compiles, so each build takes a fresh one."""
    from dbt.contracts.graph.manifest import Manifest

    manifest = Manifest.from_msgpack(manifest_path().with_name(PARTIAL_PARSE).read_bytes())
    manifest.build_flat_graph()
    return manifest


def _selection(context: dg.AssetExecutionContext, translator: DagsterDbtTranslator) -> list[str]:
    """dbt's arguments for the assets and checks that this run asks for."""
    manifest = json.loads(manifest_path().read_text())
    arguments, indirect = get_subset_selection_for_context(
        context=context,
        manifest=manifest,
        select=context.op.tags.get(DAGSTER_DBT_SELECT_METADATA_KEY),
        exclude=context.op.tags.get(DAGSTER_DBT_EXCLUDE_METADATA_KEY),
        selector=context.op.tags.get(DAGSTER_DBT_SELECTOR_METADATA_KEY),
        dagster_dbt_translator=translator,
        current_dbt_indirect_selection_env=None,
    )
    return [*arguments, *(["--indirect-selection", indirect] if indirect else [])]


def _keep(events: list[DbtCoreCliEventMessage], event: Any) -> None:
    """Keeps what dagster-dbt makes assets and checks of, in the shape of dbt's JSON log."""
    from dbt_common.events.functions import msg_to_dict

    message = DbtCoreCliEventMessage(raw_event=msg_to_dict(event), event_history_metadata={})
    if message.is_result_event:
        events.append(message)


def _failure(done: "dbtRunnerResult") -> str:
    """Why an invocation failed: what dbt raised, or each node that failed with its message."""
    if done.exception:
        return str(done.exception)
    failed = [each for each in getattr(done.result, "results", []) if each.status in ("error", "fail", "runtime error")]
    return "; ".join(f"{each.node.name}: {each.message}" for each in failed) or "dbt failed and does not say why"
