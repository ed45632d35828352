import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ml_platform.alerts.book import AlertBook
from ml_platform.alerts.delivery import deliver
from ml_platform.alerts.sinks import Slack
from ml_platform.cli import app
from ml_platform.settings import Settings
from ml_platform_tests.alerts.conftest import NOON, late, minutes


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AlertBook:
    """The book of a home of its own: one ticket and one page open, one promise that holds again."""
    for name in ("ML_PLATFORM_ALERTS_URL", "ML_PLATFORM_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ML_PLATFORM_HOME", str(tmp_path))
    book = AlertBook(Settings.from_env().alerts_url)
    book.observe("freshness", [late("over"), late("page"), late("ticket", severity="ticket", asset=None)], NOON)
    book.observe("freshness", [late("page"), late("ticket")], minutes(1))
    return book


def mlp(*arguments: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error."""
    result = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["alerts", *arguments])
    return result.exit_code, result.stdout, result.stderr


def test_what_is_broken_is_listed_the_worst_first(kept: AlertBook) -> None:
    code, said, _ = mlp()
    assert code == 0
    assert "2 broken promises" in said and "raw/page" in said and "2026-11-21 07:00" in said
    assert said.index("page are late") < said.index("ticket are late")
    assert "31 h old; promised: at most 26 h old" in said and "over are late" not in said


def test_all_of_them_also_as_json(kept: AlertBook) -> None:
    assert "over are late" in mlp("--all")[1]
    rows = json.loads(mlp("--all", "--json")[1])
    assert [(row["id"], row["key"], row["state"]) for row in rows] == [
        (3, "ticket", "open"),
        (2, "page", "open"),
        (1, "over", "resolved"),
    ]
    assert rows[0]["runbook"] == "docs/runbooks/freshness.md"


def test_taking_one_on_names_who_and_the_page_to_read(kept: AlertBook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "grace")
    code, said, _ = mlp("ack", "2")
    assert code == 0
    assert "grace looks after it" in said and "docs/runbooks/freshness.md" in said
    assert "open, acked by grace" in mlp()[1]
    assert json.loads(mlp("ack", "3", "--who", "ada", "--json")[1])[0]["acked_by"] == "ada"


def test_what_cannot_be_taken_on_is_a_panel(kept: AlertBook) -> None:
    for number, says in (("9", "there is no alert 9"), ("1", "it holds again since")):
        code, said, complained = mlp("ack", number)
        assert (code, said) == (1, "")
        assert says in complained and "Traceback" not in complained


def test_a_sink_that_is_down_is_named_with_its_cause(kept: AlertBook) -> None:
    deliver(kept, [Slack("http://127.0.0.1:1/services/hush")], NOON)
    said = mlp()[1]
    assert "slack is down: ConnectionRefusedError: " in said and "4 wait for it" in said and "hush" not in said
    assert len(json.loads(mlp("--json")[1])) == 2


def test_where_nothing_is_broken_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ML_PLATFORM_HOME", str(tmp_path))
    assert "No promise is broken" in mlp()[1]
    assert json.loads(mlp("--json")[1]) == []
