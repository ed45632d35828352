from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_platform.features.pit import FeaturesUnusable, LabelsUnusable, point_in_time

WEEK = timedelta(days=7)
FIRST = date(2017, 6, 5)
KEYS = ["household_id", "product_category"]

households, categories = st.integers(-3, 3), st.sampled_from(["BREAD", "MILK", "", "é", "7"])
moments = st.integers(0, 30).map(lambda days: FIRST + timedelta(days=days))
feature_rows = st.lists(
    st.tuples(households, categories, moments, st.none() | st.integers(0, 99)),
    max_size=40,
    unique_by=lambda row: row[:3],
)
label_rows = st.lists(st.tuples(households, categories, moments), max_size=40)


def features_frame(rows: list[Any]) -> pl.DataFrame:
    schema = {"household_id": pl.Int64, "product_category": pl.String, "as_of": pl.Date, "spend": pl.Int64}
    return pl.DataFrame(rows, schema=schema, orient="row")


def labels_frame(rows: list[Any]) -> pl.DataFrame:
    schema = {"household_id": pl.Int64, "product_category": pl.String, "as_of": pl.Date}
    return pl.DataFrame(rows, schema=schema, orient="row").with_row_index("row")


@settings(max_examples=80, deadline=None)
@given(label_rows, feature_rows, st.integers(0, 20), st.sampled_from([KEYS, KEYS[::-1]]))
def test_the_join_is_what_looking_at_every_pair_of_rows_finds(
    labels: list[Any], features: list[Any], ttl: int, keys: list[str]
) -> None:
    joined = point_in_time(labels_frame(labels), features_frame(features), keys, timedelta(days=ttl), prefix="f")
    expected = []
    for household, category, time in labels:
        known = [
            (as_of, spend)
            for other, of_what, as_of, spend in features
            if (other, of_what) == (household, category) and as_of <= time <= as_of + timedelta(days=ttl)
        ]
        expected.append(max(known, key=lambda row: row[0]) if known else (None, None))
    assert joined.select("f__as_of", "f__spend").rows() == expected
    assert joined.select("row", *KEYS, "as_of").equals(labels_frame(labels))


def one_label(time: Any, dtype: Any = pl.Date) -> pl.DataFrame:
    return pl.DataFrame({"household_id": [1], "at": pl.Series([time], dtype=dtype)})


def weekly(*as_ofs: date) -> pl.DataFrame:
    return pl.DataFrame({"household_id": [1] * len(as_ofs), "as_of": as_ofs, "spend": range(len(as_ofs))})


@pytest.mark.parametrize(("days_later", "spend"), [(-1, None), (0, 0), (6, 0), (7, 0), (8, None)])
def test_a_feature_lives_from_its_monday_to_the_last_day_of_its_time_to_live(
    days_later: int, spend: int | None
) -> None:
    labels = one_label(FIRST + timedelta(days=days_later))
    assert point_in_time(labels, weekly(FIRST), ["household_id"], WEEK, "at")["spend"].to_list() == [spend]


def test_an_instant_is_a_day_of_the_shops_and_not_of_greenwich() -> None:
    features, instant = weekly(FIRST, FIRST + WEEK), pl.Datetime("us", "UTC")
    sunday_evening = one_label(datetime(2017, 6, 12, 2, 0, tzinfo=UTC), instant)
    monday_morning = one_label(datetime(2017, 6, 12, 12, 0, tzinfo=UTC), instant)
    assert point_in_time(sunday_evening, features, ["household_id"], WEEK, "at")["spend"].to_list() == [0]
    assert point_in_time(monday_morning, features, ["household_id"], WEEK, "at")["spend"].to_list() == [1]


@pytest.mark.parametrize(
    ("labels", "why"),
    [
        (one_label(datetime(2017, 6, 12), pl.Datetime("us")), "no time zone"),
        (one_label("2017-06-12", pl.String), "are String"),
        (one_label(None), "nulls"),
        (one_label(FIRST).with_columns(household_id=pl.lit(None, dtype=pl.Int64)), "nulls"),
        (one_label(FIRST).with_columns(household_id=pl.lit("1")), "as String, features as Int64"),
        (one_label(FIRST).with_columns(household_id=pl.lit(1.0)), "as Float64, features as Int64"),
        (one_label(FIRST).drop("household_id"), "missing: household_id"),
        (one_label(FIRST).rename({"at": "when"}), "missing: at"),
        (one_label(FIRST).with_columns(spend=1), "already have the columns"),
    ],
)
def test_labels_that_would_need_a_guess_are_refused(labels: pl.DataFrame, why: str) -> None:
    with pytest.raises(LabelsUnusable, match=why):
        point_in_time(labels, weekly(FIRST), ["household_id"], WEEK, "at")


@pytest.mark.parametrize(
    ("features", "why"),
    [
        (weekly(FIRST, FIRST + WEEK, FIRST), "1 feature rows share their key"),
        (weekly(FIRST).with_columns(household_id=pl.lit(None, dtype=pl.Int64)), "nulls"),
        (weekly(FIRST).with_columns(pl.col("as_of").cast(pl.Datetime("us"))), "not a Date"),
        (weekly(FIRST).drop("as_of"), "missing: as_of"),
    ],
)
def test_features_that_would_need_a_guess_are_refused(features: pl.DataFrame, why: str) -> None:
    with pytest.raises(FeaturesUnusable, match=why):
        point_in_time(one_label(FIRST), features, ["household_id"], WEEK, "at")


@pytest.mark.parametrize("ttl", [timedelta(days=-1), timedelta(hours=36)])
def test_a_time_to_live_is_whole_days(ttl: timedelta) -> None:
    with pytest.raises(LabelsUnusable, match="whole number of days"):
        point_in_time(one_label(FIRST), weekly(FIRST), ["household_id"], ttl, "at")


def test_keys_of_other_integer_widths_and_categoricals_are_the_same_keys() -> None:
    labels = labels_frame([(2, "MILK", FIRST)]).with_columns(
        pl.col("household_id").cast(pl.Int32), pl.col("product_category").cast(pl.Categorical)
    )
    joined = point_in_time(labels, features_frame([(2, "MILK", FIRST, 5)]), KEYS, WEEK, prefix="f")
    assert joined["f__spend"].to_list() == [5]


def test_keys_as_large_as_they_come_do_not_run_into_each_other() -> None:
    largest = 2**63 - 1
    features = features_frame([(largest, "A", FIRST, 1), (-largest, "A", FIRST, 2), (0, "B", FIRST, 3)])
    labels = labels_frame([(-largest, "A", FIRST), (largest, "A", FIRST), (largest, "B", FIRST), (0, "B", FIRST)])
    assert point_in_time(labels, features, KEYS, WEEK, prefix="f")["f__spend"].to_list() == [2, 1, None, 3]
