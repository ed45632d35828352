"""The point-in-time join: 10M labels against 1M feature rows, beside a bare DuckDB ASOF JOIN and beside Feast.

The rows are synthetic, for their number only: 20,000 entities with a feature row on each of 50 Mondays. All
sides have to agree on the sums of what they joined, or there is no figure.
"""

import subprocess
import tempfile
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import duckdb
import numpy as np
import polars as pl

from benchmarks.rows import REPOSITORY, Row, run_json, seconds_of, take_turns, this_python
from ml_platform.features.pit import point_in_time

LABELS, ENTITIES, MONDAYS = 10_000_000, 20_000, 50
FEATURES = tuple(f"feature_{number}" for number in range(4))
FIRST_MONDAY = date(2017, 1, 30)
TTL = timedelta(days=14)
REPEATS = 3
GOAL = 1.3
FEAST_LABELS = 1_000_000
"""Fewer, on both sides: at this number Feast takes a minute, and its Dask store drops labels that are there twice."""
FEAST_STORES = {"file": "Dask", "duckdb": "Ibis on DuckDB"}
ASOF = """
select labels.*, features.as_of as feature_as_of, {features}
from labels asof left join features
    on labels.household_id = features.household_id and labels.as_of >= features.as_of
"""


def measure() -> list[Row]:
    """Both joins from rows in memory to rows in memory; Feast from its Parquet source to a data frame."""
    features, labels = make_features(), make_labels(LABELS)
    ours, bare = _ours(labels, features), _bare(labels, features)
    if _sums(ours()) != _sums(bare()):
        raise RuntimeError("the point-in-time join and the bare ASOF JOIN differ")
    best = take_turns({"ours": ours, "bare": bare}, REPEATS)
    note = f"{LABELS:,} labels, {features.height:,} feature rows, synthetic; best of {REPEATS}"
    rows = [Row("Point-in-time join", best["ours"], "s", "bare `ASOF JOIN`", best["bare"], GOAL, note)]
    return [*rows, *_beside_feast(features)]


def make_features() -> pl.DataFrame:
    """[ENTITIES * MONDAYS, household_id + as_of + features], shuffled."""
    random = np.random.default_rng(2017)
    rows = random.permutation(ENTITIES * MONDAYS)
    return pl.DataFrame(
        {"household_id": rows % ENTITIES, "as_of": _days(7 * (rows // ENTITIES))}
        | {name: random.integers(0, 1000, len(rows)).astype(np.float64) for name in FEATURES}
    )


def make_labels(count: int) -> pl.DataFrame:
    """[count, household_id + as_of + label]: any entity on any day of the 50 weeks; up to 7M, none is there twice."""
    random = np.random.default_rng(84)
    pairs = ENTITIES * 7 * MONDAYS
    rows = random.permutation(max(count, pairs))[:count] % pairs
    return pl.DataFrame(
        {
            "household_id": rows % ENTITIES,
            "as_of": _days(rows // ENTITIES),
            "label": random.integers(0, 2, count).astype(np.int8),
        }
    )


def _days(offsets: np.ndarray) -> np.ndarray:
    return np.datetime64(FIRST_MONDAY) + offsets


def _ours(labels: pl.DataFrame, features: pl.DataFrame) -> Callable[[], pl.DataFrame]:
    return lambda: point_in_time(labels, features, ["household_id"], TTL, prefix="feature")


def _bare(labels: pl.DataFrame, features: pl.DataFrame) -> Callable[[], pl.DataFrame]:
    connection = duckdb.connect()
    connection.register("labels_frame", labels.to_arrow())
    connection.register("features_frame", features.to_arrow())
    connection.execute("create table labels as from labels_frame")
    connection.execute("create table features as from features_frame")
    sql = ASOF.format(features=", ".join(f"features.{name} as feature__{name}" for name in FEATURES))

    def join() -> pl.DataFrame:
        joined = pl.from_arrow(connection.sql(sql).to_arrow_table())
        assert isinstance(joined, pl.DataFrame)
        return joined

    return join


def _sums(joined: pl.DataFrame) -> list[float]:
    """The number of rows, and the sum of each feature: whole numbers, so no order of adding changes them."""
    return [joined.height, *(float(joined[f"feature__{name}"].sum()) for name in FEATURES)]


def _beside_feast(features: pl.DataFrame) -> list[Row]:
    """Each of Feast's local offline stores on the same rows, in an environment of its own."""
    labels = make_labels(FEAST_LABELS)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        instant = pl.col("as_of").cast(pl.Datetime("us")).dt.replace_time_zone("UTC").alias("event_timestamp")
        features.select("household_id", instant, *FEATURES).write_parquet(folder / "features.parquet")
        labels.select("household_id", instant, "label").write_parquet(folder / "labels.parquet")
        python = _feast_python()
        joined = _ours(labels, features)()
        ours = seconds_of(_ours(labels, features))
        for store, engine in FEAST_STORES.items():
            peer = run_json(python, ["benchmarks/feast_peer.py", str(folder), store, *FEATURES])
            if peer["sums"] != _sums(joined):
                raise RuntimeError(f"Feast's join differs: {peer['sums']}, ours {_sums(joined)}")
            rows.append(
                Row(
                    f"… beside Feast {peer['version']} ({engine})",
                    ours,
                    "s",
                    "`get_historical_features`",
                    peer["seconds"],
                    note=f"{FEAST_LABELS:,} labels on both sides; Feast reads its features from Parquet",
                )
            )
    return rows


def _feast_python() -> Path:
    """The interpreter of Feast's own environment, made once under `.home`; the pins' text is its stamp."""
    environment, pins = REPOSITORY / ".home" / "bench-feast", REPOSITORY / "benchmarks" / "feast-requirements.txt"
    python, stamp = environment / "bin" / "python", environment / "installed.txt"
    if not stamp.exists() or stamp.read_text() != pins.read_text():
        uv = [str(this_python()), "-m", "uv"]
        subprocess.run([*uv, "venv", "-q", "--clear", "--python", str(this_python()), str(environment)], check=True)
        subprocess.run([*uv, "pip", "install", "-q", "--python", str(python), "-r", str(pins)], check=True)
        stamp.write_text(pins.read_text())
    return python
