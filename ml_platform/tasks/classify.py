"""Will it happen? An answer is a calibrated probability; a label is 0 or 1."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from ml_platform.contracts import Column, FeatureTable
from ml_platform.evaluation.baselines import fit_baseline
from ml_platform.evaluation.bootstrap import Group, Measurement
from ml_platform.evaluation.bootstrap import measure as measure_scores
from ml_platform.monitoring.sketch import model_columns
from ml_platform.registry.bundles import MODEL, Bundle
from ml_platform.tasks.account import BIAS, Account, Step
from ml_platform.training.data import feature_matrix
from ml_platform.training.spec import Metric, ModelSpec
from ml_platform.training.trainers import classifier_module

if TYPE_CHECKING:
    from ml_platform.evaluation.report import Evaluation

METRICS: tuple[Metric, ...] = ("auc", "average_precision", "log_loss", "ece")
HEADLINE: Metric = "log_loss"
PROMISED: tuple[Metric, ...] = ("auc", "log_loss")
LABEL = pl.Int8()
ANSWER = ("score", pl.Float64())
SHOWN_ROWS = 10


def odd_labels(labels: pl.Series) -> str:
    odd = int((~labels.is_in([0, 1])).fill_null(True).sum())
    return f"{odd} labels are neither 0 nor 1" if odd else ""


def answers(bundle: Bundle, rows: pl.DataFrame, items: pl.DataFrame | None) -> np.ndarray:
    return bundle.predict(feature_matrix(rows.to_arrow(), bundle.columns))


def accounts(bundle: Bundle, rows: pl.DataFrame, items: pl.DataFrame | None) -> list[Account]:
    """SHAP values of the margin, then the logistic function, then the calibration by the two points around."""
    matrix = feature_matrix(rows.to_arrow(), bundle.columns)
    trainer = classifier_module(bundle.report["trainer"]["kind"])
    shares = trainer.contributions(bundle.read(MODEL), matrix).astype(np.float64)
    raw, names = bundle.predict_raw(matrix), (*bundle.features, BIAS)
    return [
        Account(
            parts=dict(zip(names, row.tolist(), strict=True)),
            margin=float(row.sum()),
            steps=(Step("logistic", "1 / (1 + exp(-margin))", float(score)), _calibrated(bundle, score)),
        )
        for row, score in zip(shares, raw)
    ]


def _calibrated(bundle: Bundle, raw: np.float32) -> Step:
    curve = bundle.calibration
    right = int(np.clip(np.searchsorted(curve.x, raw, side="right"), 1, len(curve.x) - 1))
    low, high = ((curve.x[at], curve.y[at]) for at in (right - 1, right))
    said = f"a straight line from ({low[0]:.4f}, {low[1]:.4f}) to ({high[0]:.4f}, {high[1]:.4f})"
    return Step("calibration", said, float(curve.apply(np.array([raw]))[0]))


def columns(spec: ModelSpec, items: FeatureTable | None) -> tuple[tuple[str, ...], tuple[Column, ...]]:
    score = Column("score", "float64", f"Calibrated probability: {spec.description}", "probability", lower=0, upper=1)
    return (), (score,)


def tabulate(bundle: Bundle, rows: pl.DataFrame, items: pl.DataFrame | None, key: list[str]) -> pl.DataFrame:
    return rows.select(*key, pl.Series("score", answers(bundle, rows, items), dtype=pl.Float64))


def fold(predictions: pl.DataFrame, key: list[str]) -> pl.DataFrame:
    return predictions.select(*key, "model_version", "score")


def array(answers: pl.Series) -> np.ndarray:
    return answers.to_numpy()


def measure(
    spec: ModelSpec,
    rows: pl.DataFrame,
    answers: Mapping[str, np.ndarray],
    groups: Sequence[Group],
    replicates: int,
) -> list[Measurement]:
    return measure_scores(
        rows["label"].to_numpy(),
        rows[spec.cluster].to_numpy(),
        answers,
        groups,
        seed=spec.seed,
        replicates=replicates,
        threads=spec.resources.cpu,
    )


def baselines(
    spec: ModelSpec, training_set: pl.DataFrame, items: pl.DataFrame | None
) -> tuple[dict[str, np.ndarray], dict[str, Mapping[str, float | int | str]]]:
    rows = training_set.filter(pl.col("role") == "evaluate")
    fitted = [fit_baseline(baseline, training_set) for baseline in spec.baselines]
    return {each.name: each.score(rows) for each in fitted}, {each.name: each.settings for each in fitted}


def one_class(labels: pl.Series) -> bool:
    return labels.n_unique() == 1


def watched(bundle: Bundle, inputs: pl.DataFrame, folded: pl.DataFrame) -> Mapping[str, np.ndarray]:
    return model_columns(bundle.features, feature_matrix(inputs.to_arrow(), bundle.columns), folded["score"].to_numpy())


def highlights(spec: ModelSpec, predictions: pl.DataFrame) -> list[dict[str, Any]]:
    """Groups of the entity's other key columns, or the highest rows."""
    frame = predictions.filter(pl.col("role") == "champion")
    group = [name for name in spec.entity if name != spec.cluster]
    if group:
        top = frame.group_by(group).agg(
            expected=pl.col("score").sum().round(1), rows=pl.len(), mean=pl.col("score").mean()
        )
        return top.sort("expected", *group, descending=[True, *([False] * len(group))]).head(SHOWN_ROWS).to_dicts()
    highest = frame.sort("score", *spec.entity, descending=[True, *([False] * len(spec.entity))])
    return highest.select(*spec.entity, "score").head(SHOWN_ROWS).to_dicts()


def plots(evaluation: "Evaluation") -> dict[str, bytes]:
    from ml_platform.evaluation.plots import calibration_plot, curves_plot, groups_plot, scores_plot

    return {
        "calibration": calibration_plot(evaluation),
        "roc_and_precision_recall": curves_plot(evaluation),
        "weeks_and_slices": groups_plot(evaluation, HEADLINE),
        "scores": scores_plot(evaluation.answers["candidate"], evaluation.labels.to_numpy()),
    }
