"""One epoch of the next-basket model over 28,000 queries on two threads, and the worker's memory.

The queries are synthetic, of the reference data's sizes: 17,000 products, 33 baskets of 11 products a household,
one Monday in fourteen days. A real worker process trains them; its seconds an epoch are read from its own progress.
"""

import os
import re
import subprocess
import tempfile
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.rows import Row, run_tree, this_python
from ml_platform.settings import REPOSITORY
from ml_platform.training.job import TrainingJob, file_sha256, write_job
from ml_platform.training.spec import Trainer

QUERIES, STOP_QUERIES, MONDAYS, PRODUCTS = 28_000, 256, 16, 17_000
BASKETS, BASKET_SIZE, TARGETS = 33, 11, 12
GOAL_SECONDS, GOAL_GB = 12.0, 2.0
_LISTS = pa.list_(pa.int64())


def measure() -> list[Row]:
    """Seconds of the epoch as the worker's pace says it, and the highest memory of another one's process: to be watched
    costs the first a quarter of its pace."""
    environ = os.environ | {"OMP_NUM_THREADS": "2"}
    with tempfile.TemporaryDirectory() as name:
        paced, watched = (
            [str(this_python()), "-m", "ml_platform.training.worker", str(write_world(Path(name) / world))]
            for world in ("paced", "watched")
        )
        said = subprocess.run(paced, cwd=REPOSITORY, env=environ, check=True, capture_output=True, text=True)
        peak_gb = run_tree(watched, environ).peak_gb
    pace = re.findall(r"epoch 1 of at most 1.*? ([\d,]+) rows/s", said.stdout + said.stderr)
    seconds = QUERIES / float(pace[-1].replace(",", ""))
    note = f"{QUERIES:,} synthetic queries, {PRODUCTS:,} products, full softmax, evaluation of {STOP_QUERIES} included"
    return [
        Row("Next basket: an epoch on 2 threads", seconds, "s", goal=GOAL_SECONDS, note=note),
        Row("… memory of the worker", peak_gb, "GB", goal=GOAL_GB, note="data, scoring and bundle included"),
    ]


def write_world(folder: Path, device: str = "cpu", epochs: int = 1) -> Path:
    """Training set and catalogue of synthetic queries, and the job that trains on them. Returns the job's path."""
    random = np.random.default_rng(1)
    folder.mkdir(parents=True, exist_ok=True)
    training_set, catalogue = folder / "training_set.parquet", folder / "catalogue.parquet"
    parts = [_rows(random, QUERIES // MONDAYS, "train", week) for week in range(MONDAYS)]
    parts += [_rows(random, STOP_QUERIES, role, MONDAYS + n) for n, role in enumerate(("stop", "evaluate"))]
    pq.write_table(pa.concat_tables(parts), training_set)
    pq.write_table(pa.concat_tables([_catalogue(random, week) for week in range(MONDAYS + 2)]), catalogue)
    job = TrainingJob(
        model="next_basket",
        spec_digest="benchmark",
        data_digest="benchmark",
        data_path=str(training_set),
        data_sha256=file_sha256(training_set),
        catalogue_path=str(catalogue),
        catalogue_sha256=file_sha256(catalogue),
        output=str(folder / "bundle"),
        features=("household_baskets:products", "household_baskets:days_ago"),
        trainer=Trainer("torch", epochs, epochs),
        seed=1,
        threads=2,
        device=device,
        processes=1,
        deadline_seconds=3600,
        checkpoint_seconds=3600,
        reproducible_rounds=1,
    )
    return write_job(job, folder / "job.json")


def _rows(random: np.random.Generator, count: int, role: str, week: int) -> pa.Table:
    """`count` queries as of one Monday; popular products are bought most, and again."""
    sizes = np.full((count, BASKETS), BASKET_SIZE, np.int32)
    bought = _popular(random, count * BASKETS, BASKET_SIZE)
    days = np.tile(np.arange(BASKETS, 0, -1, dtype=np.int32) * 4, count)
    return pa.table(
        {
            "household_id": np.arange(count),
            "as_of": pa.array([_monday(week)] * count),
            "role": [role] * count,
            "label": _lists(_popular(random, count, TARGETS), count, _LISTS),
            "household_baskets__products": _lists(bought, count, _LISTS),
            "household_baskets__basket_sizes": _lists(sizes.ravel(), count, pa.list_(pa.int32())),
            "household_baskets__days_ago": _lists(days, count, pa.list_(pa.int32())),
        }
    )


def _catalogue(random: np.random.Generator, week: int) -> pa.Table:
    lines = random.integers(10, 500, PRODUCTS).astype(np.int32)
    return pa.table(
        {
            "product_id": np.arange(PRODUCTS),
            "as_of": pa.array([_monday(week)] * PRODUCTS),
            "product__category": [f"category {number % 300}" for number in range(PRODUCTS)],
            "product__lines_84d": lines,
            "product__repeat_share_84d": random.random(PRODUCTS),
        }
    )


def _popular(random: np.random.Generator, baskets: int, size: int) -> np.ndarray:
    """The products of that many baskets, rising in each: [baskets * size]."""
    drawn = np.sort((PRODUCTS - size) * random.random((baskets, size)) ** 4, axis=1).astype(np.int64)
    return (drawn + np.arange(size)).ravel()


def _lists(values: np.ndarray, rows: int, kind: pa.ListType) -> pa.Array:
    offsets = np.linspace(0, len(values), rows + 1).astype(np.int32)
    return pa.ListArray.from_arrays(offsets, pa.array(values, kind.value_type))


def _monday(week: int) -> date:
    return date(2017, 4, 3) + timedelta(weeks=2 * week)
