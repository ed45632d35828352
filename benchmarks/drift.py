"""Drift of a million rows against a stored reference, beside Evidently's preset on the very same rows.

The rows are synthetic, for their number and their kinds only: continuous, skewed, counts with many zeros, and
columns with missing values, some of the current ones shifted. Each side runs in a process of its own, reads Parquet
and says what moved; imports are part of neither's seconds, and of both's memory.
"""

import json
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.rows import Row, run_tree, this_python

ROWS, COLUMNS = 1_000_000, 20
SHIFTED = 4
GOAL_SECONDS, GOAL_MB = 2.0, 500.0
REPEATS = 3
ROW_GROUP_ROWS = 131_072


def measure() -> list[Row]:
    """Seconds of the best of several runs of ours, of one of Evidently's; the highest memory of each."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number, part in enumerate(("reference", "current")):
            pq.write_table(make_rows(number), folder / f"{part}.parquet", row_group_size=ROW_GROUP_ROWS)
        _run("sketch", folder)
        runs = [_run("ours", folder) for _ in range(REPEATS)]
        peer = _run("evidently", folder)
    seconds, megabytes = min(run["seconds"] for run in runs), max(run["megabytes"] for run in runs)
    if any(run["drifted"] != SHIFTED for run in runs):
        raise RuntimeError(f"{SHIFTED} columns are shifted, found were {[run['drifted'] for run in runs]}")
    note = (
        f"{ROWS:,} × {COLUMNS} synthetic rows from Parquet against a stored sketch, best of {REPEATS}; Evidently "
        f"{peer['version']} is asked for PSI on every column and no HTML. Of {SHIFTED} shifted columns ours names "
        f"{runs[0]['drifted']} above .1, Evidently {peer['drifted']}: its bins are of equal width"
    )
    memory = f"highest resident memory of the process, libraries included; Evidently {peer['megabytes']:,.0f} MB"
    return [
        Row("Drift of 1M rows × 20 columns", seconds, "s", goal=GOAL_SECONDS, note=note),
        Row("… memory", megabytes, "MB", goal=GOAL_MB, note=memory),
        Row("… beside Evidently's preset", seconds, "s", "`DataDriftPreset`", peer["seconds"]),
        Row("… memory beside Evidently's preset", megabytes, "MB", "`DataDriftPreset`", peer["megabytes"]),
    ]


def make_rows(number: int) -> pa.Table:
    """[ROWS, COLUMNS]; the second table (`number` 1) is shifted in every fifth column, SHIFTED in all."""
    random = np.random.default_rng(number)
    columns = {}
    for position in range(COLUMNS):
        moved = 0.5 if number and position % 5 == 0 else 0.0
        kind = position % 4
        if kind == 0:
            values = random.normal(moved, 1, ROWS)
        elif kind == 1:
            values = random.lognormal(moved, 1, ROWS)
        elif kind == 2:
            values = random.poisson(0.5 + moved, ROWS).astype(np.float64)
        else:
            values = np.where(random.random(ROWS) < 0.2, np.nan, random.gamma(2 + moved, 10, ROWS))
        columns[f"column_{position}"] = pa.array(values, from_pandas=True)
    return pa.table(columns)


def _run(side: str, folder: Path) -> dict:
    done = run_tree(
        [str(this_python()), "-W", "ignore", "-m", "benchmarks.drift", side, str(folder)],
        os.environ | {"OMP_NUM_THREADS": "2"},
    )
    return json.loads(done.output.strip().splitlines()[-1]) | {"megabytes": done.peak_gb * 1000}


def sketch(folder: Path) -> dict:
    """Makes the stored reference; the last column stands for the score."""
    from ml_platform.monitoring.sketch import build_sketch

    rows = pq.read_table(folder / "reference.parquet")
    names = [*rows.column_names[:-1], "score"]
    made = build_sketch(dict(zip(names, (column.to_numpy() for column in rows.columns))))
    (folder / "reference.json").write_text(json.dumps(made.to_json()))
    return {}


def ours(folder: Path) -> dict:
    """From files to a report."""
    import pyarrow.compute  # noqa: F401  (an import, not work)

    from ml_platform.monitoring.drift import count_parquet, judge_drift
    from ml_platform.monitoring.sketch import Sketch

    began = time.perf_counter()
    reference = Sketch.from_json(json.loads((folder / "reference.json").read_text()))
    columns = {name: f"column_{position}" for position, name in enumerate(reference.names)}
    current = count_parquet(reference, [folder / "current.parquet"], columns)
    report = judge_drift(reference, current, dict.fromkeys(reference.names, 1.0))
    seconds = time.perf_counter() - began
    drifted = sum(shift.psi > 0.1 for shift in (report.score, *report.shifts))
    return {"seconds": seconds, "drifted": drifted}


def evidently(folder: Path) -> dict:
    """From files to the preset's figures."""
    os.environ["DO_NOT_TRACK"] = "1"
    from evidently import DataDefinition, Dataset, Report, __version__
    from evidently.presets import DataDriftPreset

    began = time.perf_counter()
    frames = [pq.read_table(folder / f"{part}.parquet").to_pandas() for part in ("current", "reference")]
    shape = DataDefinition(numerical_columns=list(frames[0].columns))
    report = Report([DataDriftPreset(method="psi", threshold=0.1)])
    figures = report.run(*(Dataset.from_pandas(frame, shape) for frame in frames)).dict()
    shifts = [metric["value"] for metric in figures["metrics"] if metric["metric_name"].startswith("ValueDrift")]
    drifted = sum(bool(psi > 0.1) for psi in shifts)
    return {"seconds": time.perf_counter() - began, "drifted": drifted, "version": __version__}


if __name__ == "__main__":
    print(json.dumps({"sketch": sketch, "ours": ours, "evidently": evidently}[sys.argv[1]](Path(sys.argv[2]))))
