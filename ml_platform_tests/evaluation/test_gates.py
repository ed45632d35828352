"""Each gate with a model that it must refuse and one that it must let pass."""

import copy
import json
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest

from ml_platform.evaluation.gates import GateResult, Verdict, VerdictCorrupt, judge
from ml_platform.evaluation.report import Evaluation
from ml_platform.training.spec import BeatsBaseline, NoSliceWorse, gate_name
from ml_platform_tests.evaluation.conftest import Workshop


def gate(evaluation: Evaluation, name: str) -> GateResult:
    (found,) = [each for each in evaluation.verdict.gates if each.name == name]
    return found


def refused(evaluation: Evaluation) -> set[str]:
    return {each.name for each in evaluation.verdict.gates if not each.passed}


def test_an_honest_candidate_passes_every_gate(workshop: Workshop, honest: Evaluation):
    assert honest.verdict.passed
    assert [each.name for each in honest.verdict.gates] == [gate_name(each) for each in workshop.spec.gates]


def test_a_constant_score_is_refused_for_not_beating_the_baseline(workshop: Workshop):
    evaluation = workshop.judged(np.full(len(workshop.truth), workshop.labels.mean()))
    result = gate(evaluation, "beats_baseline_trips_table")
    assert not result.passed
    assert result.figure is not None and result.figure < 0
    assert "AUC is -" in result.explanation
    assert gate(evaluation, "calibrated").passed
    assert not evaluation.verdict.passed


def test_the_baselines_own_scores_are_refused_for_not_beating_it(workshop: Workshop, honest: Evaluation):
    evaluation = workshop.judged(honest.answers["trips_table"])
    result = gate(evaluation, "beats_baseline_trips_table")
    assert (result.passed, result.figure, result.threshold) == (False, 0.0, 0.01)
    assert gate(honest, "beats_baseline_trips_table").passed


def test_a_better_model_within_the_margin_is_refused(workshop: Workshop, honest: Evaluation):
    gates = [replace(each, margin=0.5) if i == 0 else each for i, each in enumerate(workshop.spec.gates)]
    results = judge(replace(workshop.spec, gates=tuple(gates)), honest.verdict.measurements, reproducible=True)
    assert [each.passed for each in results] == [False, True, True, True, True]


def test_a_model_worse_than_the_champion_is_refused(workshop: Workshop, honest: Evaluation):
    evaluation = workshop.judged(honest.answers["champion"], champion=workshop.truth)
    result = gate(evaluation, "beats_champion")
    assert not result.passed
    assert result.figure is not None and result.figure < 0
    assert gate(honest, "beats_champion").passed


def test_a_sure_gain_that_is_too_small_is_refused_where_a_gate_asks_for_more(workshop: Workshop):
    measurements = workshop.judged(workshop.truth).verdict.measurements

    def outcome(least_gain: float) -> bool:
        asked = BeatsBaseline("trips_table", least_gain=least_gain)
        gates = tuple(asked if isinstance(each, BeatsBaseline) else each for each in workshop.spec.gates)
        results = judge(replace(workshop.spec, gates=gates), measurements, reproducible=True)
        return next(each.passed for each in results if each.name == "beats_baseline_trips_table")

    gain = next(m.gain for m in measurements if (m.model, m.metric, m.kind) == ("trips_table", "auc", "all"))
    assert gain is not None and outcome(gain - 1e-9) and not outcome(gain + 1e-9)


def test_the_champion_itself_is_refused_as_no_improvement(workshop: Workshop):
    evaluation = workshop.judged(workshop.truth, champion=workshop.truth)
    assert refused(evaluation) == {"beats_champion"}


def test_without_a_champion_its_gate_passes_and_says_so(workshop: Workshop):
    result = gate(workshop.judged(workshop.truth), "beats_champion")
    assert (result.passed, result.figure) == (True, None)
    assert "no champion" in result.explanation


def test_a_miscalibrated_model_is_refused_though_it_ranks_as_well(workshop: Workshop):
    overconfident = 1 / (1 + np.exp(-3 * np.log(workshop.truth / (1 - workshop.truth))))
    evaluation = workshop.judged(overconfident)
    result = gate(evaluation, "calibrated")
    assert not result.passed
    assert result.figure is not None and result.figure > result.threshold == 0.05
    assert gate(evaluation, "beats_baseline_trips_table").passed
    assert gate(workshop.judged(workshop.truth), "calibrated").passed


def test_a_model_worse_in_one_slice_is_refused_and_the_slice_is_named(workshop: Workshop):
    spend = workshop.evaluate_rows["household__spend"].to_numpy()
    blind = np.where(spend >= 60, 0.5, workshop.truth)
    evaluation = workshop.judged(blind, champion=workshop.truth)
    result = gate(evaluation, "no_slice_worse")
    assert not result.passed
    assert result.figure is not None and result.figure < -0.005
    assert "worse in household:spend 60 or more" in result.explanation
    assert "spend below 20" not in result.explanation
    by_baseline = gate(workshop.judged(np.where(spend >= 60, 0.2, workshop.truth)), "no_slice_worse")
    assert not by_baseline.passed and "against logistic" in by_baseline.explanation
    assert gate(workshop.judged(workshop.truth, champion=workshop.truth), "no_slice_worse").passed


def test_a_slice_too_small_to_judge_does_not_refuse_but_judging_none_does(workshop: Workshop):
    spend = workshop.evaluate_rows["household__spend"].to_numpy()
    blind = np.where(spend >= 60, 0.5, workshop.truth)
    spec = replace(workshop.spec, slices=workshop.spec.slices[:1])
    measurements = replace(workshop, spec=spec).judged(blind, champion=workshop.truth).verdict.measurements

    def outcome(min_rows: int) -> bool:
        gates = tuple(
            replace(each, min_rows=min_rows) if isinstance(each, NoSliceWorse) else each for each in spec.gates
        )
        results = judge(replace(spec, gates=gates), measurements, reproducible=True)
        return next(each.passed for each in results if each.name == "no_slice_worse")

    assert not outcome(int((spend >= 60).sum()))
    assert outcome(int((spend >= 60).sum()) + 1)
    assert not outcome(10_000)


def test_a_model_that_does_not_repeat_is_refused(workshop: Workshop):
    evaluation = workshop.judged(workshop.truth, reproducible=False)
    assert refused(evaluation) == {"reproducible"}
    assert "gave other bits" in gate(evaluation, "reproducible").explanation


def test_a_figure_that_is_not_defined_passes_no_gate(workshop: Workshop):
    one_class = workshop.training_set.with_columns(
        label=pl.when(pl.col("role") == "evaluate").then(0).otherwise("label").cast(pl.Int8)
    )
    evaluation = replace(workshop, training_set=one_class).judged(workshop.truth)
    result = gate(evaluation, "beats_baseline_trips_table")
    assert (result.passed, result.figure) == (False, None)
    assert json.dumps(evaluation.verdict.to_json(), allow_nan=False)


def test_a_verdict_survives_json_and_names_what_it_judged(workshop: Workshop, honest: Evaluation):
    stated = json.loads(json.dumps(honest.verdict.to_json()))
    read = Verdict.from_json(stated)
    assert read == honest.verdict
    assert read.digest == stated["digest"] == honest.verdict.digest
    assert (stated["artifact_digest"], stated["champion_digest"], stated["passed"]) == ("a" * 64, "c" * 64, True)
    assert stated["metrics"]["candidate"]["auc"] == pytest.approx(read.metrics["candidate"]["auc"])


def test_a_verdict_that_was_touched_is_refused(honest: Evaluation):
    for path, value in ((("gates", 0, "passed"), False), (("passed",), False), (("artifact_digest",), "b" * 64)):
        stated = copy.deepcopy(honest.verdict.to_json())
        inner: Any = stated
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = value
        with pytest.raises(VerdictCorrupt, match="own digest"):
            Verdict.from_json(stated)


def test_a_verdict_of_another_format_is_refused_by_its_version(honest: Evaluation):
    with pytest.raises(VerdictCorrupt, match="format version is 2"):
        Verdict.from_json({**honest.verdict.to_json(), "format_version": 2})


def test_a_verdict_without_gates_has_not_passed(honest: Evaluation):
    assert not replace(honest.verdict, gates=()).passed
