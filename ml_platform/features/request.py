"""Features beside rows of one's own: a file of labels in, the same rows with the features known at their time out.

Invariant: the rows go through the very join that builds training sets, keep their order and number, and the answer is
written whole or not at all.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import polars as pl

from ml_platform.errors import PlatformError
from ml_platform.features.pit import AS_OF
from ml_platform.features.store import FeatureStore
from ml_platform.lake import parquet_bytes, write_atomically

SUFFIXES = (".parquet", ".csv")


class UnreadableLabels(PlatformError):
    """The file of labels cannot be read, or is of no kind that can be read or written."""


@dataclass(frozen=True)
class Answer:
    """`rows` were written; `found` says, for each feature table, how many of them had features known in time."""

    rows: int
    found: dict[str, int]


def get_features(
    store: FeatureStore,
    labels: Path,
    references: Sequence[str],
    out: Path,
    ttl: timedelta | None = None,
    label_time: str = AS_OF,
) -> Answer:
    """Joins the references `table:column` to the rows of `labels` (.csv or .parquet) and writes `out` (the same kinds).

    Raises UnknownFeature, UnreadableLabels, LabelsUnusable, LakeWriteFailed.
    """
    if not references:
        raise UnreadableLabels("no feature was named", where="features", next_step="name some, e.g. household:days_28d")
    _demand_kind(labels)
    _demand_kind(out)
    tables = list(dict.fromkeys(store.resolve(reference)[0] for reference in references))
    keys = {name: dtype for table in tables for name, dtype in table.schema().items() if name in table.entity}
    joined = store.join(read_labels(labels, keys), references, ttl, label_time)
    write_atomically(out, parquet_bytes(joined) if out.suffix == ".parquet" else _csv(joined, out))
    return Answer(joined.height, {table.name: joined[f"{table.name}__as_of"].count() for table in tables})


def read_labels(path: Path, keys: dict[str, pl.DataType]) -> pl.DataFrame:
    """Parquet, or CSV with a header; `keys` are read from CSV as these types, dates and instants are recognised."""
    try:
        content = path.read_bytes()
        if path.suffix == ".parquet":
            return pl.read_parquet(io.BytesIO(content))
        return pl.read_csv(content, try_parse_dates=True, schema_overrides=keys)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise UnreadableLabels(
            f"the labels cannot be read: {getattr(error, 'strerror', None) or str(error).splitlines()[0]}",
            where=path,
            next_step="give a Parquet file, or a CSV file with a header and the keys' types",
        ) from error


def _csv(joined: pl.DataFrame, out: Path) -> bytes:
    lists = [name for name, dtype in joined.schema.items() if dtype == pl.List]
    if lists:
        raise UnreadableLabels(
            f"lists cannot be written as CSV: {', '.join(lists)}", where=out, next_step="write a .parquet file"
        )
    return joined.write_csv().encode()


def _demand_kind(path: Path) -> None:
    if path.suffix not in SUFFIXES:
        raise UnreadableLabels(
            f"{path.suffix or 'no suffix'} is no kind of file that is known here",
            where=path,
            next_step=f"name it with one of: {', '.join(SUFFIXES)}",
        )
