"""What the other sensors ask for, tick by tick, and the decisions they carry out."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import numpy as np
import polars as pl
import pytest

from assets.automation import when_inputs_are_new
from assets.models import MODELS
from assets.partitions import AS_OF_MONDAYS, LANDING_DAYS, WEEK_BEFORE
from ml_platform.calendar import DAY, WEEK
from ml_platform.definitions import defs
from ml_platform.lake import PartitionedTable
from ml_platform.landing.tables import RAW_TABLES
from ml_platform.monitoring import succession
from ml_platform.monitoring.retraining import Training, decide_training
from ml_platform.monitoring.succession import Succession, decide_succession
from ml_platform.monitoring.weekly import DriftRecord, PerformanceRecord, publish_performance
from ml_platform.registry.records import ModelVersion
from ml_platform.training.spec import Label, Retraining, TemporalSplit, Trial
from ml_platform_tests.evaluation.conftest import a_spec
from ml_platform_tests.sensors.conftest import MONDAY, NOW, House
from sensors import landing, promotion, retraining
from sensors.common import MOST_ATTEMPTS, REACTION, request
from sensors.landing import DAYS

MODEL = next(iter(MODELS))
SPEC = replace(
    a_spec(),
    name=MODEL,
    label=Label(Path("toy.sql"), horizon_days=28, lateness_days=7),
    split=TemporalSplit(date(2017, 1, 30), None),
    retraining=Retraining(),
    trial=Trial(min_weeks=2, min_positives=50, max_weeks=4),
)
FIRST_DAY = date.fromisoformat(LANDING_DAYS.get_first_partition_key() or "")


def lands(house: House, last: date) -> None:
    """Every table has a delivery for each day through `last`."""
    day = FIRST_DAY
    while day <= last:
        for table in RAW_TABLES.values():
            place = house.settings.landing / table.name / day.isoformat()
            place.mkdir(parents=True, exist_ok=True)
            (place / "manifest.json").touch()
        day += DAY


def look(house: House, sensor: dg.SensorDefinition, repository: Any) -> Any:
    """One tick, as the daemon evaluates it: a request and a word why there is none exclude each other."""
    with house.context(repository, sensor) as context:
        return sensor.evaluate_tick(context)


def requests(said: Any) -> list[dg.RunRequest]:
    return list(said.run_requests)


def reasons(said: Any) -> str:
    return said.skip_message or ""


@pytest.fixture(scope="module")
def repository() -> Any:
    return defs.get_repository_def()


def run_of(house: House, request: dg.RunRequest, status: dg.DagsterRunStatus) -> dg.DagsterRun:
    """What the daemon makes of a request, in some state."""
    run = dg.DagsterRun(job_name="__ASSET_JOB", status=status, tags=dict(request.tags or {}))
    return house.instance.add_run(run)


def test_all_days_that_landed_while_nobody_looked_are_one_run(house: House, repository: Any) -> None:
    assert "nothing has landed yet" in reasons(look(house, landing, repository))
    last = FIRST_DAY + 9 * DAY
    lands(house, last)
    (asked,) = requests(look(house, landing, repository))
    (again,) = requests(look(house, landing, repository))
    assert asked.run_key == again.run_key, "the same state asks for the same run, which Dagster starts once"
    assert asked.tags["dagster/asset_partition_range_start"] == FIRST_DAY.isoformat()
    assert asked.tags["dagster/asset_partition_range_end"] == last.isoformat()
    *loaded, unbuilt = (asset for asset in sorted(DAYS.resolve(repository.asset_graph)))
    for key in loaded:
        has(house, key, 10)
    has(house, unbuilt, 9)
    (asked,) = requests(look(house, landing, repository))
    assert asked.tags["dagster/asset_partition_range_start"] == last.isoformat(), "a day that was loaded and not built"
    has(house, unbuilt, 10)
    assert f"all is built through {last}" in reasons(look(house, landing, repository))


def has(house: House, key: dg.AssetKey, days: int) -> None:
    for number in range(days):
        day = (FIRST_DAY + number * DAY).isoformat()
        house.instance.report_runless_asset_event(dg.AssetMaterialization(key, partition=day))


def test_nothing_is_asked_for_while_a_run_is_under_way_and_a_failure_is_tried_three_times(
    house: House, repository: Any
) -> None:
    lands(house, FIRST_DAY)
    (asked,) = requests(look(house, landing, repository))
    run = run_of(house, asked, dg.DagsterRunStatus.STARTED)
    assert "is under way" in reasons(look(house, landing, repository))
    keys = {asked.run_key}
    for attempt in (2, 3):
        house.instance.report_run_failed(run)
        (asked,) = requests(look(house, landing, repository))
        assert asked.run_key not in keys and str(asked.run_key).endswith(f"attempt {attempt}")
        keys.add(asked.run_key)
        run = run_of(house, asked, dg.DagsterRunStatus.STARTED)
    house.instance.report_run_failed(run)
    assert "failed 3 times" in reasons(look(house, landing, repository))
    lands(house, FIRST_DAY + DAY)
    (asked,) = requests(look(house, landing, repository))
    assert asked.tags[REACTION] == f"land {FIRST_DAY}..{FIRST_DAY + DAY}", "the next day is another state"


def test_a_run_that_has_not_started_yet_is_neither_asked_for_again_nor_counted_as_failed(house: House) -> None:
    asked = request(house.instance, "train", [dg.AssetKey("any")], cause="drift")
    assert isinstance(asked, dg.RunRequest)
    for _ in range(MOST_ATTEMPTS):
        run_of(house, asked, dg.DagsterRunStatus.NOT_STARTED)
    assert isinstance(again := request(house.instance, "train", [dg.AssetKey("any")], cause="drift"), dg.SkipReason)
    assert again.skip_message == "train is under way"


def test_days_that_land_while_earlier_ones_are_being_loaded_wait_for_those(house: House, repository: Any) -> None:
    lands(house, FIRST_DAY)
    (asked,) = requests(look(house, landing, repository))
    run = run_of(house, asked, dg.DagsterRunStatus.NOT_STARTED)
    lands(house, FIRST_DAY + DAY)
    assert "a load is under way" in reasons(look(house, landing, repository))
    house.instance.report_run_failed(run)
    (asked,) = requests(look(house, landing, repository))
    assert asked.tags[REACTION] == f"land {FIRST_DAY}..{FIRST_DAY + DAY}"


def version(number: int, cutoff: date) -> ModelVersion:
    stated: dict[str, Any] = dict.fromkeys(("bundle_digest", "bundle_uri", "training_set_digest", "spec_digest"), "x")
    return ModelVersion(
        model=MODEL, version=number, cutoff=cutoff, run_id="run", tracking_run_id=None, registered_at=NOW, **stated
    )


def drift(as_of: date, verdict: Any = "drifted", of: int = 1) -> DriftRecord:
    return DriftRecord(as_of, verdict, f"{verdict} on {as_of}", of, {})


def broke(judged_on: date, champion: int = 1, *breached: str) -> PerformanceRecord:
    return PerformanceRecord(judged_on, judged_on - 5 * WEEK, champion, None, 100, 50, breached, {})


def decided(
    today: date = MONDAY,
    versions: tuple[ModelVersion, ...] = (version(1, MONDAY - 12 * WEEK),),
    champion: ModelVersion | None = version(1, MONDAY - 12 * WEEK),
    rival: ModelVersion | None = None,
    drifts: tuple[DriftRecord, ...] = (drift(MONDAY),),
    performance: tuple[PerformanceRecord, ...] = (),
    **policy: Any,
) -> Training:
    spec = replace(SPEC, retraining=replace(SPEC.retraining, **policy))
    return decide_training(spec, today, versions, champion, rival, drifts, performance)


def test_a_first_model_is_trained_once_enough_mondays_have_matured_and_again_only_after_a_pause() -> None:
    early = decided(date(2017, 5, 1), (), None)
    assert early.cause is None
    first = decided(versions=(), champion=None)
    assert (first.cause, first.due, first.cutoff) == ("first", True, MONDAY)
    refused = decided(versions=(version(1, MONDAY - WEEK),), champion=None)
    assert refused.cause == "first" and refused.held and "cooldown" in refused.held


def test_drift_trains_only_once_labels_have_matured_since_the_last_training() -> None:
    assert decided().due and decided().cause == "drift"
    young = version(1, MONDAY - WEEK)
    held = decided(versions=(young,), champion=young)
    assert held.cause == "drift" and held.held
    assert held.held.startswith("nothing to learn: labels of 1 Mondays have matured")


@pytest.mark.parametrize("verdict", ["data_bug", "empty"])
def test_a_data_bug_or_a_monday_not_yet_measured_holds_a_training_back(verdict: str) -> None:
    ill = (broke(MONDAY - WEEK, 1, "log loss"), broke(MONDAY, 1, "log loss"))
    held = decided(drifts=(drift(MONDAY, verdict),), performance=ill)
    assert held.cause == "decay" and held.held and held.held.startswith("a data bug, not drift")
    stale = decided(drifts=(drift(MONDAY - WEEK),))
    assert stale.cause == "drift" and stale.held and stale.held.startswith("inputs are stale")


def test_drift_that_was_answered_counts_again_after_calm_weeks_or_for_a_new_champion() -> None:
    old, answer = version(1, MONDAY - 20 * WEEK), version(2, MONDAY - 6 * WEEK)
    versions, then = (old, answer), MONDAY - 6 * WEEK
    still = (drift(then), drift(MONDAY))
    assert decided(versions=versions, champion=old, drifts=still).cause is None
    one_calm = (drift(then), drift(MONDAY - WEEK, "calm"), drift(MONDAY))
    assert decided(versions=versions, champion=old, drifts=one_calm).cause is None
    calm = (drift(then), drift(MONDAY - 2 * WEEK, "calm"), drift(MONDAY - WEEK, "calm"), drift(MONDAY))
    assert decided(versions=versions, champion=old, drifts=calm).due
    new_champion = (drift(then), drift(MONDAY, of=2))
    assert decided(versions=versions, champion=answer, drifts=new_champion).due


def test_cooldown_and_the_weeks_budget_hold_back_and_age_is_a_reason() -> None:
    old, recent = version(1, MONDAY - 12 * WEEK), version(2, MONDAY - 3 * WEEK)
    held = decided(versions=(old, recent), champion=old, cooldown_days=28).held
    assert held and "the cooldown is 28 days" in held
    today = version(2, MONDAY)
    held = decided(versions=(old, today), champion=old, cooldown_days=0, new_mondays=0).held
    assert held and "budget of 1" in held
    assert decided(drifts=(drift(MONDAY, "calm"),), max_age_days=83).cause == "age"
    assert decided(drifts=(drift(MONDAY, "calm"),), max_age_days=84).cause is None


def test_a_version_on_trial_holds_back_and_a_day_asked_twice_answers_the_same() -> None:
    held = decided(rival=version(2, MONDAY - 6 * WEEK))
    assert held.held == f"version 2 is on trial since {MONDAY - 6 * WEEK}"
    for day in (MONDAY, MONDAY + 3 * DAY, MONDAY + 6 * DAY):
        assert decided(day) == decided(day) == decided(MONDAY), "any day of the week speaks of its Monday"


def test_the_sensor_asks_for_the_training_of_its_monday_once_features_are_there(
    house: House, repository: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    due = Training(MONDAY, "drift", "score PSI 0.4")
    monkeypatch.setattr(import_module("sensors.retraining"), "training_of", lambda *_: due)
    assert "waiting for the features" in reasons(look(house, retraining, repository))
    for spec in MODELS.values():
        for table in spec.reads:
            place = PartitionedTable(house.settings.lake / "features", table)
            place.publish(place.stage(MONDAY.isoformat(), pl.DataFrame({"x": [1]})))
    asked = requests(look(house, retraining, repository))
    assert [each.partition_key for each in asked] == [MONDAY.isoformat()] * len(MODELS)
    assert all(each.tags["ml_platform/cause"] == "drift: score PSI 0.4" for each in asked)
    run_of(house, asked[0], dg.DagsterRunStatus.SUCCESS)
    assert len(requests(look(house, retraining, repository))) == len(MODELS) - 1, "what was done is not asked again"


def weeks(house: House, count: int, noise: dict[str, float], breached: tuple[str, ...] = ()) -> PartitionedTable:
    """Matured Mondays on which each role (`champion` is version 1 or the newest, `challenger` the next) predicted with
    so much noise."""
    table, book = PartitionedTable(house.settings.lake / "performance", MODEL), house.ledger
    champion = book.champion(MODEL)
    assert champion is not None
    numbers = {"champion": champion.version, "challenger": len(book.versions(MODEL))}
    for week in range(count):
        random, judged_on = np.random.default_rng(week), MONDAY + week * WEEK
        truth = random.uniform(0.05, 0.6, 600)
        label = (random.random(600) < truth).astype(np.int8)
        rows = [
            pl.DataFrame(
                {
                    "household_id": np.arange(600),
                    "as_of": judged_on - 5 * WEEK,
                    "role": role,
                    "model_version": numbers[role],
                    "score": np.clip(truth + random.normal(0, off, 600), 0.01, 0.99),
                    "label": label,
                },
                schema_overrides={"model_version": pl.Int64},
            )
            for role, off in noise.items()
        ]
        rival = numbers["challenger"] if "challenger" in noise else None
        record = PerformanceRecord(
            judged_on, judged_on - 5 * WEEK, champion.version, rival, 600, int(label.sum()), breached, {}
        )
        publish_performance(table, pl.concat(rows), record)
    return table


def succeeded(house: House, table: PartitionedTable) -> Succession:
    spec = replace(MODELS[MODEL], trial=SPEC.trial, entity=("household_id",), cluster="household_id")
    return decide_succession(spec, house.ledger, table, None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("count", "champion", "challenger", "act"),
    [(1, 0.3, 0.0, "wait"), (3, 0.3, 0.0, "promote"), (3, 0.0, 0.3, "retire"), (4, 0.02, 0.02, "retire")],
)
def test_a_trial_waits_until_it_has_seen_enough_then_promotes_or_retires(
    house: House, count: int, champion: float, challenger: float, act: str
) -> None:
    house.promote(house.version(MODEL, "one", MONDAY - 20 * WEEK))
    house.version(MODEL, "two", MONDAY - 10 * WEEK)
    table = weeks(house, count, {"champion": champion, "challenger": challenger})
    found = succeeded(house, table)
    assert (found.act, found.version) == (act, 2), found.reason
    assert succeeded(house, table) == found, "the same record gives the same answer"
    json.dumps(dict(found.evidence))


def test_a_first_model_is_promoted_on_its_verdict_and_without_a_rival_nothing_happens(house: House) -> None:
    table = PartitionedTable(house.settings.lake / "performance", MODEL)
    assert succeeded(house, table).act == "none"
    one = house.version(MODEL, "one")
    assert (succeeded(house, table).act, succeeded(house, table).version) == ("promote", 1)
    house.promote(one)
    assert succeeded(house, table).act == "none"


@pytest.mark.parametrize(("former", "act"), [(0.0, "rollback"), (0.5, "none")])
def test_a_champion_below_promise_gives_way_only_to_a_former_one_that_was_better(
    house: House, monkeypatch: pytest.MonkeyPatch, former: float, act: str
) -> None:
    """The former champion's bundle is played here: what it would have said is made by hand."""
    for name, cutoff in (("one", MONDAY - 20 * WEEK), ("two", MONDAY - 10 * WEEK)):
        house.promote(house.version(MODEL, name, cutoff))
    table = weeks(house, 4, {"champion": 0.3}, breached=("log loss above its promise",))

    def as_if(_: Any, version: ModelVersion, served: pl.DataFrame, __: Any) -> pl.DataFrame:
        random = np.random.default_rng(9)
        near = np.clip(served["label"] * 0.4 + 0.15 + random.normal(0, former, served.height), 0.01, 0.99)
        return served.with_columns(
            pl.Series("score", near), pl.lit(version.version, dtype=pl.Int64).alias("model_version")
        )

    monkeypatch.setattr(succession, "_as_if", as_if)
    found = succeeded(house, table)
    assert found.act == act, found.reason
    if act == "rollback":
        assert found.version == 1 and "below promise" in found.reason


def test_one_decision_is_asked_for_each_state_of_the_record(house: House, repository: Any) -> None:
    assert requests(look(house, promotion, repository)) == []
    one = house.version(MODEL, "one")
    (asked,) = requests(look(house, promotion, repository))
    assert requests(look(house, promotion, repository))[0].run_key == asked.run_key
    run_of(house, asked, dg.DagsterRunStatus.SUCCESS)
    assert requests(look(house, promotion, repository)) == [], "the same state is not decided twice"
    house.promote(one)
    (after,) = requests(look(house, promotion, repository))
    assert after.run_key != asked.run_key


@pytest.fixture(scope="module")
def weekly_graph() -> dg.Definitions:
    """Landed days → a feature of Mondays → predictions, that a champion makes: with the real condition."""

    @dg.asset(partitions_def=LANDING_DAYS)
    def landed() -> None: ...

    @dg.asset
    def champion() -> None: ...

    @dg.asset(
        partitions_def=AS_OF_MONDAYS,
        deps=[dg.AssetDep(landed, partition_mapping=WEEK_BEFORE)],
        automation_condition=when_inputs_are_new(),
    )
    def feature() -> None: ...

    ignored = dg.AssetSelection.assets("champion")
    condition = when_inputs_are_new(ignore=ignored)

    @dg.asset(partitions_def=AS_OF_MONDAYS, deps=[feature, champion], automation_condition=condition)
    def predictions() -> None: ...

    return dg.Definitions(assets=[landed, champion, feature, predictions])


@pytest.fixture
def evaluated(house: House, weekly_graph: dg.Definitions) -> Callable[[], dict[str, set[str]]]:
    """One evaluation of the automation sensor: what it requests, which is then made."""
    memory = SimpleNamespace(cursor=None)

    def evaluate() -> dict[str, set[str]]:
        found = dg.evaluate_automation_conditions(weekly_graph, house.instance, cursor=memory.cursor)
        memory.cursor = found.cursor
        asked = {
            name: {key for key in found.get_requested_partitions(dg.AssetKey(name)) if key}
            for name in ("feature", "predictions")
        }
        for name, partitions in asked.items():
            for partition in partitions:
                made(house, name, partition)
        return {name: partitions for name, partitions in asked.items() if partitions}

    return evaluate


def made(house: House, name: str, partition: str | None = None) -> None:
    house.instance.report_runless_asset_event(dg.AssetMaterialization(name, partition=partition))


def test_a_monday_is_made_once_when_all_its_days_are_in_and_a_new_champion_remakes_no_old_one(
    house: House, evaluated: Callable[[], dict[str, set[str]]]
) -> None:
    monday = date.fromisoformat(AS_OF_MONDAYS.get_partition_keys()[4])
    made(house, "champion")
    assert evaluated() == {}
    for number in range(7, 1, -1):
        made(house, "landed", (monday - number * DAY).isoformat())
        assert evaluated() == {}, "six days are no week"
    made(house, "landed", (monday - DAY).isoformat())
    asked = [evaluated() for _ in range(4)]
    for name in ("feature", "predictions"):
        assert [each[name] for each in asked if name in each] == [{monday.isoformat()}], f"{name} is made once"
    made(house, "champion")
    assert [evaluated() for _ in range(3)] == [{}, {}, {}]
    made(house, "landed", (monday - 3 * DAY).isoformat())
    again = {monday.isoformat()}
    assert evaluated() == {"feature": again, "predictions": again}, "a day loaded again is news"
