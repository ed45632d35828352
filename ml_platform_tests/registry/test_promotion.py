import multiprocessing
import signal
from datetime import date
from pathlib import Path

import pytest

from ml_platform.registry.ledger import Ledger
from ml_platform.registry.promotion import JUDGED_AGAINST_CHAMPION, NOT_ROLLED_BACK, opponent
from ml_platform.registry.records import ModelVersion, PromotionConflict, PromotionRefused, RollbackRefused, Waiver
from ml_platform_tests.registry.conftest import GATES, MODEL, TODAY, Shelf, start_process, verdict_on

WAIVER = Waiver("calibrated", "ada", "the sale starts tomorrow", TODAY)


def test_a_first_version_with_a_passed_verdict_becomes_champion_on_that_evidence(shelf: Shelf) -> None:
    shelf.judge(shelf.version("one"))
    outcome = shelf.promote(1)
    verdict = shelf.ledger.verdict(MODEL, 1)
    assert verdict and outcome.action == "promoted"
    assert outcome.entry == shelf.ledger.history(MODEL)[-1]
    assert (outcome.entry.from_version, outcome.entry.evidence_digest) == (None, verdict.digest)
    assert shelf.ledger.champion(MODEL) == outcome.champion


def test_a_version_without_a_verdict_is_refused(shelf: Shelf) -> None:
    shelf.version("one")
    with pytest.raises(PromotionRefused, match=r"has no verdict.*Next: materialise models/replenishment/evaluation"):
        shelf.promote(1)
    assert shelf.champions() == []


def test_a_verdict_is_of_one_artifact_and_promotes_no_other(shelf: Shelf) -> None:
    shelf.judge(shelf.version("one"))
    shelf.version("two")
    with pytest.raises(PromotionRefused, match="has no verdict"):
        shelf.promote(2)


def test_a_bundle_that_is_not_the_judged_one_any_more_is_refused(shelf: Shelf) -> None:
    shelf.judge(shelf.version("one"))
    with pytest.raises(PromotionRefused, match="the bundle there now has digest swapped"):
        shelf.promote(1, read_digest=lambda version: "swapped")
    assert shelf.champions() == []


def test_a_failed_gate_is_refused_by_name(shelf: Shelf) -> None:
    shelf.judge(shelf.version("one"), calibrated=False)
    with pytest.raises(PromotionRefused, match=r"calibrated \(refused by the verdict\).*--waive calibrated") as refusal:
        shelf.promote(1)
    assert refusal.value.gates == ("calibrated",)


def test_a_gate_that_the_verdict_does_not_speak_of_has_not_passed(shelf: Shelf) -> None:
    shelf.judge(shelf.version("one"))
    with pytest.raises(PromotionRefused, match=r"reproducible .the verdict does not speak of it") as refusal:
        shelf.promote(1, gates=(*GATES, "reproducible"))
    assert refusal.value.gates == ("reproducible",)


def test_a_waiver_lets_past_its_gate_and_stays_in_the_ledger(shelf: Shelf) -> None:
    shelf.judge(shelf.version("one"), calibrated=False)
    shelf.promote(1, WAIVER)
    assert Ledger(shelf.url).history(MODEL)[-1].waivers == (WAIVER,)


def test_each_failed_gate_needs_a_waiver_of_its_own(shelf: Shelf) -> None:
    shelf.judge(shelf.version("one"), calibrated=False, beats_baseline=False)
    with pytest.raises(PromotionRefused) as refusal:
        shelf.promote(1, WAIVER)
    assert refusal.value.gates == ("beats_baseline",)
    assert shelf.champions() == []


@pytest.mark.parametrize(
    ("waivers", "why"),
    [
        ([Waiver("calibrated", "ada", "hurry", date(2026, 11, 20))], "ended on 2026-11-20, today is 2026-11-21"),
        ([Waiver("calibrated", " ", "hurry", TODAY)], "lacks a person or a reason"),
        ([Waiver("calibrated", "ada", "", TODAY)], "lacks a person or a reason"),
        ([Waiver("calibrate", "ada", "hurry", TODAY)], "names 'calibrate', which has not failed .failed: calibrated"),
        ([WAIVER, Waiver("beats_baseline", "ada", "to be safe", TODAY)], "names 'beats_baseline'"),
        ([WAIVER, WAIVER], "waived twice"),
    ],
)
def test_a_waiver_that_means_nothing_is_refused(shelf: Shelf, waivers: list[Waiver], why: str) -> None:
    shelf.judge(shelf.version("one"), calibrated=False)
    with pytest.raises(PromotionRefused, match=why):
        shelf.promote(1, *waivers)
    assert shelf.champions() == []


def test_a_change_of_champion_names_a_person_and_a_reason(shelf: Shelf) -> None:
    shelf.judge(shelf.version("one"))
    for missing in ({"who": ""}, {"reason": "  "}):
        with pytest.raises(PromotionRefused, match="names who makes it and why"):
            shelf.promote(1, **missing)


def test_promoting_the_champion_again_changes_nothing_and_says_so(shelf: Shelf) -> None:
    shelf.reign("one")
    first = shelf.ledger.history(MODEL)
    outcome = shelf.promote(1)
    assert (outcome.action, outcome.entry, shelf.ledger.history(MODEL)) == ("kept", first[-1], first)


def test_evidence_about_an_earlier_champion_does_not_promote_over_the_present_one(shelf: Shelf) -> None:
    shelf.reign("one")
    shelf.judge(shelf.version("two"))
    shelf.judge(shelf.version("three"))
    shelf.promote(2)
    with pytest.raises(PromotionRefused, match="judged against version 1, the champion is version 2") as refusal:
        shelf.promote(3)
    assert refusal.value.gates == (JUDGED_AGAINST_CHAMPION,)
    shelf.judge(shelf.version("three"))
    assert shelf.promote(3).entry.from_version == 2


def test_rollback_returns_to_the_champion_before_and_is_an_entry(shelf: Shelf) -> None:
    shelf.reign("one", "two")
    outcome = shelf.rollback()
    entry = shelf.ledger.history(MODEL)[-1]
    assert (outcome.action, outcome.champion.version) == ("rolled_back", 1)
    assert (entry.action, entry.from_version, entry.to_version) == ("rollback", 2, 1)
    assert (entry.who, entry.reason) == ("grace", "it misbehaves")
    assert entry.evidence_digest == shelf.ledger.history(MODEL)[0].evidence_digest


def test_a_second_rollback_goes_further_back_and_never_forward(shelf: Shelf) -> None:
    shelf.reign("one", "two", "three")
    shelf.rollback()
    shelf.rollback()
    assert shelf.champions() == [1, 2, 3, 2, 1]
    with pytest.raises(RollbackRefused, match="version 1 is its first champion"):
        shelf.rollback()


def test_rollback_to_a_named_version_takes_any_earlier_champion_and_no_other(shelf: Shelf) -> None:
    shelf.reign("one", "two", "three")
    shelf.version("four")
    with pytest.raises(RollbackRefused, match=r"version 4 of replenishment was never champion .*\[1, 2, 3\]"):
        shelf.rollback(to_version=4)
    shelf.rollback(to_version=1)
    assert shelf.rollback(to_version=1).action == "kept"
    assert shelf.champions() == [1, 2, 3, 1]


def test_rollback_without_any_champion_or_any_reason_is_refused(shelf: Shelf) -> None:
    for named in (None, 1):
        with pytest.raises(RollbackRefused):
            shelf.rollback(to_version=named)
    shelf.reign("one", "two")
    with pytest.raises(PromotionRefused, match="who makes it and why"):
        shelf.rollback(reason="")


def test_a_rolled_back_version_does_not_come_back_by_itself_but_by_a_person_on_record(shelf: Shelf) -> None:
    shelf.reign("one", "two")
    shelf.rollback()
    shelf.judge(shelf.version("two"))
    with pytest.raises(PromotionRefused, match="taken out of service by grace: it misbehaves") as refusal:
        shelf.promote(2)
    assert refusal.value.gates == (NOT_ROLLED_BACK,)
    shelf.promote(2, Waiver(NOT_ROLLED_BACK, "grace", "it was the data", TODAY))
    assert shelf.champions() == [1, 2, 1, 2]


def test_the_champion_is_judged_against_the_one_before_it_and_any_other_version_against_the_champion(
    shelf: Shelf,
) -> None:
    one = shelf.version("one")
    assert opponent(shelf.ledger, one) is None
    shelf.reign("one")
    assert opponent(shelf.ledger, one) is None
    shelf.reign("two")
    assert opponent(shelf.ledger, shelf.version("two")) == one
    assert opponent(shelf.ledger, shelf.version("three")) == shelf.version("two")
    shelf.rollback()
    assert opponent(shelf.ledger, one) is None


def test_of_two_processes_that_promote_at_once_exactly_one_wins_and_the_other_is_told_who(
    shelf: Shelf, tmp_path: Path
) -> None:
    shelf.reign("one")
    for name in ("two", "three"):
        shelf.judge(shelf.version(name))
    meeting = multiprocessing.get_context("fork").Barrier(2)

    def meet(version: ModelVersion) -> str:
        meeting.wait(60)  # after the decision and before the entry: both have seen version 1 as champion
        return version.bundle_digest

    def attempt(version: int) -> None:
        answer = tmp_path / f"answer-{version}"
        try:
            answer.write_text(shelf.promote(version, who=f"person {version}", read_digest=meet).action)
        except PromotionConflict as conflict:
            answer.write_text(f"conflict with {conflict.winner.who}")

    for process in [start_process(attempt, version) for version in (2, 3)]:
        process.join(60)
    history = shelf.ledger.history(MODEL)
    winner = history[-1].to_version
    loser = 5 - winner
    assert (tmp_path / f"answer-{winner}").read_text() == "promoted"
    assert (tmp_path / f"answer-{loser}").read_text() == f"conflict with person {winner}"
    assert [(entry.seq, entry.from_version) for entry in history] == [(1, None), (2, 1)]


@pytest.mark.parametrize(("point", "champions"), [("ledger.appending", []), ("ledger.appended", [1])])
def test_a_promotion_killed_around_its_entry_leaves_all_of_it_or_nothing_and_ends_as_one_entry(
    shelf: Shelf, point: str, champions: list[int]
) -> None:
    shelf.judge(shelf.version("one"))
    killed = start_process(shelf.promote, 1, kill_at=point)
    killed.join(60)
    assert killed.exitcode == -signal.SIGKILL
    assert shelf.champions() == champions
    shelf.promote(1)
    assert shelf.champions() == [1]


def test_a_registration_killed_after_its_commit_is_found_again(shelf: Shelf) -> None:
    killed = start_process(shelf.version, "one", kill_at="ledger.registered")
    killed.join(60)
    assert killed.exitcode == -signal.SIGKILL
    assert [version.bundle_digest for version in shelf.ledger.versions(MODEL)] == ["one"]
    assert shelf.version("one").version == 1


def test_a_verdict_recorded_again_after_promotion_leaves_the_evidence_in_place(shelf: Shelf) -> None:
    shelf.reign("one")
    shelf.ledger.record_verdict(MODEL, 1, verdict_on("one", calibrated=False), None)
    evidence = shelf.ledger.evidence(shelf.ledger.history(MODEL)[-1])
    assert evidence.gates["calibrated"] is True
