import base64
import io
import subprocess
import sys
from dataclasses import replace
from datetime import date

import numpy as np
import polars as pl
import pytest
from PIL import Image

from ml_platform.evaluation.metrics import BadScores, compute_auc
from ml_platform.evaluation.plots import (
    distribution_markdown,
    groups_plot,
    markdown_image,
    scores_plot,
)
from ml_platform.evaluation.report import (
    CannotEvaluate,
    Evaluation,
    evaluation_digest,
    evaluation_groups,
    flat_metrics,
    gates_table,
    metrics_table,
)
from ml_platform.tasks import classify
from ml_platform.training.spec import Baseline
from ml_platform_tests.evaluation.conftest import Workshop


def test_every_group_is_measured_for_every_model(honest: Evaluation):
    assert list(honest.answers) == ["candidate", "champion", "trips_table", "logistic"]
    groups = {(m.kind, m.group) for m in honest.verdict.measurements}
    assert groups == {
        ("all", "all"),
        ("as_of", "2017-07-03"),
        ("as_of", "2017-07-10"),
        ("slice", "household:spend below 20"),
        ("slice", "household:spend 20 to 60"),
        ("slice", "household:spend 60 or more"),
        ("slice", "household:gap below 5"),
        ("slice", "household:gap 5 or more"),
        ("slice", "household:gap missing"),
    }
    assert len(honest.verdict.measurements) == len(groups) * 4 * 4


def test_slices_and_snapshots_part_the_rows(workshop: Workshop):
    rows = workshop.evaluate_rows
    for kind, prefix, parts in (("as_of", "2017", 1), ("slice", "household:spend", 1), ("slice", "household:gap", 1)):
        groups = [g for g in evaluation_groups(workshop.spec, rows) if g.kind == kind and g.name.startswith(prefix)]
        counts = np.bincount(np.concatenate([group.rows for group in groups]), minlength=len(rows))
        assert (counts == parts).all()
    (dear,) = [g for g in evaluation_groups(workshop.spec, rows) if g.name == "household:spend 60 or more"]
    assert rows["household__spend"].to_numpy()[dear.rows].min() >= 60


def test_the_same_inputs_give_the_same_verdict(workshop: Workshop, honest: Evaluation):
    again = workshop.judged(workshop.truth, champion=honest.answers["champion"])
    assert again.verdict.digest == honest.verdict.digest


def test_the_evaluation_digest_ignores_order_and_sees_every_value(workshop: Workshop):
    rows, entity = workshop.evaluate_rows, workshop.spec.entity
    digest = evaluation_digest(rows, entity)
    assert (
        evaluation_digest(rows.sample(fraction=1, shuffle=True, seed=0).select(sorted(rows.columns)), entity) == digest
    )
    changed = [
        rows.with_columns(label=1 - pl.col("label")),
        rows.with_columns(household__gap=pl.col("household__gap").fill_null(0.0)),
        rows.with_columns(household__trips=pl.col("household__trips").cast(pl.Int64)),
        rows.with_columns(as_of=pl.col("as_of").dt.offset_by("1d")),
        rows.with_columns(role=pl.lit("train")),
        rows.head(-1),
    ]
    assert len({digest, *(evaluation_digest(each, entity) for each in changed)}) == len(changed) + 1


def test_the_evaluation_digest_is_a_constant_of_its_format():
    frame = pl.DataFrame(
        {
            "household_id": [2, 1],
            "as_of": [date(2017, 1, 9), date(2017, 1, 2)],
            "product_category": ["été", None],
            "spend": [None, 1.5],
            "new": [True, False],
        }
    )
    assert (
        evaluation_digest(frame, ("household_id",))
        == "1d5032a1d3e45c149f8654e96c92a034692bb947be32f054834adead92c67c3e"
    )


def test_tables_speak_of_each_model_and_gate(honest: Evaluation):
    table = metrics_table(honest)
    assert [row["model"] for row in table] == list(honest.answers)
    assert table[0]["auc"] == round(compute_auc(honest.labels.to_numpy(), honest.answers["candidate"]), 4)
    assert table[0]["candidate_gain_auc"] == ""
    assert str(table[1]["candidate_gain_log_loss"]).startswith("+0.0")
    assert metrics_table(honest.verdict, "slice")[0]["group"] == "household:spend below 20"
    assert {row["outcome"] for row in gates_table(honest)} == {"passed"}
    flat = flat_metrics(honest)
    assert flat["gain_over_champion_auc"] == pytest.approx(flat["auc"] - flat["champion_auc"])
    assert flat["auc_low"] < flat["auc"] < flat["auc_high"]


def test_scores_of_other_rows_and_broken_scores_are_refused(workshop: Workshop):
    with pytest.raises(BadScores, match="candidate"):
        workshop.judged(workshop.truth[:-1])
    with pytest.raises(BadScores, match=r"3000 of 3000 scores are not finite.*champion"):
        workshop.judged(workshop.truth, champion=np.full(3000, np.nan))


def test_training_sets_that_cannot_be_evaluated_are_refused(workshop: Workshop):
    frame = workshop.training_set
    with pytest.raises(CannotEvaluate, match="no row has the role evaluate"):
        replace(workshop, training_set=frame.filter(pl.col("role") != "evaluate")).judged(workshop.truth)
    with pytest.raises(CannotEvaluate, match="lacks household__spend"):
        replace(workshop, training_set=frame.drop("household__spend")).judged(workshop.truth)
    misnamed = replace(
        workshop.spec, baselines=(*workshop.spec.baselines, Baseline("champion", "rate_table", ("household:trips",)))
    )
    with pytest.raises(CannotEvaluate, match="named champion"):
        replace(workshop, spec=misnamed).judged(workshop.truth)


def test_every_plot_is_a_small_png_about_700_pixels_wide(workshop: Workshop, honest: Evaluation):
    plots = classify.plots(honest)
    assert list(plots) == ["calibration", "roc_and_precision_recall", "weeks_and_slices", "scores"]
    for png in plots.values():
        image = Image.open(io.BytesIO(png))
        assert image.format == "PNG" and 650 <= image.width <= 750
        assert len(png) < 60_000
        assert len(set(image.convert("L").tobytes())) > 20  # something is drawn
    assert scores_plot(honest.answers["candidate"], honest.labels.to_numpy()) == plots["scores"]


def test_a_plot_becomes_one_markdown_image_of_its_own_bytes():
    markdown = markdown_image("scores", b"\x89PNG")
    assert markdown.startswith("![scores](data:image/png;base64,")
    assert base64.b64decode(markdown.split("base64,")[1][:-1]) == b"\x89PNG"
    assert distribution_markdown(np.array([0.1, 0.5, 0.9])).startswith(
        "![distribution of scores](data:image/png;base64,"
    )


def test_plots_stand_a_first_evaluation_without_champion_and_one_class_slices(workshop: Workshop):
    positive = workshop.training_set.with_columns(
        label=pl.when(pl.col("household__spend") >= 60).then(1).otherwise("label").cast(pl.Int8)
    )
    evaluation = replace(workshop, training_set=positive).judged(workshop.truth)
    undefined = [m for m in evaluation.verdict.measurements if m.metric == "auc" and m.value is None]
    assert {m.group for m in undefined} == {"household:spend 60 or more"}
    assert groups_plot(evaluation, "auc").startswith(b"\x89PNG")


def test_importing_the_room_loads_nothing_heavy():
    script = (
        "import sys, ml_platform.evaluation.report, ml_platform.evaluation.plots\n"
        "heavy = {'sklearn', 'scipy', 'matplotlib', 'pandas', 'xgboost', 'dagster', 'PIL'} & set(sys.modules)\n"
        "print(sorted(heavy))"
    )
    output = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert output.stdout.strip() == "[]"
