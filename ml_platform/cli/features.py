"""`mlp features get`: published features beside rows of one's own, through the code that builds training sets."""

import os
from datetime import timedelta
from pathlib import Path

import polars as pl
from polars.exceptions import PolarsError

from ml_platform.cli import output
from ml_platform.errors import PlatformError
from ml_platform.features.store import FeatureStore
from ml_platform.settings import Settings


class UnreadableLabels(PlatformError):
    """The labels' file cannot be read, or the result cannot be written."""


def get(labels: Path, features: str, out: Path, *, ttl_days: int, label_time: str) -> None:
    """Writes the joined rows and says how many found their features. Raises UnreadableLabels and the store's errors."""
    from assets.feature_tables import FEATURE_TABLES

    references = [reference.strip() for reference in features.split(",") if reference.strip()]
    if not references:
        raise UnreadableLabels("no feature was named", where="--features", next_step="e.g. household:spend_28d")
    store = FeatureStore(Settings.from_env().lake, FEATURE_TABLES)
    joined = store.join(read_labels(labels), references, timedelta(days=ttl_days), label_time)
    write(joined, out)
    tables = dict.fromkeys(reference.partition(":")[0] for reference in references)
    found = [f"{table}: {joined[f'{table}__as_of'].count():,} of {joined.height:,} rows" for table in tables]
    output.console().print(f"[green]✓[/] {out}: features were found for {'; '.join(found)}")


def read_labels(path: Path) -> pl.DataFrame:
    """Parquet, or CSV with a header (its dates and instants are recognised). Raises UnreadableLabels."""
    try:
        if path.suffix == ".csv":
            return pl.read_csv(path, try_parse_dates=True)
        return pl.read_parquet(path)
    except (OSError, PolarsError) as error:
        raise UnreadableLabels(
            f"it is neither Parquet nor CSV that can be read: {error}",
            where=path,
            next_step="write it as .parquet or .csv",
        ) from error


def write(frame: pl.DataFrame, path: Path) -> None:
    """Written aside, then moved into its place: whoever reads it sees all of it. Raises UnreadableLabels."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        frame.write_parquet(aside)
        aside.replace(path)
    except OSError as error:
        raise UnreadableLabels(
            f"cannot write it: {error.strerror}", where=path, next_step="choose a folder that can be written"
        ) from error
    finally:
        aside.unlink(missing_ok=True)
