"""How a replay goes: its pace, its steps, and a clock that follows what is loaded."""

from datetime import date
from pathlib import Path

import pyarrow as pa
import pytest

from ml_platform.calendar import DAY, OPENING_DAY
from ml_platform.cli.live import _follow, _steps, seconds_a_day
from ml_platform.clock import Clock, ClockMovedBack, ClockUnreadable
from ml_platform.errors import ConfigurationError
from ml_platform.lake import write_atomically
from ml_platform.landing.files import LandingFolder
from ml_platform.landing.tables import RAW_TABLES
from ml_platform.settings import Settings

DAILY = [table for table in RAW_TABLES.values() if table.cadence == "daily"]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.from_env({"ML_PLATFORM_HOME": str(tmp_path)})


def loaded(settings: Settings, day: date) -> None:
    """Notes what the raw assets note after a load."""
    for table in DAILY:
        note = f'{{"format_version": 1, "table": "{table.name}", "landed_on": "{day}", "event": null}}'
        write_atomically(settings.lake / "loaded" / f"{table.name}.json", note.encode())


def landed(settings: Settings, day: date) -> None:
    for table in DAILY:
        LandingFolder(settings.landing).land(
            table.name, day, pa.Table.from_pylist([], schema=table.schema), closed=True
        )


@pytest.mark.parametrize(("text", "seconds"), [("3", 3.0), ("0.5", 0.5), ("max", 0.0)])
def test_a_speed_is_seconds_a_day_or_max(text: str, seconds: float) -> None:
    assert seconds_a_day(text) == seconds


@pytest.mark.parametrize("text", ["fast", "-1", "", "nan", "1e9"])
def test_what_is_no_speed_is_refused_with_what_would_be_one(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"no speed.*such as 3, or max"):
        seconds_a_day(text)


def test_weeks_end_on_sundays_and_the_last_step_on_the_last_day(settings: Settings) -> None:
    steps = list(_steps(settings, None, date(2017, 1, 18), weekly=True))
    assert steps == [date(2017, 1, 1), date(2017, 1, 8), date(2017, 1, 15), date(2017, 1, 18)]


def test_a_jump_is_one_step_and_then_it_goes_day_by_day(settings: Settings) -> None:
    steps = list(_steps(settings, date(2017, 2, 5), date(2017, 2, 8), weekly=False))
    assert steps == [date(2017, 2, 5), date(2017, 2, 6), date(2017, 2, 7), date(2017, 2, 8)]


def test_an_interrupted_step_is_finished_first(settings: Settings) -> None:
    landed(settings, OPENING_DAY)
    landed(settings, OPENING_DAY + DAY)
    steps = list(_steps(settings, None, OPENING_DAY + 2 * DAY, weekly=False))
    assert steps == [OPENING_DAY + DAY, OPENING_DAY + 2 * DAY]


def test_the_clock_is_never_more_than_a_day_ahead_of_what_is_loaded(settings: Settings) -> None:
    _follow(settings, date(2017, 1, 8))
    assert Clock(settings.home).today() == OPENING_DAY + 2 * DAY
    loaded(settings, date(2017, 1, 5))
    _follow(settings, date(2017, 1, 8))
    assert Clock(settings.home).today() == date(2017, 1, 7)
    loaded(settings, date(2017, 1, 8))
    _follow(settings, date(2017, 1, 8))
    assert Clock(settings.home).today() == date(2017, 1, 9)


def test_the_clock_never_goes_back_and_says_what_to_do_instead(tmp_path: Path) -> None:
    clock = Clock(tmp_path)
    assert not clock.replayed
    clock.move_to(date(2017, 3, 1))
    assert clock.replayed and clock.today() == date(2017, 3, 1)
    assert clock.now().isoformat() == "2017-03-01T05:00:00+00:00"
    with pytest.raises(ClockMovedBack, match=r"shows 2017-03-01 and cannot go back to 2017-02-28.*home of its own"):
        clock.move_to(date(2017, 2, 28))
    assert clock.today() == date(2017, 3, 1)


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"format_version": 2, "today": "2017-01-01"}', '{"format_version": 1, "today": "soon"}']
)
def test_a_torn_or_foreign_clock_is_a_typed_error_never_another_day(tmp_path: Path, content: str) -> None:
    (tmp_path / "clock.json").write_text(content)
    with pytest.raises(ClockUnreadable, match="remove the file"):
        Clock(tmp_path).today()
