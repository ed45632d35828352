"""The sensor `alerts`, tick by tick on a real instance: each thing is told once, and nothing silences the rest."""

import json
import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
from dagster._core.definitions.freshness import FreshnessState, FreshnessStateChange

from assets.models import MODELS
from ml_platform.alerts.records import Condition
from ml_platform.calendar import DAY
from ml_platform.lake import PartitionedTable
from ml_platform.monitoring.retraining import Training
from ml_platform.registry.ledger import Ledger
from ml_platform.registry.promotion import rollback
from ml_platform.tracking.mlflow import TrackingUnavailable
from ml_platform.tracking.projection import Projection
from ml_platform_tests.alerts.conftest import SIGKILLED, exit_code, start_process
from ml_platform_tests.sensors.conftest import MONDAY, NO_LOOK, NOW, House
from sensors.alerts import awake
from sensors.conditions import JUDGED, held_trainings
from sensors.events import Memory, look_at_aliases
from sensors.failures import failing_sensors

sensor: Any = import_module("sensors.alerts")
MODEL = next(iter(MODELS))

WORLD = {"passes": True, "error": None}


@dg.asset(owners=["team:shops"])
def shelf() -> None:
    if WORLD["error"]:
        raise WORLD["error"]


@dg.asset_check(asset=shelf, description="at least one row")
def rows() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        passed=bool(WORLD["passes"]),
        severity=dg.AssetCheckSeverity.WARN,
        description="no row",
        metadata={"rows": 0, "threshold": 1},
    )


@pytest.fixture
def repository() -> Any:
    WORLD.update(passes=True, error=None)
    return dg.Definitions(assets=[shelf], asset_checks=[rows]).get_repository_def()


def make(house: House, repository: Any, **tags: str) -> str:
    """One run of everything; its id."""
    job = repository.get_job("__ASSET_JOB")
    done = job.execute_in_process(instance=house.instance, tags=tags, raise_on_error=False, asset_selection=[shelf.key])
    return done.run_id


def test_a_failed_check_that_only_warns_is_one_alert_and_a_later_pass_resolves_it(
    house: House, repository: Any
) -> None:
    WORLD["passes"] = False
    make(house, repository)
    house.tick(repository)
    house.tick(repository)
    (alert,) = house.alerts("check")
    assert (alert.severity, alert.owner, alert.asset, alert.promised) == (
        "info",
        "team:shops",
        "shelf",
        "at least one row",
    )
    assert alert.found == "no row; rows 0; threshold 1"
    assert alert.link == "http://127.0.0.1:3000/assets/shelf"
    WORLD["passes"] = True
    make(house, repository)
    house.tick(repository)
    title = "shelf fails its check rows"
    assert house.told() == [("opened", title), ("resolved", title)]


def test_the_same_tick_twice_tells_nothing_twice(house: House, repository: Any) -> None:
    WORLD.update(passes=False)
    make(house, repository)
    before = house.cursor
    house.tick(repository)
    told, house.cursor = house.lines(), before
    assert house.tick(repository).startswith("0 opened, 0 resolved, 0 told; 0 sent, 0 wait")
    assert house.lines() == told and len(told) == 1


def test_a_failed_run_is_told_with_its_cause_and_is_over_once_the_same_thing_succeeds(
    house: House, repository: Any
) -> None:
    WORLD["error"] = ValueError("the shelf is empty")
    first = make(house, repository)
    house.tick(repository)
    make(house, repository)
    house.tick(repository)
    (alert,) = house.alerts("run")
    assert (alert.found, alert.severity, alert.owner) == (
        "shelf: ValueError: the shelf is empty",
        "ticket",
        "team:shops",
    )
    assert alert.link == f"http://127.0.0.1:3000/runs/{first}"
    WORLD["error"] = None
    make(house, repository)
    house.tick(repository)
    assert [event for event, _ in house.told()] == ["opened", "resolved"]


def test_a_failed_reaction_pages_and_another_attempt_ends_it(house: House, repository: Any) -> None:
    WORLD["error"] = dg.Failure("file 2017-09-03 is torn: ask its sender")
    make(house, repository, **{"ml_platform/reaction": "land 2017-09-03..2017-09-03"})
    house.tick(repository)
    (alert,) = house.alerts("run", "open")
    assert alert.severity == "page" and "file 2017-09-03 is torn: ask its sender" in alert.found
    WORLD["error"] = None
    make(house, repository, **{"ml_platform/reaction": "another thing"})
    house.tick(repository)
    assert house.alerts("run", "open") == [], "what it had to make was made by another run"


def test_secrets_and_control_characters_of_an_error_never_reach_the_sink(
    house: House, repository: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_PASSWORD", "open-sesame-123")
    WORLD["error"] = ValueError("login \x1b[31mopen-sesame-123\x00 postgresql://u:hunter2hunter2@db/x \u202eevil")
    make(house, repository)
    house.tick(repository)
    (line,) = house.settings.alerts_log.read_text().splitlines()
    for harmful in ("open-sesame-123", "hunter2hunter2", "\x1b", "\x00", "\u202e", "\\u001b", "\\u0000"):
        assert harmful not in line
    assert "ValueError: login" in line


def test_a_refusal_names_gate_figure_and_threshold_and_is_told_once(house: House, repository: Any) -> None:
    house.promote(house.version(MODEL, "one"))
    house.tick(repository)
    house.version(MODEL, "two", beats_champion=False)
    house.tick(repository)
    house.cursor = NO_LOOK
    sensor._known.clear()
    house.tick(repository)
    (alert,) = house.alerts("gate")
    assert alert.found == "beats_champion: figure 0.0123, threshold 0.01 (as measured)"
    assert (alert.severity, alert.state) == ("info", "told")
    assert [each.title for each in house.alerts("promotion")] == [
        f"{MODEL}: version 1 was promoted, as the first champion"
    ]
    assert len(house.lines()) == 2


def test_a_rollback_pages_once_and_a_retirement_is_told_for_information(house: House, repository: Any) -> None:
    for name in ("one", "two"):
        house.promote(house.version(MODEL, name))
    three = house.version(MODEL, "three")
    house.ledger.retire(
        MODEL, three.version, champion_version=2, who="the graph", reason="not better", evidence={"weeks": 6}
    )
    rollback(house.ledger, MODEL, who="grace", reason="it misbehaves", read_digest=lambda each: each.bundle_digest)
    house.tick(repository)
    house.tick(repository)
    (alert,) = house.alerts("rollback")
    assert (alert.severity, alert.title) == ("page", f"{MODEL}: version 1 is back, from version 2")
    assert "by grace: it misbehaves" in alert.found
    assert [each.severity for each in house.alerts("promotion")] == ["info"] * 3
    assert len(house.lines()) == 4


def test_a_promise_that_breaks_and_is_caught_up_opens_and_resolves_one_alert(house: House, repository: Any) -> None:
    house.loaded("transactions", MONDAY - DAY)
    house.tick(repository)
    assert house.alerts() == []
    house.clock.move_to(MONDAY + 5 * DAY)
    house.tick(repository)
    broken = house.alerts("freshness", "open")
    assert broken and {each.asset for each in broken} == {"raw/transactions"}
    assert all(each.since < each.opened_at for each in broken)
    house.loaded("transactions", MONDAY + 4 * DAY)
    house.tick(repository)
    assert house.alerts("freshness", "open") == []
    assert len(house.lines()) == 2 * len(broken)


def test_a_source_that_cannot_be_read_is_told_and_silences_no_other(house: House, repository: Any) -> None:
    Path(house.settings.ledger_url.removeprefix("sqlite:///")).write_bytes(b"this is no database" * 100)
    WORLD["passes"] = False
    make(house, repository)
    said = house.tick(repository)
    unreadable = {each.key: each for each in house.alerts("sensor")}
    assert set(unreadable) == {"held", "ledger"}
    assert "not observed: held, ledger" in said
    assert "file is not a database" in unreadable["held"].found
    assert len(house.alerts("check", "open")) == 1, "the others go on"
    os.remove(house.settings.ledger_url.removeprefix("sqlite:///"))
    house.tick(repository)
    assert house.alerts("sensor", "open") == []


def test_what_was_open_of_an_unreadable_source_stays_open(
    house: House, repository: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    WORLD["passes"] = False
    make(house, repository)
    house.tick(repository)

    def locked(*_: Any) -> Any:
        raise OSError("database is locked")

    monkeypatch.setattr(sensor, "failed_checks", locked)
    house.tick(repository)
    assert [each.kind for each in house.alerts(state="open")] == ["check", "sensor"]
    assert "OSError: database is locked" in house.alerts("sensor")[0].found


@pytest.mark.parametrize(
    "cursor",
    ["{", "[]", "7", '{"format_version": 0, "aliases": {}}', '{"format_version": 1}', '"x"',
     '{"format_version": 1, "aliases": {"m": {"entries": 1}}}',
     '{"format_version": 1, "aliases": {}, "ticked_at": "x"}',
     '{"format_version": 1, "aliases": {}, "ticks_to_look": "soon"}'],
)  # fmt: skip
def test_a_cursor_that_is_torn_or_old_is_begun_anew_with_a_clear_word(
    house: House, repository: Any, cursor: str, capfd: pytest.CaptureFixture[str]
) -> None:
    house.cursor = cursor
    house.tick(repository)
    assert house.cursor is not None and Memory.read(house.cursor).ticked_at
    assert "the cursor of the sensor alerts" in capfd.readouterr().err


def test_thousands_of_late_assets_at_once_are_one_digest(
    house: House, repository: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = [
        Condition(f"a{number}", "freshness", "ticket", "team:shops", f"raw/a{number}", "late", "48 h", "50 h", NOW)
        for number in range(3000)
    ]
    monkeypatch.setattr(sensor, "stale_assets", lambda *_: late)
    house.tick(repository)
    house.tick(repository)
    (digest,) = house.lines()
    assert digest["event"] == "digest" and digest["counts"] == {"opened ticket freshness": 3000}


def test_what_dagster_calls_stale_is_a_ticket_until_it_is_fresh_again(house: House) -> None:
    policy = dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=48))
    spec = dg.AssetSpec("shelf", freshness_policy=policy, owners=["team:shops"])
    repository = dg.Definitions(assets=[spec]).get_repository_def()
    said = {"key": spec.key, "state_change_timestamp": NOW.timestamp()}
    fail, good = FreshnessState.FAIL, FreshnessState.PASS
    house.instance.report_runless_asset_event(FreshnessStateChange(**said, new_state=fail, previous_state=good))
    house.tick(repository)
    (alert,) = house.alerts("freshness")
    assert (alert.severity, alert.promised) == ("ticket", "materialised within 2 days, 0:00:00")
    house.instance.report_runless_asset_event(FreshnessStateChange(**said, new_state=good, previous_state=fail))
    house.tick(repository)
    assert house.alerts("freshness", "open") == []


def test_a_sensor_that_fails_and_one_that_is_silent_are_told_but_not_by_who_slept(house: House) -> None:
    @dg.sensor(target="*", default_status=dg.DefaultSensorStatus.RUNNING, minimum_interval_seconds=30)
    def quiet() -> None: ...

    repository = dg.Definitions(assets=[shelf], sensors=[quiet, sensor.alerts]).get_repository_def()
    now = datetime.now(UTC)
    for minutes, silent in ((0, False), (3, False), (6, True)):
        found = failing_sensors(house.instance, repository, "alerts", now + timedelta(minutes=minutes), now)
        assert [each.key for each in found] == (["quiet is silent"] if silent else [])
    memory = awake(Memory(), now)
    assert awake(memory, now + timedelta(seconds=60)).awake_since == now.isoformat()
    slept = awake(memory, now + timedelta(hours=6))
    assert slept.awake_since == slept.ticked_at, "hours of downtime are not the others' silence"


def test_a_training_that_is_held_back_says_what_holds_it(house: House) -> None:
    spec = MODELS[MODEL]
    held = {
        "nothing to learn: labels of 0 Mondays": "info",
        "version 2 is on trial": "info",
        "a data bug, not drift: x": "ticket",
    }
    for why, severity in held.items():
        wants = Training(MONDAY, "drift", "score PSI 0.4", why)
        (condition,) = held_trainings([(MODEL, spec.owner, wants)], MONDAY)
        assert (condition.kind, condition.severity, condition.found) == ("drift", severity, why)
        assert condition.key == f"{MODEL} drift"
    late = Training(MONDAY, "decay", "below promise", f"inputs are stale: the Monday {MONDAY} was not measured yet")
    assert held_trainings([(MODEL, spec.owner, late)], MONDAY) == [], "on the Monday itself it is not late yet"
    (condition,) = held_trainings([(MODEL, spec.owner, late)], MONDAY + DAY)
    assert (condition.kind, condition.severity) == ("performance", "ticket")


@pytest.mark.parametrize(
    "point",
    ["alerts.observing", "alerts.observed", "alerts.telling", "alerts.sent", "alerts.delivered", "slo.recording"],
)
def test_killed_anywhere_and_started_again_each_is_delivered_once(house: House, repository: Any, point: str) -> None:
    WORLD["passes"] = False
    make(house, repository)
    house.promote(house.version(MODEL, "one"))
    house.loaded("transactions", MONDAY - 30 * DAY)
    killed = start_process(house.tick, repository, kill_at=point)
    assert exit_code(killed) == SIGKILLED
    house.tick(repository)
    told = sorted(title for _, title in house.told())
    assert told == sorted(
        [
            "raw/transactions breaks its promise (landed)",
            "raw/transactions breaks its promise (newest_event)",
            "shelf fails its check rows",
            f"{MODEL}: version 1 was promoted, as the first champion",
        ]
    )


class Mlflow:
    """Stands for MLflow's registry: an alias that a person may move, and what mirrors the ledger."""

    def __init__(self) -> None:
        self.at: str | None = None
        self.down = False

    def open(self) -> "Mlflow":
        return self

    def alias(self, model: str) -> str | None:
        if self.down:
            raise TrackingUnavailable("MLflow failed", where="here", next_step="start it")
        return self.at

    def project(self, book: Ledger, model: str) -> Projection:
        before, champion = self.at, book.champion(model)
        self.at = str(champion.version) if champion else None
        return Projection((), before, self.at)


def test_an_alias_moved_by_hand_is_told_put_back_and_told_again_the_next_time(house: House) -> None:
    mlflow, told, memory = Mlflow(), [], Memory()
    house.promote(house.version(MODEL, "one"))

    def look(crash: bool = False) -> list[str]:
        nonlocal memory
        said = list(look_at_aliases(house.ledger, MODELS, mlflow, replace(memory, ticks_to_look=0), NOW))  # type: ignore[arg-type]
        if not crash:
            memory = next(each for each in said if isinstance(each, Memory))
        keys = [each.key for each in said if isinstance(each, Condition)]
        told.extend(keys)
        return keys

    assert look() == [] and mlflow.at == "1"
    assert memory.ticks_to_look == 59 and look() == []
    mlflow.at = "7"
    first = look(crash=True)
    mlflow.at = "7"
    assert look() == first and mlflow.at == "1", "after a crash it has the same key"
    mlflow.at = "7"
    assert look() not in ([], first)
    house.promote(house.version(MODEL, "two"))
    assert look() == [] and mlflow.at == "2", "an alias behind the ledger is nobody's doing"
    mlflow.at = None
    assert len(look()) == 1 and mlflow.at == "2"
    mlflow.down = True
    assert look() == [] and "TrackingUnavailable" in memory.trouble
    mlflow.down = False
    assert look() == [] and memory.trouble == ""


def test_a_tick_imports_no_mlflow_unless_a_look_is_due(house: House) -> None:
    class Never:
        def open(self) -> Any:
            raise AssertionError("MLflow was opened")

    house.promote(house.version(MODEL, "one"))
    memory = Memory(ticks_to_look=2)
    for left in (1, 0):
        (memory,) = look_at_aliases(house.ledger, MODELS, Never(), memory, NOW)  # type: ignore[arg-type,assignment]
        assert memory.ticks_to_look == left and memory.trouble == ""


def test_the_real_graph_has_what_is_said_of_its_models_and_a_quiet_home_has_no_alert(house: House) -> None:
    from ml_platform.definitions import defs

    repository = defs.get_repository_def()
    assert set(JUDGED) <= set(repository.asset_graph.asset_check_keys)
    assert house.tick(repository) == "0 opened, 0 resolved, 0 told; 0 sent, 0 wait"


def test_a_monday_measured_since_the_last_tick_is_seen_by_the_next(house: House, repository: Any) -> None:
    """What a tick remembers of an unchanged record is forgotten when the record changes."""
    house.promote(house.version(MODEL, "one", MONDAY - 7 * DAY))
    house.tick(repository)
    assert house.alerts("drift") == []
    table = PartitionedTable(house.settings.lake / "drift", MODEL)
    for verdict, held in (("drifted", "nothing to learn"), ("data_bug", None), ("drifted", "nothing to learn")):
        record = {"as_of": MONDAY, "verdict": verdict, "cause": "score PSI 0.4", "version": 1, "figures": {}}
        stated = {"record": json.dumps(record, default=str)}
        table.publish(table.stage(MONDAY.isoformat(), pl.DataFrame({"x": [1]}), stated))
        house.tick(repository)
        assert [each.found.split(":")[0] for each in house.alerts("drift", "open")] == ([held] if held else [])
