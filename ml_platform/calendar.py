"""Business days and Mondays: the one time zone, and the two times every row has.

Event time is an instant in UTC; knowledge time (`landed_on`) is the business day a row's file landed. What is said
*as of* Monday K uses only rows with `landed_on < K`. Days are the shops' days, never the machine's.
"""

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from ml_platform.errors import PlatformError

BUSINESS_TIMEZONE = "America/New_York"
OPENING_DAY = date(2016, 12, 31)
"""Landing day of everything that was known before the first shopping day."""
CLOSING_DAY = date(2018, 1, 7)
"""Last landing day of the reference data: the year 2017 plus the seven days a row may be late."""
FIRST_AS_OF = date(2017, 1, 30)
"""First Monday with four weeks of history before it."""
LAST_AS_OF = date(2018, 1, 1)

WEEK = timedelta(days=7)
DAY = timedelta(days=1)


class NotADay(PlatformError):
    """A partition key or argument that should be a day (YYYY-MM-DD) or a Monday is not one."""


def parse_day(text: str) -> date:
    """Reads a strict ISO day. Raises NotADay for anything else, however hostile."""
    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise NotADay(f"{text!r} is not a day", next_step="write it as YYYY-MM-DD") from None
    if day.isoformat() != text:
        raise NotADay(f"{text!r} is not a day", next_step="write it as YYYY-MM-DD")
    return day


def parse_monday(text: str) -> date:
    """Reads a strict ISO day that is a Monday."""
    day = parse_day(text)
    if day.weekday() != 0:
        raise NotADay(f"{text} is a {day:%A}, not a Monday", next_step=f"use {last_monday(day)}")
    return day


def last_monday(day: date) -> date:
    """The newest Monday on or before `day`."""
    return day - timedelta(days=day.weekday())


def days(first: date, last: date) -> Iterator[date]:
    """Every day from first to last, both included."""
    for offset in range((last - first).days + 1):
        yield first + timedelta(days=offset)


def mondays(first: date, last: date) -> list[date]:
    """Every Monday from first to last, both included."""
    return [day for day in days(first, last) if day.weekday() == 0]


def business_date(instant: datetime) -> date:
    """The shops' day of an instant. Raises NotADay for a naive datetime: it could be any of two days."""
    if instant.tzinfo is None:
        raise NotADay(f"{instant} has no time zone", next_step="give the instant in UTC")
    return instant.astimezone(ZoneInfo(BUSINESS_TIMEZONE)).date()
