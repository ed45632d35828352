"""The orchestration tax: the whole graph under Dagster, beside the same core functions in one plain script.

Both start from the same landed year in homes of their own and end with two champions and their predictions; what they
made has to be the same, digest for digest. `ML_PLATFORM_HOUSEHOLDS` makes the year smaller. `mlp demo` runs once more,
from nothing, for its time and memory.
"""

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

from benchmarks.rows import Finished, Row, run_tree, this_python
from ml_platform.settings import Settings

LAST_DAY = "2017-12-31"
GOAL_TAX, GOAL_DEMO_SECONDS, GOAL_DEMO_GB = 1.25, 180.0, 4.0
SCOPE = ("features", "training_sets", "catalogues", "models", "predictions", "embeddings", "drift", "performance")


def measure() -> list[Row]:
    """Three runs, one after another, each a process tree of its own."""
    households = Settings.from_env().households
    scope = f"{households} households" if households else "every household"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        demo = _mlp(folder / "demo", "demo")
        for home in ("dagster", "plain"):
            shutil.copytree(folder / "demo" / "landing", folder / home / "landing")
        shutil.rmtree(folder / "demo")
        plain = run_tree([str(this_python()), "-m", "benchmarks.plain_path"], _environ(folder / "plain"))
        dagster = _mlp(folder / "dagster", "run")
        _demand_same(folder / "dagster" / "lake", folder / "plain" / "lake")
    return [
        Row("Whole graph under Dagster", dagster.seconds, "s", "one plain script", plain.seconds, GOAL_TAX, scope),
        Row(
            "… its peak memory",
            dagster.peak_gb,
            "GB",
            "one plain script",
            plain.peak_gb,
            None,
            "the whole process tree",
        ),
        Row("`make demo`, environment there", demo.seconds, "s", goal=GOAL_DEMO_SECONDS, note="landing included"),
        Row("… its peak memory", demo.peak_gb, "GB", goal=GOAL_DEMO_GB),
    ]


def _mlp(home: Path, command: str) -> Finished:
    """`mlp` as its entry point starts it, in this very environment."""
    return run_tree([str(this_python()), "-c", "from ml_platform.cli import app; app()", command], _environ(home))


def _environ(home: Path) -> dict[str, str]:
    """This environment, with a home of its own and nothing that points elsewhere."""
    kept = {name: value for name, value in os.environ.items() if name not in ("MLFLOW_TRACKING_URI", "DAGSTER_HOME")}
    kept.pop("ML_PLATFORM_LEDGER_URL", None)
    return {**kept, "ML_PLATFORM_HOME": str(home)}


def _demand_same(one: Path, other: Path) -> None:
    """Both lakes hold the same data files with the same bytes. Raises RuntimeError."""
    left, right = _data_files(one), _data_files(other)
    if left != right or not left:
        differing = sorted(name for name in left.keys() | right.keys() if left.get(name) != right.get(name))
        raise RuntimeError(f"Dagster and the plain script made different things: {differing[:5]} of {len(left)}")


def _data_files(lake: Path) -> dict[str, bytes]:
    files = [file for part in SCOPE for file in (lake / part).rglob("*.parquet")]
    return {str(file.relative_to(lake)): hashlib.sha256(file.read_bytes()).digest() for file in files}
