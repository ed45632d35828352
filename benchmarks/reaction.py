"""A day's reaction: from a Sunday's file that landed to the features of the Monday after it, published.

The sensors and runs are the platform's own, evaluated as the headless replay does it; the time ends with the last
materialisation of a feature table. Beside it, in the same warm process and from a copy of the same history, the same
work called plainly: load the file, two dbt builds, publish. Both publish the same digests, or there is no figure.
"""

import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from dagster import AssetKey, AssetRecordsFilter, DagsterInstance
from rich.console import Console

from assets.feature_tables import FEATURE_TABLES
from benchmarks.rows import REPOSITORY, Row, seconds_of
from ml_platform.calendar import DAY, WEEK
from ml_platform.cli.headless import headless_daemon
from ml_platform.cli.land import land
from ml_platform.features.publish import publish_weeks
from ml_platform.features.store import FeatureStore
from ml_platform.landing.files import LandingFolder
from ml_platform.landing.loading import create_raw, demand_every_day, load_all
from ml_platform.landing.tables import RAW_TABLES
from ml_platform.settings import Settings
from ml_platform.warehouse.duckdb import DuckDBWarehouse

FIRST_MONDAY = date(2017, 4, 3)
TURNS = 3
GOAL_SECONDS = 5.0
HOUSEHOLDS = "200"


@dataclass(frozen=True)
class Turn:
    """Seconds of one Monday."""

    platform: float
    plain: float

    @property
    def added(self) -> float:
        return self.platform - self.plain


def measure() -> list[Row]:
    """The median of several Mondays, one after another in one home."""
    households = os.environ.get("ML_PLATFORM_HOUSEHOLDS", HOUSEHOLDS)
    with tempfile.TemporaryDirectory() as name, _environment(Path(name) / "home", households):
        with headless_daemon(Settings.from_env()) as daemon:
            turns = [
                _turn(daemon.settle, daemon.instance, FIRST_MONDAY + number * WEEK, Path(name))
                for number in range(TURNS)
            ]
    platform, plain = (statistics.median(getattr(turn, each) for turn in turns) for each in ("platform", "plain"))
    said = ", ".join(f"{turn.added:.1f}" for turn in turns)
    note = (
        f"{households} households, median of {TURNS} Mondays ({said} s): platform {platform:.1f} s, the same work "
        f"called plainly {plain:.1f} s; sensors look every second, runs stay in one warm process. A process a run and "
        f"the usual 30 s between looks come on top"
    )
    added = statistics.median(turn.added for turn in turns)
    return [Row("A day's reaction, landed file to features: added", added, "s", goal=GOAL_SECONDS, note=note)]


def _turn(settle: Callable[[], int], instance: DagsterInstance, monday: date, folder: Path) -> Turn:
    """History through Saturday, a copy of it for the plain path, then Sunday's file."""
    settings, quiet = Settings.from_env(), Console(quiet=True)
    land((monday - 2 * DAY).isoformat(), None, quiet)
    settle()
    copy = folder / f"plain-{monday}"
    shutil.copytree(settings.home, copy, ignore=shutil.ignore_patterns("dagster", "mlflow"))
    land((monday - DAY).isoformat(), None, quiet)
    began = time.time()
    settle()
    platform = max(_published_at(instance, table, monday) for table in FEATURE_TABLES) - began
    beside = Settings.from_env({"ML_PLATFORM_HOME": str(copy)})
    plain = seconds_of(lambda: _plainly(settings.landing, beside, monday))
    _demand_same(settings, beside, monday)
    shutil.rmtree(copy)
    return Turn(platform, plain)


def _published_at(instance: DagsterInstance, table: str, monday: date) -> float:
    """When the partition was materialised, as the event log has it."""
    asked = AssetRecordsFilter(AssetKey(["features", table]), asset_partitions=[monday.isoformat()])
    found = instance.fetch_materializations(asked, limit=1).records
    if not found:
        raise RuntimeError(f"features/{table} of {monday} were not made")
    return found[0].timestamp


def _plainly(files: Path, settings: Settings, monday: date) -> None:
    """What the assets call, without the assets."""
    sunday, warehouse, landing = monday - DAY, DuckDBWarehouse(settings.warehouse), LandingFolder(files)
    for table in RAW_TABLES.values():
        with warehouse.session("load") as session:
            create_raw(session)
            deliveries = landing.deliveries(table.name, sunday, sunday)
            demand_every_day(table, deliveries, sunday, sunday)
            load_all(session, table, deliveries)
    _dbt_build(warehouse, ["staging", "marts"], {"landed_from": sunday, "landed_to": sunday})
    _dbt_build(warehouse, ["feature_models"], {"as_of_from": monday, "as_of_to": monday})
    store = FeatureStore(settings.lake, FEATURE_TABLES)
    for table in FEATURE_TABLES.values():
        with warehouse.session(f"publish {table.name}") as session:
            publish_weeks(session, store, table, [monday])


def _dbt_build(warehouse: DuckDBWarehouse, folders: list[str], days: dict[str, date]) -> None:
    """One `dbt build` from the parsed project, as warm as the shell's."""
    from dbt.adapters.duckdb.connections import DuckDBConnectionManager
    from dbt.cli.main import dbtRunner
    from dbt.contracts.graph.manifest import Manifest

    from resources.dbt import manifest_path

    os.environ["DBT_DUCKDB_PATH"] = str(warehouse.path)
    manifest = Manifest.from_msgpack(manifest_path().with_name("partial_parse.msgpack").read_bytes())
    manifest.build_flat_graph()
    variables = json.dumps({name: day.isoformat() for name, day in days.items()})
    project = str(REPOSITORY / "dbt_project")
    command = ["build", "--quiet", "--exclude-resource-type", "unit_test", "--select", *folders, "--vars", variables]
    with warehouse.lock("dbt build"), tempfile.TemporaryDirectory() as target:
        places = ["--project-dir", project, "--profiles-dir", project, "--target-path", target, "--log-path", target]
        done = dbtRunner(manifest=manifest).invoke([*command, *places])
        DuckDBConnectionManager.close_all_connections()
    if not done.success:
        raise RuntimeError(f"dbt failed: {done.exception or done.result}")


def _demand_same(one: Settings, other: Settings, monday: date) -> None:
    """Both published the same rows. Raises RuntimeError."""
    for table in FEATURE_TABLES:
        digests = {
            each.home: FeatureStore(each.lake, FEATURE_TABLES).table(table).require(monday.isoformat()).digest
            for each in (one, other)
        }
        if len(set(digests.values())) != 1:
            raise RuntimeError(f"features/{table} of {monday} differ: {digests}")


@contextmanager
def _environment(home: Path, households: str) -> Iterator[None]:
    """This environment with a home of its own, put back afterwards."""
    before = dict(os.environ)
    elsewhere = ("MLFLOW_TRACKING_URI", "DAGSTER_HOME", "ML_PLATFORM_LEDGER_URL")
    for name in elsewhere:
        os.environ.pop(name, None)
    os.environ |= {"ML_PLATFORM_HOME": str(home), "ML_PLATFORM_HOUSEHOLDS": households}
    os.environ |= {"ML_PLATFORM_STEPS": "in_process", "ML_PLATFORM_TICK_SECONDS": "1"}
    os.environ["DBT_SEND_ANONYMOUS_USAGE_STATS"] = "false"
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
