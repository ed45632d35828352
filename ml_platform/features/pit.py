"""The point-in-time join: each label meets the newest feature row at or before its time, within a time to live.

Invariants: labels keep their order and their number; a feature row as of day K holds only what had landed before K, and
meets labels of days K to K + ttl, both included; nothing is guessed: a naive time, a null key, keys of different types
and two feature rows that both could be meant are refused. Joined columns are null where nothing was known in time, and
`<prefix>__as_of` says which Monday a row's features speak of (null: unmatched), so that the join can be checked.
"""

from collections.abc import Sequence
from datetime import timedelta

import numpy as np
import polars as pl

from ml_platform.calendar import BUSINESS_TIMEZONE
from ml_platform.errors import PlatformError

AS_OF = "as_of"


class LabelsUnusable(PlatformError):
    """The label frame cannot be joined: a key or time is missing, null, naive, or of another type."""


class FeaturesUnusable(PlatformError):
    """The feature frame cannot be joined: a key or as_of is missing, null, or not unique."""


def point_in_time(
    labels: pl.DataFrame,
    features: pl.DataFrame,
    keys: Sequence[str],
    ttl: timedelta,
    label_time: str = AS_OF,
    prefix: str = "",
) -> pl.DataFrame:
    """Joins features [key…, as_of, feature…] to labels [key…, label_time, …]: [n_labels, labels' columns + features].

    `label_time` is a business day (Date), or an instant with a time zone, taken as its day in the shops' zone. Columns
    come out as `<prefix>__<feature>`. Raises LabelsUnusable or FeaturesUnusable.
    """
    if ttl < timedelta(0) or ttl % timedelta(days=1):
        raise LabelsUnusable(f"the time to live {ttl} is not a whole number of days", next_step="give e.g. 7 days")
    days = label_days(labels, label_time)
    _demand_keys(features, [*keys, AS_OF], FeaturesUnusable)
    _demand_keys(labels, list(keys), LabelsUnusable)
    if features[AS_OF].dtype != pl.Date:
        raise FeaturesUnusable(f"as_of is {features[AS_OF].dtype}, not a Date", next_step="give the Monday as a date")
    named = {name: f"{prefix}__{name}" if prefix else name for name in features.columns if name not in keys}
    clash = sorted(set(named.values()) & set(labels.columns))
    if clash:
        raise LabelsUnusable(f"labels already have the columns {clash}", next_step="rename them, or join with a prefix")
    label_codes, feature_codes = _codes(labels, features, keys)
    rows = _latest_rows(label_codes, days, feature_codes, features[AS_OF], ttl)
    return labels.hstack(features.select(pl.col(name).gather(rows).alias(alias) for name, alias in named.items()))


def label_days(labels: pl.DataFrame, label_time: str) -> pl.Series:
    """The business day [n_labels, Date] of every label. Raises LabelsUnusable for a naive, null or other time."""
    _demand_keys(labels, [label_time], LabelsUnusable)
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


def _latest_rows(
    codes: pl.Series, days: pl.Series, feature_codes: pl.Series, as_of: pl.Series, ttl: timedelta
) -> pl.Series:
    """For each label the index of its feature row, or null: [n_labels, Int64].

    A sweep through time: `latest[code]` is the newest feature row so far, and labels look it up when their day comes.
    Feature days are few and codes dense, so nothing is compared row by row; that makes it as fast as a bare ASOF join.
    """
    label_day, feature_day = days.to_physical().to_numpy(), as_of.to_physical().to_numpy()
    snapshots = np.unique(feature_day)
    order, starts = _by_moment(np.searchsorted(snapshots, label_day, side="right"), len(snapshots) + 1)
    feature_order, feature_starts = _by_moment(np.searchsorted(snapshots, feature_day), len(snapshots))
    label_code, feature_code = codes.to_numpy(), feature_codes.to_numpy()
    latest = np.full(max(label_code.max(initial=0), feature_code.max(initial=0)) + 1, -1, dtype=np.int64)
    rows = np.full(len(label_code), -1, dtype=np.int64)
    for moment in range(len(snapshots)):
        learnt = feature_order[feature_starts[moment] : feature_starts[moment + 1]]
        latest[feature_code[learnt]] = learnt
        twice = int((latest[feature_code[learnt]] != learnt).sum())
        if twice:
            raise FeaturesUnusable(
                f"{twice} feature rows share their key and as_of with another",
                where=f"as of {as_of[int(learnt[0])]}",
                next_step="make them unique: the join would have to guess which one is meant",
            )
        asked = order[starts[moment + 1] : starts[moment + 2]]
        rows[asked] = latest[label_code[asked]]
    known = rows >= 0
    known[known] = label_day[known] - feature_day[rows[known]] <= ttl.days
    return pl.DataFrame({"row": rows, "known": known}).select(pl.when("known").then("row")).to_series()


def _by_moment(moments: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Row indices ordered by moment, and where each of the `count` moments starts: [n], [count + 1]."""
    small = moments.astype(np.uint16) if count < 2**16 else moments  # numpy sorts 16-bit integers by radix
    return np.argsort(small, kind="stable"), np.concatenate([[0], np.cumsum(np.bincount(moments, minlength=count))])


def _codes(labels: pl.DataFrame, features: pl.DataFrame, keys: Sequence[str]) -> tuple[pl.Series, pl.Series]:
    """Both sides' keys as one dense integer 0…; labels whose key no feature row has get the next one.

    Rows number less than 2**31, so a code times a cardinality stays within 64 bits.
    """
    label_codes, feature_codes, _ = _dense(*_comparable(labels, features, keys[0]))
    for key in keys[1:]:
        more_labels, more_features, cardinality = _dense(*_comparable(labels, features, key))
        pair = label_codes * (cardinality + 1) + more_labels, feature_codes * (cardinality + 1) + more_features
        label_codes, feature_codes, _ = _dense(*pair)
    return label_codes, feature_codes


def _dense(labels: pl.Series, features: pl.Series) -> tuple[pl.Series, pl.Series, int]:
    """Both sides numbered 0… by the distinct values of the features, how many these are, which is also the number of
    every other value."""
    codes = features.alias("value").to_frame().unique().with_row_index("code")

    def encode(values: pl.Series) -> pl.Series:
        joined = values.alias("value").to_frame().join(codes, on="value", how="left", maintain_order="left")
        return joined["code"].fill_null(codes.height).cast(pl.Int64)

    return encode(labels), encode(features), codes.height


def _comparable(labels: pl.DataFrame, features: pl.DataFrame, key: str) -> tuple[pl.Series, pl.Series]:
    left, right = labels[key], features[key]
    if left.dtype == right.dtype:
        return left, right
    if left.dtype.is_integer() and right.dtype.is_integer():
        return left.cast(pl.Int64), right.cast(pl.Int64)
    if right.dtype == pl.String and isinstance(left.dtype, pl.Categorical | pl.Enum):
        return left.cast(pl.String), right
    raise LabelsUnusable(
        f"labels have {key} as {left.dtype}, features as {right.dtype}",
        where=key,
        next_step=f"give the labels' {key} as {right.dtype}",
    )


def _demand_keys(frame: pl.DataFrame, names: list[str], error: type[PlatformError]) -> None:
    missing = [name for name in names if name not in frame.columns]
    if missing:
        raise error(
            f"columns are missing: {', '.join(missing)}",
            where=f"a frame with {', '.join(frame.columns)}",
            next_step="give every row its entity's key and its time",
        )
    empty = [name for name in names if frame[name].null_count()]
    if empty:
        raise error("there are nulls in the key or time", where=", ".join(empty), next_step="drop or mend those rows")
