"""The replay is untidy by rule: what it delivers late, wrong or twice is stated, and ends as the source."""

from datetime import date, time, timedelta
from pathlib import Path

import polars as pl
import pytest

from ml_platform.calendar import BUSINESS_TIMEZONE, CLOSING_DAY, OPENING_DAY, days
from ml_platform.errors import ConfigurationError
from ml_platform.landing.files import LandingConflict, LandingFolder
from ml_platform.landing.replay import CLOSED_DAYS, PHANTOM_BASKET_OFFSET, ReplayRates, _source, replay
from ml_platform.landing.tables import RAW_TABLES

KEY = ["household_id", "basket_id", "product_id"]
MID_JANUARY = date(2017, 1, 15)


def landed(folder: LandingFolder, table: str) -> pl.DataFrame:
    """Every row that landed, with its landing day."""
    deliveries = folder.deliveries(table, date.min, date.max)
    return pl.concat([pl.read_parquet(each.data_path).with_columns(landed_on=each.landed_on) for each in deliveries])


def digests(folder: LandingFolder) -> dict[tuple[str, date], str]:
    tables = ("transactions", "coupon_redemptions", "products", "demographics", "campaigns", "coupons")
    found = (each for table in tables for each in folder.deliveries(table, date.min, date.max))
    return {(each.table, each.landed_on): each.sha256 for each in found}


@pytest.fixture(scope="module")
def versions(year: LandingFolder) -> pl.DataFrame:
    """Every landed version of every line, with event_date and the days it took to land."""
    event_date = pl.col("event_ts").dt.convert_time_zone(BUSINESS_TIMEZONE).dt.date()
    return (
        landed(year, "transactions")
        .with_columns(event_date=event_date)
        .with_columns(delay=(pl.col("landed_on") - pl.col("event_date")).dt.total_days())
        .sort(*KEY, "landed_on")
        .with_columns(version=pl.int_range(pl.len()).over(KEY), versions=pl.len().over(KEY))
    )


def test_a_file_of_each_daily_table_lands_every_day_and_closed_days_are_empty(year: LandingFolder) -> None:
    for table in ("transactions", "coupon_redemptions"):
        deliveries = year.deliveries(table, date.min, date.max)
        assert [each.landed_on for each in deliveries] == list(days(OPENING_DAY, CLOSING_DAY))
        closed = {each.landed_on: each.rows for each in deliveries if each.closed}
        assert closed == dict.fromkeys(CLOSED_DAYS, 0) == {date(2016, 12, 31): 0, date(2017, 12, 25): 0}
    assert year.landed_through() == CLOSING_DAY


def test_once_everything_has_landed_the_newest_versions_are_the_source_row_for_row(versions: pl.DataFrame) -> None:
    newest = versions.filter((pl.col("version") == pl.col("versions") - 1) & ~pl.col("is_withdrawn"))
    kept = newest["household_id"].unique().implode()
    source = _source("transactions").filter(pl.col("household_id").is_in(kept)).collect()
    columns = [*KEY, "store_id", "quantity", "sales_value", "retail_disc", "coupon_disc", "coupon_match_disc"]
    assert newest.select(columns).sort(KEY).equals(source.select(columns).sort(KEY))
    instants = source.sort(KEY)["transaction_timestamp"].cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    assert newest.sort(KEY)["event_ts"].equals(instants, check_names=False)


def test_a_stated_share_of_the_lines_lands_late_and_never_more_than_seven_days(versions: pl.DataFrame) -> None:
    first = versions.filter(pl.col("version") == 0)
    assert first["delay"].min() == 0 and first["delay"].max() == 7
    assert 0.003 < (first["delay"] > 0).mean() < 0.007  # type: ignore[operator]


def test_a_correction_lands_after_the_wrong_value_and_keeps_its_place_in_time(versions: pl.DataFrame) -> None:
    corrected = versions.filter((pl.col("versions") == 2) & (pl.col("basket_id") < PHANTOM_BASKET_OFFSET))
    wrong, right = corrected.filter(pl.col("version") == 0), corrected.filter(pl.col("version") == 1)
    assert 0.001 < wrong.height / versions.filter(pl.col("version") == 0).height < 0.003
    assert (wrong["sales_value"] != right["sales_value"]).all()
    assert wrong["event_ts"].equals(right["event_ts"])
    waited = (right["landed_on"] - wrong["landed_on"]).dt.total_days()
    assert waited.is_between(2, 22).all()  # 22: settled on a closed day, so on the day after
    assert waited.n_unique() > 5


def test_a_phantom_basket_copies_a_real_one_and_is_taken_back_whole(tmp_path: Path) -> None:
    folder = LandingFolder(tmp_path)
    replay(folder, date(2017, 3, 1), rates=ReplayRates(withdrawal_share=0.02), households=60)
    lines = landed(folder, "transactions")
    phantom = lines.filter(pl.col("basket_id") >= PHANTOM_BASKET_OFFSET)
    came, gone = phantom.filter(~pl.col("is_withdrawn")), phantom.filter("is_withdrawn")
    assert gone.height > 0 and gone.join(came, on=KEY, how="anti").height == 0
    assert came.height == came.select(KEY).unique().height
    original = came.with_columns(pl.col("basket_id") - PHANTOM_BASKET_OFFSET)
    assert original.join(lines, on=[*KEY, "store_id", "event_ts"], how="anti").height == 0
    whole = lines.filter(pl.col("basket_id").is_in(original["basket_id"].unique().implode())).select(KEY).unique()
    assert whole.height == original.height
    assert lines.filter(pl.col("basket_id") < PHANTOM_BASKET_OFFSET)["is_withdrawn"].any() is False


def test_what_lands_on_a_day_depends_on_nothing_but_the_day_and_the_rates(year: LandingFolder, tmp_path: Path) -> None:
    parts = LandingFolder(tmp_path)
    replay(parts, MID_JANUARY, households=60)
    replay(parts, date(2017, 1, 20), since=MID_JANUARY, households=60)
    whole = {key: digest for key, digest in digests(year).items() if key[1] <= date(2017, 1, 20)}
    assert digests(parts) == whole


def test_other_rates_are_another_replay_and_are_refused_over_the_first(tmp_path: Path) -> None:
    folder = LandingFolder(tmp_path)
    replay(folder, date(2017, 1, 5), households=60)
    with pytest.raises(LandingConflict, match="ML_PLATFORM_HOME"):
        replay(folder, date(2017, 1, 5), rates=ReplayRates(late_share=0.2), households=60)


def test_without_lateness_corrections_and_withdrawals_every_line_lands_once_on_its_own_day(tmp_path: Path) -> None:
    folder = LandingFolder(tmp_path)
    replay(folder, MID_JANUARY, rates=ReplayRates(late_share=0, correction_share=0, withdrawal_share=0), households=60)
    lines = landed(folder, "transactions")
    assert (lines["event_ts"].dt.convert_time_zone(BUSINESS_TIMEZONE).dt.date() == lines["landed_on"]).all()
    assert lines.select(KEY).is_unique().all()


def test_a_weeks_promotions_land_the_sunday_before_it_and_the_first_on_the_opening_day(year: LandingFolder) -> None:
    promotions = landed(year, "promotions")
    mondays = promotions.group_by("week_start").agg(pl.col("landed_on").unique()).sort("week_start")
    assert mondays.height == 53 and mondays["landed_on"].list.len().max() == 1
    rows = mondays.explode("landed_on").rows()
    assert rows[0] == (date(2016, 12, 26), OPENING_DAY)
    assert all(monday.weekday() == 0 and day == monday - timedelta(days=1) for monday, day in rows[1:])


def test_a_campaign_lands_with_its_coupons_the_day_before_it_starts(year: LandingFolder) -> None:
    campaigns = landed(year, "campaigns")
    expected = pl.max_horizontal(pl.col("start_date") - pl.duration(days=1), pl.lit(OPENING_DAY))
    assert campaigns.filter(pl.col("landed_on") != expected).height == 0
    known = campaigns.select("campaign_id", "landed_on").unique()
    coupons = landed(year, "coupons")
    assert coupons.join(known, on="campaign_id").filter(pl.col("landed_on") != pl.col("landed_on_right")).height == 0
    assert coupons.drop("landed_on").is_unique().all()


def test_a_redemption_happened_at_noon_of_the_shops_day(year: LandingFolder) -> None:
    local = landed(year, "coupon_redemptions")["event_ts"].dt.convert_time_zone(BUSINESS_TIMEZONE)
    assert local.len() > 0 and set(local.dt.time()) == {time(12)}


def test_a_slice_keeps_that_many_households_everywhere(year: LandingFolder, versions: pl.DataFrame) -> None:
    kept = set(versions["household_id"].unique())
    assert len(kept) == 60
    for table in ("coupon_redemptions", "demographics", "campaigns"):
        assert set(landed(year, table)["household_id"].unique()) <= kept
    assert 0 < landed(year, "promotions").height < 20_940_529 * 60 / 2469 * 2


def test_progress_counts_every_delivery_and_the_daily_files_come_last(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    result = replay(
        LandingFolder(tmp_path),
        date(2017, 1, 3),
        since=date(2017, 1, 1),
        households=60,
        progress=lambda delivery, done, total: seen.append((done, total)),
    )
    assert seen == [(done, len(result)) for done in range(1, len(result) + 1)]
    daily = [RAW_TABLES[each.table].cadence == "daily" for each in result]
    assert daily == sorted(daily) and daily.count(True) == 6
    assert {each.landed_on for each in result} == set(days(date(2017, 1, 1), date(2017, 1, 3)))


def test_rates_are_read_from_the_environment() -> None:
    environ = {
        "ML_PLATFORM_LATE_SHARE": "0.1",
        "ML_PLATFORM_MAX_LATE_DAYS": "3",
        "ML_PLATFORM_CORRECTION_DAYS": "1-4",
        "ML_PLATFORM_REPLAY_SEED": "",
    }
    assert ReplayRates.from_env(environ) == ReplayRates(late_share=0.1, max_late_days=3, correction_days=(1, 4))
    assert ReplayRates.from_env({}) == ReplayRates()


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("ML_PLATFORM_LATE_SHARE", "1.5"),
        ("ML_PLATFORM_LATE_SHARE", "nan"),
        ("ML_PLATFORM_LATE_SHARE", "much"),
        ("ML_PLATFORM_MAX_LATE_DAYS", "8"),
        ("ML_PLATFORM_CORRECTION_DAYS", "5-2"),
        ("ML_PLATFORM_CORRECTION_DAYS", "0"),
        ("ML_PLATFORM_WITHDRAWAL_SHARE", "-0.1"),
        ("ML_PLATFORM_REPLAY_SEED", "-1"),
    ],
)
def test_rates_that_cannot_be_are_refused(variable: str, text: str) -> None:
    with pytest.raises(ConfigurationError):
        ReplayRates.from_env({variable: text})
