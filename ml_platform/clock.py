"""The one clock: what day it is for the shops, on a real day and in a replayed year alike.

A home without a clock file is on the wall clock. A replay writes the business day into `clock.json` of its home, and
everything that asks for "today" (promises about data, cooldowns, retraining, promotion) is judged as that day was.
The clock only moves forward: decisions taken on a later day cannot be taken back by an earlier one.
"""

import json
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from pathlib import Path
from zoneinfo import ZoneInfo

from ml_platform.calendar import BUSINESS_TIMEZONE, business_date, parse_day
from ml_platform.errors import PlatformError

FORMAT_VERSION = 1
FILE = "clock.json"


class ClockMovedBack(PlatformError):
    """The clock was asked to show an earlier day than it has shown."""


class ClockUnreadable(PlatformError):
    """The clock file is torn, or of another version."""


@dataclass(frozen=True)
class Clock:
    """The clock of a home."""

    home: Path

    @property
    def replayed(self) -> bool:
        """Whether this home lives in a replayed year."""
        return (self.home / FILE).exists()

    def today(self) -> date:
        """The shops' day. Everything that landed before it is known. Raises ClockUnreadable."""
        return self._set_day() or business_date(datetime.now(UTC))

    def now(self) -> datetime:
        """The instant in UTC: the wall clock's, or the first instant of the replayed day in the shops' zone."""
        day = self._set_day()
        if day is None:
            return datetime.now(UTC)
        return datetime.combine(day, time.min, ZoneInfo(BUSINESS_TIMEZONE)).astimezone(UTC)

    def move_to(self, day: date) -> None:
        """Shows `day` from now on. Raises ClockMovedBack."""
        from ml_platform.lake import write_atomically

        shown = self._set_day()
        if shown is not None and day < shown:
            raise ClockMovedBack(
                f"the clock shows {shown} and cannot go back to {day}",
                where=self.home / FILE,
                next_step="replay into a home of its own (ML_PLATFORM_HOME)",
            )
        write_atomically(
            self.home / FILE, json.dumps({"format_version": FORMAT_VERSION, "today": day.isoformat()}).encode(), "clock"
        )

    def _set_day(self) -> date | None:
        try:
            stated = json.loads((self.home / FILE).read_bytes())
            if stated["format_version"] != FORMAT_VERSION:
                raise ValueError(f"format version {stated['format_version']!r}")
            return parse_day(stated["today"])
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, PlatformError) as error:
            raise ClockUnreadable(
                f"the clock cannot be read: {error}",
                where=self.home / FILE,
                next_step="remove the file to go by the wall clock, or set the day anew with `mlp live`",
            ) from error
