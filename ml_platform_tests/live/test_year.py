"""The platform on its own through a campaign wave: the sensors decide, and every rule holds, whatever the dates.

A slice of households is too small for every gate, so a person lets the first version past them, as people do.
"""

from datetime import date
from itertools import pairwise
from pathlib import Path

import pytest

from assets.models import MODELS
from ml_platform.calendar import DAY, WEEK
from ml_platform.lake import PartitionedTable
from ml_platform.monitoring.weekly import drift_records
from ml_platform.registry.ledger import Ledger
from ml_platform_tests.live.conftest import live, mlp, told

BEFORE_WAVE, WAVE = date(2017, 8, 7), date(2017, 8, 14)
MODEL, CALM_MODEL = "coupon_redemption", "category_replenishment"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """From the first landed file to the wave of August, with a champion since the Monday before it."""
    folder = tmp_path_factory.mktemp("year")
    steps = (
        ("--from", BEFORE_WAVE.isoformat(), "--until", (BEFORE_WAVE - DAY).isoformat()),
        ("--until", (WAVE - DAY).isoformat()),
    )
    first = live(folder, *steps[0])
    assert first.returncode == 0, first.stdout + first.stderr
    ledger = Ledger(f"sqlite:///{folder / 'ledger.db'}")
    if ledger.champion(MODEL) is None:
        verdict = ledger.verdict(MODEL, 1)
        assert verdict is not None
        failed = [part for gate, ok in verdict.gates.items() if not ok for part in ("--waive", gate)]
        person = ("--reason", "a slice of households is too small", "--who", "a tester", "--until", "2018-12-31")
        promoted = mlp(folder, "promote", MODEL, "1", *failed, *person)
        assert promoted.returncode == 0, promoted.stdout + promoted.stderr
    second = live(folder, *steps[1])
    assert second.returncode == 0, second.stdout + second.stderr
    return folder


def test_a_wave_that_training_had_not_seen_is_drift_and_the_quiet_week_before_is_not(home: Path) -> None:
    verdicts = {record.as_of: record.verdict for record in drift_records(PartitionedTable(home / "lake/drift", MODEL))}
    assert verdicts[BEFORE_WAVE] == "calm"
    assert verdicts[WAVE] == "drifted"


def test_nothing_is_trained_without_a_cause_and_newer_matured_labels(home: Path) -> None:
    trained = [each for each in told(home, "story") if each["event"] == "trained"]
    assert trained
    for name, spec in MODELS.items():
        cutoffs = [date.fromisoformat(each["as_of"]) for each in trained if each["model"] == name]
        assert cutoffs == sorted(cutoffs)
        for earlier, later in pairwise(cutoffs):
            assert later - earlier >= spec.retraining.new_mondays * WEEK
    assert all(each["cause"].split(":")[0] in ("first", "drift", "decay", "age") for each in trained)


def test_nothing_but_a_first_model_is_promoted_without_its_trial_or_a_person(home: Path) -> None:
    ledger = Ledger(f"sqlite:///{home / 'ledger.db'}")
    for name in MODELS:
        for entry in ledger.history(name)[1:]:
            assert entry.who != "the graph" or entry.reason.startswith("better in shadow")


def test_the_other_model_and_household_features_stay_calm(home: Path) -> None:
    records = drift_records(PartitionedTable(home / "lake" / "drift", CALM_MODEL))
    assert all(record.verdict != "drifted" for record in records)


def test_the_story_is_in_the_order_of_days_and_names_its_causes(home: Path) -> None:
    story = told(home, "story")
    assert [each["as_of"] for each in story] == sorted(each["as_of"] for each in story)
    assert all(each["cause"] and set(each) == {"as_of", "model", "event", "cause", "figures"} for each in story)
    assert any((each["model"], each["event"]) == (MODEL, "drifted") for each in story)


def test_the_replay_goes_on_where_it_stopped_and_finds_nothing_left_to_do(home: Path) -> None:
    before = told(home, "story")
    again = live(home, "--until", (WAVE - DAY).isoformat())
    assert again.returncode == 0, again.stdout + again.stderr
    assert told(home, "story") == before
