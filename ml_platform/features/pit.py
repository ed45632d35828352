"""The point-in-time join: each label meets the newest feature row at or before its time, within a time to live.

Labels keep their order and their number. Joined columns are null where nothing was known in time; `<prefix>__as_of` says
which Monday a row's features speak of.
"""

from collections.abc import Sequence
from datetime import timedelta

import polars as pl

from ml_platform.calendar import BUSINESS_TIMEZONE
from ml_platform.contracts import AS_OF
from ml_platform.errors import PlatformError


class LabelsUnusable(PlatformError):
    """The label frame cannot be joined: a key or time is missing, null, naive, or of another type."""


def point_in_time(
    labels: pl.DataFrame,
    features: pl.DataFrame,
    keys: Sequence[str],
    ttl: timedelta,
    label_time: str = AS_OF,
    prefix: str = "",
) -> pl.DataFrame:
    """Joins features [key…, as_of, feature…] to labels [key…, label_time, …]: [n_labels, labels' columns + features].

    `label_time` is a business day (Date), or an instant with a time zone, taken as its day in the shops' zone. A feature
    row as of a day holds only what had landed before that day. Columns come out as `<prefix>__<feature>`.
    """
    times = _label_days(labels, keys, label_time)
    named = {name: f"{prefix}__{name}" if prefix else name for name in features.columns if name not in keys}
    renamed = features.rename({**named, AS_OF: "_as_of"} if AS_OF in named else named)
    right = renamed.with_columns(pl.col("_as_of").alias(named[AS_OF])).sort("_as_of")
    left = labels.select(keys).with_columns(times.alias("_time")).with_row_index("_row").sort("_time", maintain_order=True)
    joined = left.join_asof(
        right,
        left_on="_time",
        right_on="_as_of",
        by=list(keys),
        strategy="backward",
        tolerance=ttl,
        check_sortedness=False,
    ).sort("_row")
    return labels.hstack(joined.select(named.values()))


def _label_days(labels: pl.DataFrame, keys: Sequence[str], label_time: str) -> pl.Series:
    missing = [name for name in (*keys, label_time) if name not in labels.columns]
    if missing:
        raise LabelsUnusable(
            f"columns are missing: {', '.join(missing)}",
            where=f"labels with {', '.join(labels.columns)}",
            next_step="give every label its entity's key and its time",
        )
    empty = [name for name in (*keys, label_time) if labels[name].null_count()]
    if empty:
        raise LabelsUnusable("labels have nulls in their key or time", where=", ".join(empty), next_step="drop those rows")
    times = labels[label_time]
    if isinstance(times.dtype, pl.Datetime):
        if times.dtype.time_zone is None:
            raise LabelsUnusable(
                "label times have no time zone",
                where=label_time,
                next_step="give instants in UTC, or business days as dates",
            )
        return times.dt.convert_time_zone(BUSINESS_TIMEZONE).dt.date()
    if times.dtype != pl.Date:
        raise LabelsUnusable(
            f"label times are {times.dtype}", where=label_time, next_step="give dates, or instants with a time zone"
        )
    return times
