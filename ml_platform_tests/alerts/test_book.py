import sqlite3
import tempfile
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_platform.alerts import schema
from ml_platform.alerts.book import AlertBook
from ml_platform.alerts.records import (
    AlertsTooNew,
    AlertsUnavailable,
    Condition,
    ConditionRejected,
    NothingToAcknowledge,
    UnknownAlert,
)
from ml_platform.database import Migration
from ml_platform.errors import ConfigurationError
from ml_platform_tests.alerts.conftest import NOON, SIGKILLED, exit_code, late, minutes, start_process, states

OLD_BOOK = Path(__file__).parent / "alerts_v1.sql"


def test_a_promise_that_breaks_is_one_alert_and_one_more_event_when_it_holds_again(book: AlertBook) -> None:
    (opened,) = book.observe("freshness", [late()], NOON)
    assert (opened.state, opened.opened_at, opened.id) == ("open", NOON, 1)
    assert book.observe("freshness", [late()], minutes(1)) == []
    (resolved,) = book.observe("freshness", [], minutes(2))
    assert resolved == replace(opened, state="resolved", resolved_at=minutes(2))
    assert book.observe("freshness", [], minutes(3)) == []
    assert book.alerts() == [resolved]


def test_the_same_observation_twice_is_a_no_op(book: AlertBook) -> None:
    book.observe("freshness", [late()], NOON)
    assert book.observe("freshness", [late()], NOON) == []
    assert len(book.alerts()) == 1


def test_a_promise_that_breaks_again_is_a_new_alert(book: AlertBook) -> None:
    for minute, broken in enumerate([[late()], [], [late()]]):
        book.observe("freshness", broken, minutes(minute))
    assert [(alert.id, alert.state) for alert in book.alerts()] == [(2, "open"), (1, "resolved")]


def test_while_a_promise_stays_broken_its_alert_keeps_the_words_of_the_moment_it_broke(book: AlertBook) -> None:
    (opened,) = book.observe("freshness", [late()], NOON)
    assert book.observe("freshness", [late(found="99 h old", severity="info")], minutes(1)) == []
    assert book.alerts() == [opened]


def test_a_source_says_nothing_about_the_promises_of_another(book: AlertBook) -> None:
    book.observe("freshness", [late()], NOON)
    book.observe("checks", [late()], NOON)
    book.observe("checks", [], minutes(1))
    assert [(a.source, a.state) for a in book.alerts()] == [("checks", "resolved"), ("freshness", "open")]
    assert len({alert.dedup_key for alert in book.alerts()}) == 2


def test_a_key_given_twice_in_one_observation_is_one_alert(book: AlertBook) -> None:
    book.observe("freshness", [late(), late(title="another word for it")], NOON)
    assert [alert.title for alert in book.alerts()] == ["transactions are late"]


def test_an_event_is_told_once_for_ever_and_is_never_open(book: AlertBook) -> None:
    refusal = late("gate/m/3", kind="gate", severity="info")
    told = book.tell(refusal, NOON)
    assert told and told.state == "told"
    assert book.tell(refusal, minutes(90)) is None
    assert book.alerts(open_only=True) == [] and len(book.alerts()) == 1


def test_the_newest_alerts_come_first_and_only_as_many_as_asked_for(book: AlertBook) -> None:
    book.observe("freshness", [late("a"), late("b"), late("c")], NOON)
    book.observe("freshness", [late("a"), late("b")], minutes(1))
    assert [alert.key for alert in book.alerts()] == ["c", "b", "a"]
    assert [alert.key for alert in book.alerts(open_only=True, limit=1)] == ["b"]


def test_an_observation_older_than_the_last_is_told_and_not_believed(book: AlertBook) -> None:
    book.observe("freshness", [late("a")], minutes(10))
    (told,) = book.observe("freshness", [late("b")], minutes(5))
    assert (told.kind, told.state) == ("sensor", "told") and "clock of freshness moved back" in told.title
    assert states(book) == {"a": "open", told.key: "told"}


def test_after_the_clock_moved_back_the_next_observation_counts_and_no_alert_ends_before_it_began(
    book: AlertBook,
) -> None:
    book.observe("freshness", [late("a")], minutes(60))
    book.observe("freshness", [], minutes(5))
    changed = book.observe("freshness", [late("b")], minutes(6))
    assert [(alert.key, alert.state) for alert in changed] == [("a", "resolved"), ("b", "open")]
    assert changed[0].resolved_at == changed[0].opened_at == minutes(60)
    assert [alert.id for alert in book.alerts()] == [3, 2, 1]


def test_two_observers_whose_clocks_differ_tell_it_once_a_day(book: AlertBook) -> None:
    for tick in range(4):
        book.observe("freshness", [late()], minutes(10 + tick))
        book.observe("freshness", [], minutes(tick))
    assert list(states(book).values()) == ["open", "told"]


def test_who_acknowledges_first_stays_and_the_alert_stays_open(book: AlertBook) -> None:
    book.observe("freshness", [late()], NOON)
    acked = book.ack(1, "ada", minutes(1))
    assert (acked.acked_by, acked.acked_at, acked.state) == ("ada", minutes(1), "open")
    assert book.ack(1, "grace", minutes(2)) == acked
    (resolved,) = book.observe("freshness", [], minutes(3))
    assert (resolved.state, resolved.acked_by) == ("resolved", "ada")


def test_what_cannot_be_acknowledged_says_why(book: AlertBook) -> None:
    with pytest.raises(UnknownAlert, match=r"no alert 7.*mlp alerts --all"):
        book.ack(7, "ada", NOON)
    book.observe("freshness", [late()], NOON)
    with pytest.raises(ConditionRejected, match="has a name"):
        book.ack(1, " \x00", NOON)
    book.observe("freshness", [], minutes(1))
    with pytest.raises(NothingToAcknowledge, match="holds again since 2026-11-21 12:01 UTC"):
        book.ack(1, "ada", minutes(2))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"kind": "nonsense"}, "'nonsense' is no kind"),
        ({"severity": "loud"}, "'loud' is no severity"),
        ({"title": " "}, "has no title"),
        ({"owner": ""}, "has no owner"),
        ({"since": datetime(2026, 1, 1)}, "says no time zone"),
    ],
)
def test_a_condition_that_makes_no_good_alert_is_rejected(change: dict, says: str) -> None:
    with pytest.raises(ConditionRejected, match=says):
        late(**change)


def test_an_observation_without_a_zone_or_a_source_is_rejected_whole(book: AlertBook) -> None:
    with pytest.raises(ConditionRejected, match="no time zone"):
        book.observe("freshness", [late()], datetime(2026, 1, 1))
    for source in ("", "\x1b[2J", "told"):
        with pytest.raises(ConditionRejected, match="names no observer"):
            book.observe(source, [late()], NOON)
    assert book.alerts() == []


def test_secrets_and_control_characters_never_reach_the_file(
    book: AlertBook, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WAREHOUSE_PASSWORD", "hunter2-hunter2")
    dirty = late(
        title="login \x1b[31mfailed\x1b[0m\x07 with hunter2-hunter2",
        found="snowflake://ada:pa55@host and token=abc123\nsecond\u202eline" + "x" * 5000,
        promised="hunter2-\x00hunter2",
    )
    (alert,) = book.observe("runs", [dirty], NOON)
    book.ack(1, "ada hunter2-hunter2", NOON)
    assert alert.title == "login failed with [redacted]"
    assert alert.promised == "[redacted]"
    assert alert.found.startswith("snowflake://ada:[redacted]@host and token=[redacted] secondline")
    assert len(alert.found) <= 600
    files = Path(url.removeprefix("sqlite:///")).parent.glob("alerts.db*")
    stored = b"".join(file.read_bytes() for file in files)
    assert b"login failed" in stored
    assert b"hunter2" not in stored and b"pa55" not in stored and b"\x1b[31m" not in stored


def test_two_long_keys_with_one_beginning_stay_two(book: AlertBook) -> None:
    book.observe("runs", [late("k" * 500 + "1"), late("k" * 500 + "2")], NOON)
    assert len({alert.key for alert in book.alerts()}) == 2
    assert max(len(alert.key) for alert in book.alerts()) == 200
    assert book.observe("runs", [late("k" * 500 + "1"), late("k" * 500 + "2")], minutes(1)) == []


def test_thousands_of_assets_late_at_once_are_one_transaction(book: AlertBook) -> None:
    broken = [late(f"asset_{number}") for number in range(1000)]
    assert len(book.observe("freshness", broken, NOON)) == 1000
    assert book.observe("freshness", broken, minutes(1)) == []
    assert len(book.observe("freshness", [], minutes(2))) == 1000


@settings(max_examples=8, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.sets(st.sampled_from("abc"))), max_size=12))
def test_whatever_is_observed_in_whatever_order_alerts_pair_up(history: list[tuple[int, set[str]]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        book = AlertBook(f"sqlite:///{folder}/alerts.db")
        for minute, keys in history:
            book.observe("freshness", [late(key) for key in sorted(keys)], minutes(minute))
        alerts = book.alerts()
    still_open = [alert.key for alert in alerts if alert.state == "open"]
    assert len(still_open) == len(set(still_open))
    assert all(a.resolved_at >= a.opened_at for a in alerts if a.resolved_at)
    assert [alert.id for alert in alerts] == list(range(len(alerts), 0, -1))


def _observe_one(url: str, number: int) -> None:
    AlertBook(url).observe("freshness", [late("shared")], NOON)
    AlertBook(url).observe(f"source-{number}", [late(f"own-{number}")], NOON)
    AlertBook(url).tell(late("event", kind="rollback"), NOON)


def test_concurrent_observers_open_one_alert_for_one_promise(url: str) -> None:
    observers = [start_process(_observe_one, url, number) for number in range(4)]
    assert [exit_code(observer) for observer in observers] == [0] * 4
    alerts = AlertBook(url).alerts()
    assert sorted(alert.key for alert in alerts) == ["event", "own-0", "own-1", "own-2", "own-3", "shared"]
    assert sorted(alert.id for alert in alerts) == [1, 2, 3, 4, 5, 6]


def _observe(url: str) -> None:
    AlertBook(url).observe("freshness", [late()], NOON)


@pytest.mark.parametrize(("point", "stored"), [("alerts.observing", 0), ("alerts.observed", 1)])
def test_an_observer_killed_at_any_point_leaves_all_or_nothing(url: str, point: str, stored: int) -> None:
    assert exit_code(start_process(_observe, url, kill_at=point)) == SIGKILLED
    book = AlertBook(url)
    assert len(book.alerts()) == stored
    book.observe("freshness", [late()], minutes(1))
    book.outbox.join(["later"])
    assert len(book.alerts()) == book.outbox.count("later") == 1


def test_a_book_of_version_1_opens_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "old.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(OLD_BOOK.read_text())
    second = Migration(2, lambda _: ["alter table alerts add column escalated text"])
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, second))
    book = AlertBook(f"sqlite:///{path}")
    assert [(alert.id, alert.key, alert.state) for alert in book.alerts()] == [(2, "b", "resolved"), (1, "a", "open")]
    assert [alert.key for alert in book.observe("freshness", [], minutes(5))] == ["a"]
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("select max(version) from alert_schema_version").fetchone() == (2,)


def test_a_newer_book_is_refused_with_a_clear_word(book: AlertBook, url: str) -> None:
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
        connection.execute("insert into alert_schema_version values (99, 'tomorrow')")
        connection.commit()
    with pytest.raises(AlertsTooNew, match=r"book of alerts has schema version 99, this release knows up to 1"):
        AlertBook(url)


def test_a_place_or_url_that_cannot_serve_is_named_without_its_password(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not a database\n" * 100)
    with pytest.raises(AlertsUnavailable, match=r"the book of alerts cannot be used.*notes\.txt"):
        AlertBook(f"sqlite:///{tmp_path / 'notes.txt'}")
    with pytest.raises(ConfigurationError, match="ML_PLATFORM_ALERTS_URL") as refusal:
        AlertBook("postgresql+nodriver://ada:hunter2@db/alerts")
    assert "hunter2" not in str(refusal.value)


def test_the_ledger_and_the_book_may_share_one_database(tmp_path: Path) -> None:
    from ml_platform.registry.ledger import Ledger

    url = f"sqlite:///{tmp_path / 'shared.db'}"
    for _ in range(2):
        assert Ledger(url).models() == []
        AlertBook(url).observe("freshness", [late()], NOON)
    assert len(AlertBook(url).alerts()) == 1


def test_every_condition_names_the_page_for_whoever_is_called() -> None:
    condition: Condition = late(kind="drift")
    assert condition.runbook == "docs/runbooks/drift.md"
    assert late(since=NOON.astimezone() + timedelta(0)).since == NOON
