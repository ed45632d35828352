"""What Dagster Pipes costs a local training: the same job file by the compute's step and by the worker alone."""

import tempfile
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pyarrow.parquet as pq

from benchmarks.rows import Row, seconds_of
from ml_platform.training.compute import run_worker
from ml_platform.training.job import TrainingJob, write_job
from ml_platform_tests.training.conftest import make_rows, make_spec
from resources.compute import LocalCompute

REPEATS = 3
GOAL_SECONDS = 2.0


def measure() -> list[Row]:
    """Wall seconds of a step that trains a small job, less those of its worker started plainly; each the best."""
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home)
        pq.write_table(make_rows(), folder / "rows.parquet")
        job = TrainingJob.from_spec(make_spec(folder), folder / "rows.parquet", "benchmark", folder / "bundle")
        fresh = (
            write_job(replace(job, output=str(folder / f"bundle-{turn}")), folder / f"job-{turn}.json")
            for turn in range(2 * REPEATS)
        )
        stepped = plain = float("inf")
        for _ in range(REPEATS):
            stepped = min(stepped, _step_seconds(next(fresh)))
            own = next(fresh)
            plain = min(plain, seconds_of(lambda own=own: run_worker(own, lambda line: None)))
    return [
        Row(
            "Pipes overhead of a local training",
            stepped - plain,
            "s",
            goal=GOAL_SECONDS,
            note=f"a step in a running process that trains in {stepped:.2g} s, less its worker alone in {plain:.2g} s",
        )
    ]


def _step_seconds(job: Path) -> float:
    @dg.asset
    def trained(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        LocalCompute().train(context, job)
        return dg.MaterializeResult()

    quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    with dg.DagsterInstance.ephemeral() as instance:
        return seconds_of(lambda: dg.materialize([trained], instance=instance, run_config=quiet))
