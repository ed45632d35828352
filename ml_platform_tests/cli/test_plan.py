"""Which runs are due, from small states."""

from datetime import date

import pytest

from ml_platform.calendar import NotADay
from ml_platform.cli.plan import AssetState, NothingToRun, PlannedRun, plan_runs

LANDED = date(2017, 2, 5)  # a Sunday: the Mondays 2017-01-30 and 2017-02-06 are ready
DAYS_LANDED = 37


def graph(**made: set[str]) -> list[AssetState]:
    """raw → features → training set → candidate → champion → predictions."""
    return [
        AssetState("raw/t", "daily", made.get("raw", set())),
        AssetState("features/f", "weekly", made.get("features", set()), {"raw/t"}),
        AssetState("models/m/training_set", "weekly", made.get("training_set", set()), {"features/f"}),
        AssetState("models/m/candidate", "weekly", made.get("candidate", set()), {"models/m/training_set"}),
        AssetState("models/m/champion", "none", made.get("champion", set()), {"models/m/candidate"}),
        AssetState("predictions/m", "weekly", made.get("predictions", set()), {"models/m/champion", "features/f"}),
    ]


def every_day() -> set[str]:
    return {f"2017-01-{day:02}" for day in range(1, 32)} | {f"2017-02-{day:02}" for day in range(1, 6)} | {"2016-12-31"}


def by_name(runs: list[PlannedRun]) -> dict[str, PlannedRun]:
    return {run.name: run for run in runs}


def test_the_first_plan_is_every_landed_day_then_every_ready_monday_then_the_newest_monday() -> None:
    days, features, models = plan_runs(graph(), LANDED)
    assert (days.first, days.last, days.assets) == ("2016-12-31", "2017-02-05", ("raw/t",))
    assert (features.first, features.last, features.assets) == ("2017-01-30", "2017-02-06", ("features/f",))
    assert (models.first, models.last, len(models.assets)) == ("2017-02-06", "2017-02-06", 4)


def test_a_monday_is_not_ready_before_the_sunday_has_landed() -> None:
    runs = by_name(plan_runs(graph(), date(2017, 2, 4)))
    assert runs["features"].last == "2017-01-30"
    assert runs["models"].last == "2017-01-30"


def test_only_what_is_missing_runs_from_the_first_hole_to_the_end() -> None:
    made = every_day() - {"2017-01-20", "2017-02-03"}
    runs = by_name(plan_runs(graph(raw=made, features={"2017-01-30"}), LANDED))
    assert (runs["days"].first, runs["days"].last) == ("2017-01-20", "2017-02-05")
    assert runs["days"].why == f"2 of {DAYS_LANDED} missing"
    assert (runs["features"].first, runs["features"].last) == ("2017-02-06", "2017-02-06")


def test_what_has_every_day_is_not_run_again_for_what_reads_it() -> None:
    states = [AssetState("raw/t", "daily", every_day()), AssetState("marts/m", "daily", set(), {"raw/t"})]
    states += [AssetState("marts/n", "daily", every_day(), {"marts/m"})]
    (run,) = plan_runs(states, LANDED)
    assert run.assets == ("marts/m", "marts/n")


def test_nothing_is_due_when_everything_is_made() -> None:
    monday = {"2017-02-06"}
    made = {"training_set": monday, "candidate": monday, "champion": {"made"}, "predictions": monday}
    runs = plan_runs(graph(raw=every_day(), features={"2017-01-30", *monday}, **made), LANDED)
    assert [run.due for run in runs] == [False, False, False]
    assert all("up to date" in run.why for run in runs)


def test_force_runs_what_is_made() -> None:
    assert plan_runs(graph(raw=every_day())[:1], LANDED, force=True)[0].first == "2016-12-31"


def test_a_life_cycle_that_was_cut_off_goes_on_where_it_stopped() -> None:
    runs = by_name(plan_runs(graph(training_set={"2017-02-06"}), LANDED))
    assert runs["models"].assets == ("models/m/candidate", "models/m/champion", "predictions/m")


def test_missing_predictions_ask_the_champion_to_decide_first() -> None:
    monday = {"2017-02-06"}
    runs = by_name(plan_runs(graph(training_set=monday, candidate=monday), LANDED))
    assert runs["models"].assets == ("models/m/champion", "predictions/m")


def test_an_older_monday_of_the_life_cycle_is_never_caught_up() -> None:
    runs = by_name(plan_runs(graph(training_set={"2017-02-06"}, candidate={"2017-02-06"}), LANDED))
    assert runs["models"].first == "2017-02-06"


def test_a_partition_asked_for_runs_what_has_it_also_when_made() -> None:
    runs = by_name(plan_runs(graph(raw=every_day(), features={"2017-01-30"}), LANDED, partition="2017-01-30"))
    assert {name: run.first for name, run in runs.items()} == dict.fromkeys(runs, "2017-01-30")
    assert {name: run.last for name, run in runs.items()} == dict.fromkeys(runs, "2017-01-30")


def test_a_range_of_partitions_takes_the_mondays_within() -> None:
    runs = by_name(plan_runs(graph(), LANDED, partition="2017-01-28..2017-02-02"))
    assert (runs["days"].first, runs["days"].last) == ("2017-01-28", "2017-02-02")
    assert (runs["features"].first, runs["features"].last) == ("2017-01-30", "2017-01-30")


@pytest.mark.parametrize("partition", ["2017-02-07", "2016-01-01"])
def test_a_partition_that_no_selected_asset_has_is_refused(partition: str) -> None:
    with pytest.raises(NothingToRun, match="no selected asset has the partition"):
        plan_runs(graph()[1:], LANDED, partition=partition)


@pytest.mark.parametrize("partition", ["'; drop table raw; --", "2017-1-30", "../../etc", "x..y"])
def test_a_malformed_partition_is_refused(partition: str) -> None:
    with pytest.raises(NotADay):
        plan_runs(graph(), LANDED, partition=partition)


def test_before_anything_landed_the_next_step_is_to_land() -> None:
    with pytest.raises(NothingToRun) as refused:
        plan_runs(graph(), None)
    assert refused.value.next_step.startswith("mlp land")


def test_an_empty_selection_is_refused() -> None:
    with pytest.raises(NothingToRun, match="no asset"):
        plan_runs([], LANDED)
