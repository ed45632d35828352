"""The book counts days: good if never seen broken, and what the error budget still allows."""

import sqlite3
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from ml_platform.alerts.book import AlertBook
from ml_platform.calendar import DAY, days
from ml_platform.monitoring.promises import Promise, Reading, Terms
from ml_platform.monitoring.slo import PromisesTooNew, PromisesUnavailable, SloBook, Standing
from ml_platform.monitoring.slo_plots import promises_plot
from ml_platform_tests import processes
from ml_platform_tests.processes import SIGKILLED

TODAY = date(2017, 6, 8)
NOW = datetime(2017, 6, 8, 4, tzinfo=UTC)
PROMISE = Terms("landed", within_days=1, objective=0.9, window_days=30).of("raw/transactions", "team:store-systems")
OTHER = Terms("as_of", within_days=1).of("features/household", "team:customer-analytics")


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'alerts.db'}"


@pytest.fixture
def book(url: str) -> SloBook:
    return SloBook(url, lambda: NOW)


def lag(days_late: int | None, day: date = TODAY, promise: Promise = PROMISE) -> Reading:
    """A reading of that lag; None: nothing was ever made."""
    if days_late is None:
        return Reading(promise, day, None, None, None)
    return Reading(promise, day, day - (days_late + 1) * DAY, days_late, days_late <= promise.within_days)


def rows(url: str) -> list[tuple]:
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
        return connection.execute("select * from slo_days order by promise, day").fetchall()


def record_two(url: str) -> None:
    SloBook(url).record([lag(0), lag(0, promise=OTHER)])


def test_the_same_readings_again_change_nothing(book: SloBook, url: str) -> None:
    readings = [lag(0), lag(3, promise=OTHER)]
    book.record(readings)
    before = rows(url)
    later = SloBook(url, lambda: NOW + timedelta(hours=5))
    later.record(readings)
    later.record(readings[::-1])
    assert rows(url) == before


def test_a_day_is_good_only_if_it_was_never_seen_broken(book: SloBook, url: str) -> None:
    for days_late in (0, 3, 5, 0):
        book.record([lag(days_late)])
    ((name, day, held, newest, days_lag, _, _),) = rows(url)
    assert (name, day, held, days_lag) == (PROMISE.name, "2017-06-08", 0, 3)
    assert newest == "2017-06-04"
    standing = book.standing(lag(0))
    assert (standing.reading.state, standing.days_broken, standing.since) == ("held", 1, None)


def test_unknown_leaves_no_row_and_spends_nothing(book: SloBook, url: str) -> None:
    book.record([lag(None)])
    book.record([])
    assert rows(url) == []
    standing = book.standing(lag(None))
    assert (standing.days_seen, standing.budget_left, standing.since) == (0, 3.0, None)


@pytest.mark.parametrize(("broken", "left"), [(0, 3.0), (1, 2.0), (3, 0.0), (5, -2.0)])
def test_the_budget_is_the_days_of_the_window_that_may_be_broken(book: SloBook, broken: int, left: float) -> None:
    seen = list(days(TODAY - 9 * DAY, TODAY))
    book.record([lag(3 if number < broken else 0, day) for number, day in enumerate(seen)])
    standing = book.standing(lag(0))
    assert (standing.days_seen, standing.days_broken) == (10, broken)
    assert (standing.budget_days, standing.budget_left) == (3.0, left)


def test_a_promise_without_exception_has_no_budget(book: SloBook) -> None:
    strict = Terms("landed", within_days=1, objective=1.0).of("raw/transactions", "team:a")
    assert book.standing(lag(0, promise=strict)).budget_left == 0.0
    assert book.standing(lag(2, promise=strict)).budget_left == -1.0


def test_what_is_older_than_the_window_or_later_than_the_reading_does_not_count(book: SloBook) -> None:
    book.record([lag(3, TODAY - 30 * DAY), lag(3, TODAY - 29 * DAY), lag(3, TODAY + DAY)])
    standing = book.standing(lag(0))
    assert [each.day for each in standing.history] == [TODAY - 29 * DAY, TODAY]


def test_looking_counts_the_present_reading_and_records_nothing(book: SloBook, url: str) -> None:
    book.record([lag(0, TODAY - DAY), lag(0)])
    before = rows(url)
    standing = book.standing(lag(4))
    assert (standing.days_seen, standing.days_broken, standing.budget_left) == (2, 1, 2.0)
    assert rows(url) == before


def test_a_break_began_when_the_lag_grew_too_long_even_if_nobody_looked(book: SloBook) -> None:
    assert book.standing(lag(4)).since == TODAY - 2 * DAY


def test_a_break_that_eased_a_little_still_began_when_it_began(book: SloBook) -> None:
    book.record([lag(0, TODAY - 5 * DAY), *(lag(9 - n, TODAY - n * DAY) for n in (4, 3, 2))])
    assert book.standing(lag(2)).since == TODAY - 7 * DAY, "on the day before yesterday it was 7 days behind"
    book.record([lag(0, TODAY - DAY)])
    assert book.standing(lag(2)).since == TODAY


def test_all_standings_are_those_of_each(book: SloBook) -> None:
    book.record([lag(3, TODAY - DAY), lag(0, TODAY - DAY, OTHER)])
    readings = [lag(4), lag(0, promise=OTHER)]
    assert book.standings(readings) == [book.standing(reading) for reading in readings]
    assert book.standings([]) == []


def test_a_row_says_everything_in_plain_values(book: SloBook) -> None:
    row = book.standing(lag(4)).row()
    assert row["promise"] == "raw/transactions landed"
    assert (row["state"], row["lag_days"], row["within_days"], row["since"]) == ("broken", 4, 1, "2017-06-06")
    assert (row["budget_left"], row["runbook"]) == (2.0, "docs/runbooks/freshness.md")


@pytest.mark.parametrize(("point", "kept"), [("slo.recording", 0), ("slo.recorded", 2)])
def test_killed_while_recording_the_book_has_all_readings_or_none(
    book: SloBook, url: str, point: str, kept: int
) -> None:
    assert processes.run(record_two, url, kill_at=point) == SIGKILLED
    assert len(rows(url)) == kept
    assert processes.run(record_two, url) == 0
    assert len(rows(url)) == 2


def test_many_writers_of_one_day_leave_one_row_that_is_broken(url: str, book: SloBook) -> None:
    for _ in range(3):
        SloBook(url).record([lag(0)])
        SloBook(url).record([lag(2)])
    assert [row[2] for row in rows(url)] == [0]


def test_it_shares_a_database_with_the_book_of_alerts(url: str, book: SloBook) -> None:
    AlertBook(url, lambda: NOW)
    book.record([lag(0)])
    SloBook(url, lambda: NOW)
    assert AlertBook(url, lambda: NOW).alerts(open_only=True) == []
    assert len(rows(url)) == 1


def test_a_newer_book_is_refused_with_a_clear_word(url: str, book: SloBook) -> None:
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
        connection.execute("insert into slo_schema_version values (99, 'tomorrow')")
        connection.commit()
    with pytest.raises(PromisesTooNew, match=r"schema version 99, this release knows up to 1.*use the release"):
        SloBook(url)


def test_a_file_that_is_no_book_is_named(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not a database\n" * 100)
    with pytest.raises(PromisesUnavailable, match=r"notes\.txt"):
        SloBook(f"sqlite:///{tmp_path / 'notes.txt'}")


def test_the_picture_has_a_row_for_promises_of_any_window_and_without_budget() -> None:
    strict = Terms("landed", within_days=1, objective=1.0).of("raw/products", "team:a")
    standings = [
        Standing(lag(0, promise=promise), (lag(3, TODAY - DAY, promise), lag(0, promise=promise)), None)
        for promise in (PROMISE, OTHER, strict)
    ]
    assert promises_plot(standings, TODAY).startswith(b"\x89PNG")
