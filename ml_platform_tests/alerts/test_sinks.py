import json
from pathlib import Path

import pytest

from ml_platform.alerts.book import AlertBook
from ml_platform.alerts.delivery import STORM, deliver
from ml_platform.alerts.records import Digest, Notification
from ml_platform.alerts.sinks import (
    PAGERDUTY_URL,
    JsonLines,
    PagerDuty,
    SinkDown,
    Slack,
    pagerduty_bodies,
    read_lines,
    sinks_from_env,
    slack_body,
)
from ml_platform.settings import Settings
from ml_platform_tests.alerts.conftest import NOON, Webhook, late, minutes


@pytest.fixture
def opened(book: AlertBook) -> Notification:
    (alert,) = book.observe("freshness", [late()], NOON)
    return Notification(1, "opened", NOON, alert)


def test_a_line_says_everything_and_is_read_back(opened: Notification, tmp_path: Path) -> None:
    sink = JsonLines(tmp_path / "deep" / "alerts.jsonl")
    sink.send(opened)
    (line,) = read_lines(sink.path)
    assert (line["format_version"], line["event"], line["dedup_key"]) == (
        1,
        "opened",
        "freshness/transactions#1/opened",
    )
    said = line["alert"]
    assert (said["severity"], said["owner"], said["asset"]) == ("page", "team:shops", "raw/transactions")
    assert (said["promised"], said["found"]) == ("at most 26 h old", "31 h old")
    assert said["since"] == "2026-11-21T07:00:00+00:00"
    assert said["runbook"] == "docs/runbooks/freshness.md" and said["link"].startswith("http://")


def test_a_line_torn_by_a_killed_writer_spoils_no_other(opened: Notification, tmp_path: Path) -> None:
    sink = JsonLines(tmp_path / "alerts.jsonl")
    sink.send(opened)
    whole = sink.path.read_bytes()
    sink.path.write_bytes(whole + whole[: len(whole) // 2])
    assert len(list(read_lines(sink.path))) == 1
    sink.send(Notification(2, "resolved", NOON, opened.alert))
    assert [line["event"] for line in read_lines(sink.path)] == ["opened", "resolved"]


def test_a_line_of_another_format_or_no_object_is_left_out(opened: Notification, tmp_path: Path) -> None:
    sink = JsonLines(tmp_path / "alerts.jsonl")
    sink.path.write_text('{"format_version": 99, "dedup_key": "x"}\n[]\n7\n\nnot json\n')
    sink.send(opened)
    assert [line["event"] for line in read_lines(sink.path)] == ["opened"]
    assert list(read_lines(tmp_path / "none.jsonl")) == []


def test_a_file_that_cannot_be_written_is_a_dead_sink(opened: Notification, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file" / "alerts.jsonl", tmp_path):
        with pytest.raises(SinkDown, match="cannot be written"):
            JsonLines(path).send(opened)


def test_slack_shows_what_why_since_when_whose_and_what_to_do(opened: Notification) -> None:
    body = slack_body(opened)
    shown = body["blocks"][0]["text"]["text"]
    assert body["text"] == ":red_circle: *opened* [page] transactions are late"
    for part in (
        "promised: at most 26 h old",
        "found: 31 h old",
        "since 2026-11-21 07:00 UTC · owner team:shops · alert 1",
        "<http://127.0.0.1:3000/assets/raw/transactions|raw/transactions>",
        "runbook docs/runbooks/freshness.md",
    ):
        assert part in shown


def test_slack_text_calls_nobody_and_links_nowhere(book: AlertBook) -> None:
    evil = late(title="<!channel> <http://evil|click> & co", asset="a|b", link="javascript:alert(1)")
    (alert,) = book.observe("freshness", [evil], NOON)
    shown = slack_body(Notification(1, "opened", NOON, alert))["blocks"][0]["text"]["text"]
    assert "&lt;!channel&gt; &lt;http://evil¦click&gt; &amp; co" in shown
    assert "<" not in shown and "javascript" not in shown


def test_slack_takes_what_it_answers_ok_to(opened: Notification, webhook: Webhook) -> None:
    Slack(webhook.url).send(opened)
    assert webhook.taken == [slack_body(opened)]


@pytest.mark.parametrize(("severity", "theirs"), [("page", "critical"), ("ticket", "warning"), ("info", "info")])
def test_pagerduty_is_told_in_the_shape_of_its_events_api_v2(book: AlertBook, severity: str, theirs: str) -> None:
    (alert,) = book.observe("freshness", [late(severity=severity)], NOON)
    (body,) = pagerduty_bodies(Notification(1, "opened", NOON, alert), "routing")
    assert (body["routing_key"], body["event_action"], body["dedup_key"]) == (
        "routing",
        "trigger",
        "freshness/transactions",
    )
    payload = body["payload"]
    assert (payload["summary"], payload["severity"]) == ("transactions are late", theirs)
    assert (payload["source"], payload["component"], payload["class"]) == (
        "ml-platform",
        "raw/transactions",
        "freshness",
    )
    assert payload["timestamp"] == "2026-11-21T12:00:00+00:00"
    assert payload["custom_details"]["runbook"] == "docs/runbooks/freshness.md"
    assert body["links"] == [{"href": "http://127.0.0.1:3000/assets/raw/transactions", "text": "raw/transactions"}]


def test_one_incident_at_pagerduty_is_triggered_acknowledged_and_resolved(book: AlertBook, webhook: Webhook) -> None:
    webhook.behave("success")
    book.observe("freshness", [late()], NOON)
    book.ack(1, "ada", minutes(1))
    book.observe("freshness", [], minutes(2))
    deliver(book, [PagerDuty(webhook.url, "routing")], minutes(3))
    assert [body["event_action"] for body in webhook.taken] == ["trigger", "acknowledge", "resolve"]
    assert {body["dedup_key"] for body in webhook.taken} == {"freshness/transactions"}


def test_a_key_as_long_as_it_gets_fits_pagerduty(book: AlertBook) -> None:
    (alert,) = book.observe("s" * 300, [late("k" * 300)], NOON)
    assert len(alert.dedup_key) <= 255


def test_incidents_opened_alone_are_resolved_alone_also_in_a_storm(book: AlertBook, webhook: Webhook) -> None:
    webhook.behave("success")
    pagerduty = PagerDuty(webhook.url, "routing")
    first = [late(f"asset_{number}") for number in range(STORM)]
    book.observe("freshness", first, NOON)
    deliver(book, [pagerduty], NOON)
    book.observe("freshness", [late("new")], minutes(1))
    deliver(book, [pagerduty], minutes(1))
    digest, *quiet = webhook.taken[STORM:]
    assert digest["event_action"] == "trigger" and digest["dedup_key"] == "digest/21-41"
    assert "20 resolved page freshness" in digest["payload"]["summary"]
    assert [body["event_action"] for body in quiet] == ["resolve"] * STORM


def test_a_storm_of_good_news_opens_no_incident(book: AlertBook) -> None:
    (alert,) = book.observe("freshness", [late()], NOON)
    good = Digest((Notification(1, "resolved", NOON, alert), Notification(2, "resolved", NOON, alert)))
    assert good.severity == "info"
    assert [body["event_action"] for body in pagerduty_bodies(good, "routing")] == ["resolve", "resolve"]


@pytest.mark.parametrize("behaviour", ["ok", "garbage", "empty", "error"])
def test_pagerduty_has_not_taken_what_it_did_not_call_a_success(
    opened: Notification, webhook: Webhook, behaviour: str
) -> None:
    webhook.behave(behaviour)
    with pytest.raises(SinkDown) as failure:
        PagerDuty(webhook.url, "routing-key-of-ours").send(opened)
    assert "routing-key-of-ours" not in str(failure.value)


def test_the_environment_says_which_sinks_there_are_and_the_settings_keep_no_secret(tmp_path: Path) -> None:
    environ = {"ML_PLATFORM_HOME": str(tmp_path)}
    settings = Settings.from_env(environ)
    assert settings.alerts_url == f"sqlite:///{tmp_path / 'alerts.db'}"
    assert [sink.name for sink in sinks_from_env(settings, environ)] == ["jsonl"]
    secret = {"ML_PLATFORM_SLACK_URL": "https://hooks.slack.com/services/x", "ML_PLATFORM_PAGERDUTY_KEY": "routing"}
    lines, slack, pagerduty = sinks_from_env(settings, environ | secret)
    assert isinstance(lines, JsonLines) and lines.path == tmp_path / "alerts.jsonl"
    assert isinstance(slack, Slack) and isinstance(pagerduty, PagerDuty)
    assert pagerduty._url == PAGERDUTY_URL
    assert "routing" not in json.dumps(Settings.from_env(environ | secret).__dict__, default=str)
