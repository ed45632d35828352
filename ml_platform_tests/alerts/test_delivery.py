from pathlib import Path

import pytest

from ml_platform.alerts import delivery, http
from ml_platform.alerts.book import AlertBook
from ml_platform.alerts.delivery import LONGEST_WAIT_SECONDS, STORM, deliver
from ml_platform.alerts.records import Digest, Message, Notification
from ml_platform.alerts.sinks import JsonLines, PagerDuty, Slack, read_lines
from ml_platform.errors import ConfigurationError
from ml_platform_tests.alerts.conftest import (
    NOON,
    SIGKILLED,
    Webhook,
    exit_code,
    late,
    minutes,
    retried,
    start_process,
)


class Receiver:
    """A sink of the tests' own that keeps what it is sent, and fails when told."""

    def __init__(self, name: str = "receiver") -> None:
        self.name = name
        self.sent: list[Message] = []
        self.error: Exception | None = None

    def send(self, notification: Message) -> None:
        if self.error:
            raise self.error
        self.sent.append(notification)

    @property
    def events(self) -> list[tuple[str, str]]:
        return [(n.alert.key, n.event) for n in self.sent if isinstance(n, Notification)]


def keys(bodies: list[dict]) -> list[str]:
    return [body["metadata"]["event_payload"]["dedup_key"] for body in bodies]


def test_what_broke_what_was_acknowledged_and_what_holds_again_is_told_in_that_order_and_once(book: AlertBook) -> None:
    receiver = Receiver()
    book.observe("freshness", [late()], NOON)
    book.ack(1, "ada", minutes(1))
    book.observe("freshness", [], minutes(2))
    book.tell(late("refusal", kind="gate"), minutes(3))
    report = deliver(book, [receiver], minutes(4))
    assert (report.delivered, report.pending, report.failures) == (4, 0, {})
    assert receiver.events == [
        ("transactions", "opened"),
        ("transactions", "acknowledged"),
        ("transactions", "resolved"),
        ("refusal", "told"),
    ]
    assert deliver(book, [receiver], minutes(5)).delivered == 0


def test_a_dead_sink_loses_nothing_doubles_nothing_and_holds_up_no_other(book: AlertBook, webhook: Webhook) -> None:
    alive, slack = Receiver(), Slack(webhook.url)
    webhook.behave("error")
    book.observe("freshness", [late("a"), late("b")], NOON)
    report = deliver(book, [slack, alive], NOON)
    assert (len(alive.sent), len(webhook.bodies)) == (2, 1), "the first failure ends this attempt at the dead one"
    book.observe("freshness", [late("b")], minutes(1))
    webhook.behave("ok")
    assert deliver(book, [slack, alive], NOON).delivered == 1, "a dead sink is not asked before its time"
    report = deliver(book, [slack, alive], retried(report, "slack"))
    assert (report.delivered, report.pending) == (3, 0)
    assert keys(webhook.taken) == ["freshness/a#1/opened", "freshness/b#2/opened", "freshness/a#1/resolved"]


@pytest.mark.parametrize(
    ("behaviour", "cause"),
    [
        ("error", "it answered 500 with boom at"),
        ("garbage", "it answered 200 with <html>please log in"),
        ("empty", "it answered 200 with nothing; Slack says `ok`"),
        ("hangs", "within 0.3 s"),
        ("drips", "within 0.3 s"),
        ("closes", "Remote end closed connection without response"),
        ("redirects", "it answered 302"),
        ("forbids", "it answered 403 with invalid_token"),
        ("refuses", "it answered 400 with invalid_payload"),
        ("slow down", "it answered 429 with rate_limited"),
    ],
)
def test_every_way_to_fail_keeps_a_clear_cause_without_the_address(
    book: AlertBook, webhook: Webhook, behaviour: str, cause: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    webhook.behave(behaviour)
    book.observe("freshness", [late()], NOON)
    with monkeypatch.context() as hurried:
        if behaviour in ("hangs", "drips"):
            hurried.setattr(http, "DEADLINE_SECONDS", 0.3)
        report = deliver(book, [Slack(webhook.url)], NOON)
    said = report.failures["slack"]
    assert cause in said
    assert "hush-hush" not in said and "\x1b" not in said and "\x00" not in said
    webhook.behave("ok")
    assert deliver(book, [Slack(webhook.url)], retried(report, "slack")).pending == 0


def test_a_sink_nobody_listens_at_is_a_failure_that_says_so(book: AlertBook, webhook: Webhook) -> None:
    webhook.close()
    book.observe("freshness", [late()], NOON)
    assert "Connection refused" in deliver(book, [Slack(webhook.url)], NOON).failures["slack"]
    nowhere = deliver(book, [Slack("file:///etc/passwd")], minutes(60)).failures["slack"]
    assert "does not begin with https://" in nowhere


def test_the_wait_doubles_up_to_a_bound_and_starts_anew_after_a_success(
    book: AlertBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery.random, "uniform", lambda low, high: high)
    receiver = Receiver()
    receiver.error = RuntimeError("no")
    book.observe("freshness", [late()], NOON)
    now, waits = NOON, []
    for _ in range(9):
        again = retried(deliver(book, [receiver], now), "receiver")
        waits.append((again - now).total_seconds())
        now = again
    assert waits == [10, 20, 40, 80, 160, 320, 640, 900, 900]
    receiver.error = None
    assert deliver(book, [receiver], now).delivered == 1
    receiver.error = RuntimeError("no")
    book.observe("freshness", [], now)
    assert (retried(deliver(book, [receiver], now), "receiver") - now).total_seconds() == 10


def test_the_wait_is_spread_and_at_least_what_the_sink_asked_for(book: AlertBook, webhook: Webhook) -> None:
    webhook.behave("slow down")
    book.observe("freshness", [late()], NOON)
    wait = retried(deliver(book, [Slack(webhook.url)], NOON), "slack") - NOON
    assert wait.total_seconds() == 600
    assert {delivery._wait(0) for _ in range(50)} != {delivery._wait(0)}


def test_after_the_clock_moved_back_a_waiting_sink_is_tried_again(book: AlertBook) -> None:
    receiver = Receiver()
    receiver.error = RuntimeError("no")
    book.observe("freshness", [late()], NOON)
    deliver(book, [receiver], minutes(60 * 24 * 365))
    receiver.error = None
    assert deliver(book, [receiver], NOON).delivered == 1


def test_a_message_that_a_working_sink_refuses_waits_alone_with_what_follows_of_its_alert(
    book: AlertBook, webhook: Webhook
) -> None:
    webhook.behave("refuses", "ok")
    book.observe("freshness", [late("a"), late("b")], NOON)
    book.observe("freshness", [late("b")], minutes(1))
    report = deliver(book, [Slack(webhook.url)], minutes(1))
    assert keys(webhook.taken) == ["freshness/b#2/opened"]
    assert report.pending == 2
    assert deliver(book, [Slack(webhook.url)], minutes(1)).delivered == 0
    deliver(book, [Slack(webhook.url)], retried(report, "slack"))
    assert keys(webhook.taken)[1:] == ["freshness/a#1/opened", "freshness/a#1/resolved"]


def test_a_refused_message_holds_up_no_digest_of_the_others(book: AlertBook, webhook: Webhook) -> None:
    webhook.behave("refuses", "ok")
    book.observe("freshness", [late("refused")], NOON)
    report = deliver(book, [Slack(webhook.url)], NOON)
    book.observe("freshness", [late(f"asset_{number}") for number in range(STORM + 1)], minutes(0))
    report = deliver(book, [Slack(webhook.url)], NOON)
    assert (report.delivered, report.pending) == (STORM + 1, 2), "opened and resolved of the refused one wait"


def test_a_storm_is_one_digest_that_names_counts_and_the_worst_few(book: AlertBook, webhook: Webhook) -> None:
    book.outbox.join(["slack"])
    for number in range(STORM):
        book.observe(f"check-{number}", [late(f"c{number}", kind="check", severity="ticket")], NOON)
    book.observe("freshness", [late("a"), late("b")], NOON)
    report = deliver(book, [Slack(webhook.url)], NOON)
    (body,) = webhook.taken
    assert (report.delivered, report.pending) == (22, 0)
    assert "22 alerts at once: 2 opened page freshness, 20 opened ticket check" in body["text"]
    shown = body["blocks"][0]["text"]["text"].splitlines()
    assert [line for line in shown if line.startswith("•")][:2] == [
        "• opened [page] a are late",
        "• opened [page] b are late",
    ]
    assert len(shown) == 7


def test_as_many_as_are_no_storm_yet_are_told_one_by_one(book: AlertBook) -> None:
    receiver = Receiver()
    book.observe("freshness", [late(f"asset_{number}") for number in range(STORM)], NOON)
    deliver(book, [receiver], NOON)
    assert len(receiver.events) == STORM


def test_a_digest_that_failed_is_sent_again_as_the_same_one_and_what_came_since_apart(book: AlertBook) -> None:
    receiver = Receiver()
    receiver.error = RuntimeError("no")
    storm = [late(f"asset_{number}") for number in range(STORM + 5)]
    book.observe("freshness", storm, NOON)
    report = deliver(book, [receiver], NOON)
    book.observe("freshness", [*storm, late("since")], minutes(1))
    receiver.error = None
    deliver(book, [receiver], retried(report, "receiver"))
    digest, single = receiver.sent
    assert isinstance(digest, Digest) and len(digest.notifications) == STORM + 5
    assert digest.dedup_key == "digest/1-25"
    assert isinstance(single, Notification) and single.alert.key == "since"


def test_a_sink_that_joins_later_hears_what_is_still_open_and_not_the_past(book: AlertBook) -> None:
    first, later = Receiver("first"), Receiver("later")
    book.observe("freshness", [late("over"), late("open")], NOON)
    book.observe("freshness", [late("open")], minutes(1))
    deliver(book, [first], minutes(2))
    deliver(book, [first, later], minutes(3))
    assert later.events == [("open", "opened")]
    assert len(first.events) == 3


def test_two_sinks_of_one_name_are_refused(book: AlertBook) -> None:
    with pytest.raises(ConfigurationError, match="two sinks have one name"):
        deliver(book, [Receiver(), Receiver()], NOON)


def test_a_wait_is_never_longer_than_its_bound() -> None:
    assert all(delivery._wait(n, 10**9).total_seconds() <= LONGEST_WAIT_SECONDS for n in range(100))


def _deliver_lines(url: str, path: Path) -> None:
    deliver(AlertBook(url), [JsonLines(path)], NOON)


@pytest.mark.parametrize("point", ["alerts.sent", "alerts.delivered"])
@pytest.mark.parametrize("count", [3, STORM + 1])
def test_a_sender_killed_between_sending_and_marking_is_counted_once_by_the_reader(
    book: AlertBook, url: str, tmp_path: Path, point: str, count: int
) -> None:
    path = tmp_path / "alerts.jsonl"
    book.observe("freshness", [late(f"asset_{number}") for number in range(count)], NOON)
    assert exit_code(start_process(_deliver_lines, url, path, kill_at=point)) == SIGKILLED
    assert deliver(book, [JsonLines(path)], NOON).pending == 0
    told = [key for line in read_lines(path) for key in line.get("covers", [line["dedup_key"]])]
    assert sorted(told) == sorted(f"freshness/asset_{n}#{n + 1}/opened" for n in range(count))
    assert len(path.read_text().splitlines()) == len(list(read_lines(path))) + (point == "alerts.sent")


def _deliver_pages(url: str, webhook_url: str) -> None:
    deliver(AlertBook(url), [PagerDuty(webhook_url, "routing")], NOON)


def test_a_webhook_that_was_sent_the_same_twice_can_count_one(book: AlertBook, url: str, webhook: Webhook) -> None:
    webhook.behave("success")
    book.observe("freshness", [late()], NOON)
    assert exit_code(start_process(_deliver_pages, url, webhook.url, kill_at="alerts.sent")) == SIGKILLED
    _deliver_pages(url, webhook.url)
    assert len(webhook.taken) == 2 and len({body["dedup_key"] for body in webhook.taken}) == 1
