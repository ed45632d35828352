"""`mlp slo` says how every promise stands, and records nothing by looking."""

import json
from datetime import date
from pathlib import Path

import pytest

from assets.slo import PROMISES, read_promises
from ml_platform.calendar import DAY
from ml_platform.clock import Clock
from ml_platform.monitoring.slo import SloBook
from ml_platform.settings import Settings
from ml_platform_tests.cli.test_commands import invoke

TODAY = date(2017, 6, 8)
NAME = "raw/transactions landed"


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A home on TODAY into which nothing was loaded for some days."""
    for name in ("ML_PLATFORM_ALERTS_URL", "ML_PLATFORM_LEDGER_URL", "ML_PLATFORM_PROFILE", "DAGSTER_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ML_PLATFORM_HOME", str(tmp_path))
    Clock(tmp_path).move_to(TODAY)
    note = tmp_path / "lake" / "loaded" / "transactions.json"
    note.parent.mkdir(parents=True)
    note.write_text('{"format_version": 1, "table": "transactions", "landed_on": "2017-06-03", "event": "2017-06-05"}')
    return Settings.from_env()


def test_slo_lists_every_promise_and_says_of_the_broken_ones_what_was_promised(settings: Settings) -> None:
    code, said, _ = invoke("slo")
    assert code == 0
    assert NAME in said and "4 / 1" in said and "2017-06-06" in said and "team:store-systems" in said
    broken = f"{NAME}: what lands is loaded within 1 day; loaded through 2017-06-03, 4 days behind"
    assert broken in " ".join(said.split())
    assert "docs/runbooks/freshness.md" in said


def test_slo_as_json_has_a_row_for_every_promise(settings: Settings) -> None:
    code, said, _ = invoke("slo", "--json")
    found = {row["promise"]: row for row in json.loads(said)}
    assert (code, list(found)) == (0, [promise.name for promise in PROMISES])
    assert (found[NAME]["state"], found[NAME]["lag_days"], found[NAME]["budget_left"]) == ("broken", 4, 3.5)
    assert found["raw/transactions newest_event"]["state"] == "held"
    assert found["features/household as_of"]["state"] == "unknown"


def test_the_history_of_a_promise_has_a_row_a_day(settings: Settings) -> None:
    book = SloBook(settings.alerts_url)
    book.record(read_promises(settings, TODAY - 3 * DAY))
    book.record(read_promises(settings, TODAY - DAY))
    code, said, _ = invoke("slo", "--history", NAME, "--json")
    assert code == 0
    assert [(row["day"], row["state"], row["lag_days"]) for row in json.loads(said)] == [
        ("2017-06-05", "held", 1),
        ("2017-06-07", "broken", 3),
        ("2017-06-08", "broken", 4),
    ]
    assert "2.5 of 4.5 days of budget left" in " ".join(invoke("slo", "--history", NAME)[1].split())


def test_looking_twice_shows_the_same_since_nothing_is_recorded(settings: Settings) -> None:
    first = invoke("slo", "--json")
    assert invoke("slo", "--json") == first
    Clock(settings.home).move_to(TODAY + DAY)
    (row,) = json.loads(invoke("slo", "--history", NAME, "--json")[1])
    assert row["day"] == "2017-06-09"


@pytest.mark.parametrize("name", ["raw/transaction landed", "'; drop table slo_days; --", "../..", "[red]"])
def test_an_unknown_promise_is_a_panel(settings: Settings, name: str) -> None:
    code, said, complained = invoke("slo", "--history", name)
    assert (code, said) == (1, "")
    assert "UnknownPromise" in complained and "Traceback" not in complained


def test_a_near_name_is_offered(settings: Settings) -> None:
    assert f'did you mean "{NAME}"?' in invoke("slo", "--history", "raw/transaction landed")[2]
