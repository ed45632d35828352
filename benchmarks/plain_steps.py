"""From landed files to published features without Dagster: what its assets call, called one after another.

It imports nothing of the graph: the feature tables are the caller's.
"""

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path

from benchmarks.rows import REPOSITORY
from ml_platform.contracts import FeatureTable
from ml_platform.features.publish import publish_weeks
from ml_platform.features.store import FeatureStore
from ml_platform.landing.files import LandingFolder
from ml_platform.landing.loading import create_raw, demand_every_day, load_all
from ml_platform.landing.tables import RAW_TABLES
from ml_platform.warehouse.duckdb import DuckDBWarehouse


def load(warehouse: DuckDBWarehouse, landing: LandingFolder, first: date, last: date) -> None:
    """Every raw table's deliveries of the days."""
    with warehouse.session("load") as session:
        create_raw(session)
        for table in RAW_TABLES.values():
            deliveries = landing.deliveries(table.name, first, last)
            demand_every_day(table, deliveries, first, last)
            load_all(session, table, deliveries)


def dbt_build(
    warehouse: DuckDBWarehouse, folders: Sequence[str], days: Mapping[str, date], parsed: Path | None = None
) -> None:
    """One `dbt build` of the folders' models and their tests in this process, as the shell calls it.

    With the project `parsed` before (dbt's partial_parse.msgpack) it reads no SQL file again.
    """
    from dbt.adapters.duckdb.connections import DuckDBConnectionManager
    from dbt.cli.main import dbtRunner
    from dbt.contracts.graph.manifest import Manifest

    os.environ |= {"DBT_DUCKDB_PATH": str(warehouse.path), "DBT_SEND_ANONYMOUS_USAGE_STATS": "false"}
    manifest = Manifest.from_msgpack(parsed.read_bytes()) if parsed else None
    if manifest:
        manifest.build_flat_graph()
    variables = json.dumps({name: day.isoformat() for name, day in days.items()})
    project = str(REPOSITORY / "dbt_project")
    command = ["build", "--quiet", "--exclude-resource-type", "unit_test", "--select", *folders, "--vars", variables]
    with warehouse.lock("dbt build"), tempfile.TemporaryDirectory() as target:
        places = ["--project-dir", project, "--profiles-dir", project, "--target-path", target, "--log-path", target]
        done = dbtRunner(manifest=manifest).invoke([*command, *places])
        DuckDBConnectionManager.close_all_connections()
    if not done.success:
        raise SystemExit(f"dbt failed: {done.exception or done.result}")


def publish(
    warehouse: DuckDBWarehouse, store: FeatureStore, tables: Mapping[str, FeatureTable], as_ofs: Sequence[date]
) -> None:
    """Every feature table's Mondays. Exits if one breaks its contract."""
    for table in tables.values():
        with warehouse.session(f"publish {table.name}") as session:
            weeks = publish_weeks(session, store, table, as_ofs)
        kept_aside = [week.as_of for week in weeks if week.published is None]
        if kept_aside:
            raise SystemExit(f"{table.name}: kept aside: {kept_aside}")
