"""dbt as a resource: the project, its manifest kept fresh, and one build at a time on the warehouse of the profile."""

import json
import os
import subprocess
import sys
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
    warehouse = Settings.from_env().warehouse_file
    warehouse.parent.mkdir(parents=True, exist_ok=True)
    return {**os.environ, "DBT_DUCKDB_PATH": str(warehouse), "DBT_SEND_ANONYMOUS_USAGE_STATS": "false"}


@dataclass(frozen=True)
class Built:
    """What an invocation said and left. `events`: dbt's structured log, as dagster-dbt reads it; `failure`: why it
    failed, None when it did not."""

    events: list[DbtCoreCliEventMessage]
    target: Path
    failure: str | None

    def manifest(self) -> dict[str, Any]:
        """The manifest with the SQL that was compiled."""
        return json.loads((self.target / "manifest.json").read_text())


class Dbt(dg.ConfigurableResource):
    """Runs `dbt build` for the assets of one op: one invocation, whatever the number of models or partitions."""

    def build(
        self, context: dg.AssetExecutionContext, translator: DagsterDbtTranslator, variables: Mapping[str, date]
    ) -> Built:
        """Builds in this process, from the parsed project; the caller holds the warehouse lock.

        A process of its own would import dbt and parse the project again each time, which takes five times as long as
        a day's SQL. Unit tests are of the code, not of the data: the test suite runs them.
        """
        from dbt.adapters.duckdb.connections import DuckDBConnectionManager
        from dbt.cli.main import dbtRunner

        os.environ.update(dbt_environment())
        target = PROJECT.project_dir / PROJECT.target_path / f"{context.op.name}-{context.run_id[:8]}"
        events: list[DbtCoreCliEventMessage] = []
        runner = dbtRunner(manifest=_parsed(), callbacks=[lambda event: _keep(events, event)])
        command = [
            *("build", "--exclude-resource-type", "unit_test", "--quiet"),
            *("--vars", json.dumps({name: day.isoformat() for name, day in variables.items()})),
            *("--project-dir", str(PROJECT.project_dir), "--profiles-dir", str(PROJECT.project_dir)),
            *("--target-path", str(target), "--log-path", str(target)),
            *_selection(context, translator),
        ]
        try:
            done = runner.invoke(command)
        finally:
            DuckDBConnectionManager.close_all_connections()  # the file is the next one's
        return Built(events, target, None if done.success else _failure(done))


def _parsed() -> "Manifest":
    """The project as `manifest_path` has it parsed; dbt fills in what it compiles, so each build takes a fresh one."""
    from dbt.contracts.graph.manifest import Manifest

    manifest = Manifest.from_msgpack(manifest_path().with_name("partial_parse.msgpack").read_bytes())
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
