"""A tick of the sensor `alerts` over a graph of 200 assets, each with a check and a freshness policy.

The graph is synthetic; what is read is real: a Dagster instance on SQLite with a materialisation, a check result and a
freshness state of every asset, runs that succeeded and some that failed, a ledger, a year of weekly drift and
performance records, and the deployment's own promises. A few things are broken, and stay so: that is the usual tick.
"""

import json
import os
import statistics
import tempfile
import time
from dataclasses import asdict
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
from dagster._core.definitions.freshness import FreshnessState, FreshnessStateChange

from assets.models import MODELS
from benchmarks.rows import Row, seconds_of
from ml_platform.clock import Clock
from ml_platform.lake import PartitionedTable
from ml_platform.monitoring.weekly import DriftRecord, PerformanceRecord
from ml_platform.registry.ledger import Ledger
from ml_platform.settings import Settings
from resources import LakeResource, LedgerResource, TrackingResource

ASSETS, BROKEN = 200, 10
RUNS, FAILED_RUNS = 60, 5
MONDAYS, VERSIONS = 52, 12
TICKS = 15
GOAL_MILLISECONDS = 200.0
TODAY = date(2017, 12, 31)
QUIET = {"python_logs": {"python_log_level": "CRITICAL"}}


def measure() -> list[Row]:
    """Milliseconds of the best of several ticks after the first, which opens what is broken."""
    from sensors.alerts import alerts

    before = dict(os.environ)
    with tempfile.TemporaryDirectory() as name:
        os.environ |= {"ML_PLATFORM_HOME": f"{name}/home", "ML_PLATFORM_TICK_SECONDS": "30"}
        os.mkdir(f"{name}/dagster")
        try:
            settings = Settings.from_env()
            with dg.DagsterInstance.local_temp(f"{name}/dagster", QUIET) as instance:
                repository = _world(instance, settings)
                ticks = _Ticks(instance, repository, alerts)
                first = seconds_of(ticks.tick)
                later = [seconds_of(ticks.tick) for _ in range(TICKS)]
                size = sum(file.stat().st_size for file in Path(name).rglob("*.db")) / 1e6
        finally:
            os.environ.clear()
            os.environ.update(before)
    note = (
        f"synthetic graph, real records: {ASSETS} checks and as many freshness states ({BROKEN} of each failed), "
        f"{RUNS} runs ({FAILED_RUNS} failed), {VERSIONS} versions and {MONDAYS} Mondays a model, {size:.0f} MB of "
        f"SQLite; "
        f"best of {TICKS}, their median {1e3 * statistics.median(later):.0f} ms, the first {1e3 * first:.0f} ms"
    )
    figure = 1e3 * min(later)
    return [Row(f"A sensor tick over {ASSETS} assets", figure, "ms", goal=GOAL_MILLISECONDS, note=note)]


class _Ticks:
    """The sensor with its cursor, as the daemon keeps it."""

    def __init__(self, instance: dg.DagsterInstance, repository: Any, sensor: Any) -> None:
        self._instance, self._repository, self._sensor = instance, repository, sensor
        self._cursor: str | None = None

    def tick(self) -> None:
        resources = {"lake": LakeResource(), "ledger": LedgerResource(), "tracking": TrackingResource()}
        with dg.build_sensor_context(
            self._instance, self._cursor, repository_def=self._repository, sensor_name="alerts", resources=resources
        ) as context:
            said = self._sensor(context).skip_message
            self._cursor = context.cursor
        if "not observed" in said or "is down" in said:
            raise RuntimeError(said)


def _world(instance: dg.DagsterInstance, settings: Settings) -> Any:
    settings.home.mkdir()
    Clock(settings.home).move_to(TODAY)
    for model in MODELS:
        _history(model, settings)
    repository = _graph()
    now = time.time()
    for number, node in enumerate(sorted(repository.asset_graph.asset_nodes, key=lambda each: each.key)):
        broken = number < BROKEN
        instance.report_runless_asset_event(dg.AssetMaterialization(node.key, metadata={"rows": number}))
        instance.report_runless_asset_event(
            dg.AssetCheckEvaluation(
                asset_key=node.key,
                check_name="rows",
                passed=not broken,
                severity=dg.AssetCheckSeverity.WARN,
                metadata={"rows": dg.MetadataValue.int(number), "threshold": dg.MetadataValue.int(1)},
            )
        )
        state = FreshnessState.FAIL if broken else FreshnessState.PASS
        instance.report_runless_asset_event(
            FreshnessStateChange(
                key=node.key, new_state=state, previous_state=FreshnessState.UNKNOWN, state_change_timestamp=now
            )
        )
    for number in range(RUNS):
        made = _asset(ASSETS - 1, fails=number % (RUNS // FAILED_RUNS) == 0)
        tags = {"ml_platform/reaction": f"make {number}"}
        dg.materialize([made], instance=instance, tags=tags, raise_on_error=False)
    return repository


def _graph() -> Any:
    return dg.Definitions(assets=[_asset(number) for number in range(ASSETS)]).get_repository_def()


def _asset(number: int, fails: bool = False) -> dg.AssetsDefinition:
    name = f"asset_{number:03}"

    @dg.asset(
        name=name,
        owners=["team:bench"],
        check_specs=[dg.AssetCheckSpec("rows", asset=name)],
        freshness_policy=dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=48)),
    )
    def one() -> dg.MaterializeResult:
        if fails:
            raise ValueError("not this time")
        return dg.MaterializeResult(check_results=[dg.AssetCheckResult(check_name="rows", passed=True)])

    return one


def _history(model: str, settings: Settings) -> None:
    """A first champion, later versions refused; calm Mondays that kept their promise."""
    book = Ledger(settings.ledger_url, Clock(settings.home).now)
    for number in range(VERSIONS):
        version = book.register(
            model,
            bundle_digest=f"{model}-{number}",
            bundle_uri="nowhere",
            cutoff=TODAY - timedelta(weeks=MONDAYS - number, days=6),
            training_set_digest="none",
            spec_digest="none",
            run_id="none",
        )
        rival = f"{model}-0" if number else None
        gates = [{"name": gate, "passed": not number, "figure": 0.1, "threshold": 0.2} for gate in ("one", "two")]
        verdict = {"artifact_digest": version.bundle_digest, "champion_digest": rival, "gates": gates, "metrics": {}}
        recorded = book.record_verdict(model, version.version, verdict, 1 if number else None)
        if not number:
            book.append(model, "promote", 1, None, who="ada", reason="first", evidence_digest=recorded.digest)
    frame = pl.DataFrame({"score": [0.1, 0.2]})
    for week in range(MONDAYS):
        day = TODAY - timedelta(weeks=week, days=6)
        stated = {
            "drift": DriftRecord(day, "calm", "calm", 1, {"score_psi": 0.01, "feature_psi": 0.02}),
            "performance": PerformanceRecord(day, day - timedelta(weeks=5), 1, None, 2, 1, (), {"champion_auc": 0.8}),
        }
        for kind, record in stated.items():
            table = PartitionedTable(settings.lake / kind, model)
            said = {"record": json.dumps(asdict(record), default=str)}
            table.publish(table.stage(day.isoformat(), frame, said))
