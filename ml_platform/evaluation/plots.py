"""Pictures of an evaluation as small PNGs, to be shown inside Markdown metadata.

Drawn on a figure of their own (no pyplot, no display, no global state), about 700 pixels wide. Each takes an evaluation
or bare scores and gives PNG bytes; `markdown_image` makes them a data URI, which Dagster's UI and MLflow both render.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ml_platform.evaluation.bootstrap import CANDIDATE, CHAMPION, Measurement
from ml_platform.evaluation.gates import METRIC_WORDS
from ml_platform.evaluation.metrics import ECE_BINS, mass_bins
from ml_platform.evaluation.report import Evaluation, measured
from ml_platform.training.spec import Metric

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH_INCHES = 7.0
DOTS_PER_INCH = 100
CURVE_POINTS = 400
COLOURS = 128
INK, GRID = "#333333", "#dddddd"
CANDIDATE_COLOUR, CHAMPION_COLOUR = "#0b5cad", "#d1495b"
_BASELINE_COLOURS = ("#7a7a7a", "#c08a2d", "#4f8f6f", "#8a6fb0")


def calibration_plot(evaluation: Evaluation) -> bytes:
    """Label rate against mean score in equal-mass bins: a calibrated model lies on the diagonal."""
    figure, (axes,) = new_figure(4.2, 1)
    highest = 0.0
    for model, scores in evaluation.answers.items():
        bins = mass_bins(scores, ECE_BINS)
        counts = np.bincount(bins)
        used = counts > 0
        mean = np.bincount(bins, scores)[used] / counts[used]
        rate = np.bincount(bins, evaluation.labels.to_numpy())[used] / counts[used]
        highest = max(highest, float(mean.max()), float(rate.max()))
        axes.plot(mean, rate, marker="o", markersize=4, **_line(model, list(evaluation.answers)))
    limit = min(1.0, highest * 1.05)
    axes.plot([0, limit], [0, limit], color=GRID, zorder=0)
    label_axes(axes, "mean score", "share of positives", "Calibration, equal-mass bins")
    axes.set_xlim(0, limit)
    axes.set_ylim(0, limit)
    axes.legend(frameon=False, fontsize=8)
    return png_of(figure)


def curves_plot(evaluation: Evaluation) -> bytes:
    """ROC curve on the left, precision against recall on the right; AUC and average precision in the legends."""
    figure, (left, right) = new_figure(3.6, 2)
    models = list(evaluation.answers)
    for model, scores in evaluation.answers.items():
        false_rate, recall, precision = _curve(evaluation.labels.to_numpy(), scores)
        line = _line(model, models)
        area, average = (measured(evaluation, "all", name, model)[0].value for name in ("auc", "average_precision"))
        left.plot(false_rate, recall, **{**line, "label": f"{model} {_figure_text(area)}"})
        right.step(recall, precision, where="pre", **{**line, "label": f"{model} {_figure_text(average)}"})
    left.plot([0, 1], [0, 1], color=GRID, zorder=0)
    right.axhline(float(evaluation.labels.to_numpy().mean()), color=GRID, zorder=0)
    label_axes(left, "false positive rate", "true positive rate", "ROC (AUC)")
    label_axes(right, "recall", "precision", "Precision and recall (AP)")
    for axes in (left, right):
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1.02)
    left.legend(frameon=False, fontsize=7.5, loc="lower right")
    right.legend(frameon=False, fontsize=7.5, loc="upper right")
    return png_of(figure)


def groups_plot(evaluation: Evaluation, metric: Metric) -> bytes:
    """The metric with its interval on all rows, each Monday and each slice: candidate beside its reference.

    The reference is the champion, or while there is none the last baseline: specs name the strongest last.
    """
    others = [model for model in evaluation.answers if model != CANDIDATE]
    models = [CANDIDATE, CHAMPION] if CHAMPION in others else [CANDIDATE, *others[-1:]]
    kinds = ("all", "as_of", "slice")
    rows = {model: [m for kind in kinds for m in measured(evaluation, kind, metric, model)] for model in models}
    groups = rows[CANDIDATE]
    figure, (axes,) = new_figure(1.1 + 0.34 * len(groups), 1)
    for offset, model in zip((-0.13, 0.13), models):
        _forest(axes, rows[model], offset, _line(model, list(evaluation.answers)))
    axes.set_yticks(range(len(groups)), [_group_label(m) for m in groups], fontsize=7.5)
    axes.invert_yaxis()
    boundaries = [i - 0.5 for i in range(1, len(groups)) if groups[i].kind != groups[i - 1].kind]
    for boundary in boundaries:
        axes.axhline(boundary, color=GRID, linewidth=0.8)
    label_axes(axes, METRIC_WORDS[metric], "", f"{METRIC_WORDS[metric]} by Monday and slice, 95 % intervals")
    axes.legend(frameon=False, fontsize=8)
    return png_of(figure)


def scores_plot(scores: np.ndarray, labels: np.ndarray | None = None, title: str = "Scores") -> bytes:
    """How the scores [n_rows] in [0, 1] are spread; by label where labels [n_rows] are known."""
    figure, (axes,) = new_figure(3.2, 1)
    edges = np.linspace(0, max(float(scores.max()), 1e-9), 51)
    parts: Mapping[str, np.ndarray] = (
        {"rows": scores} if labels is None else {"negatives": scores[labels == 0], "positives": scores[labels == 1]}
    )
    for (name, part), colour in zip(parts.items(), (CANDIDATE_COLOUR, CHAMPION_COLOUR)):
        counts, _ = np.histogram(part, edges)
        share = counts / max(1, len(part))
        axes.stairs(share, edges, fill=True, alpha=0.35, color=colour, label=f"{name} ({len(part):,})")
        axes.stairs(share, edges, color=colour, linewidth=1)
    label_axes(axes, "score", "share of rows", title)
    axes.set_xlim(0, float(edges[-1]))
    axes.legend(frameon=False, fontsize=8)
    return png_of(figure)


def distribution_markdown(scores: np.ndarray) -> str:
    """How predictions [n_rows] in [0, 1] are spread, as one Markdown image."""
    return markdown_image("distribution of scores", scores_plot(scores))


def markdown_image(name: str, png: bytes) -> str:
    """The picture as one Markdown image with a data URI."""
    return f"![{name}](data:image/png;base64,{base64.b64encode(png).decode()})"


def new_figure(height: float, columns: int, widths: Sequence[float] = ()) -> "tuple[Figure, list[Axes]]":
    """A figure of the house's width and `height` inches, and its axes side by side, as wide as `widths` relate."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH_INCHES, height), dpi=DOTS_PER_INCH, layout="constrained")
    grid = figure.add_gridspec(1, columns, width_ratios=list(widths) or None)
    return figure, [figure.add_subplot(grid[0, number]) for number in range(columns)]


def png_of(figure: "Figure") -> bytes:
    """The figure as PNG bytes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    buffer = io.BytesIO()
    # A palette of few colours makes the file a third as large.
    Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB").quantize(
        COLOURS, method=Image.Quantize.FASTOCTREE
    ).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _line(model: str, models: list[str]) -> dict[str, Any]:
    baselines = [each for each in models if each not in (CANDIDATE, CHAMPION)]
    if model == CANDIDATE:
        return {"color": CANDIDATE_COLOUR, "linewidth": 1.8, "label": model, "zorder": 2}
    if model == CHAMPION:
        return {"color": CHAMPION_COLOUR, "linewidth": 1.3, "linestyle": "--", "label": model, "zorder": 3}
    colour = _BASELINE_COLOURS[baselines.index(model) % len(_BASELINE_COLOURS)]
    return {"color": colour, "linewidth": 1.1, "label": model, "zorder": 1}


def label_axes(axes: "Axes", x: str, y: str, title: str) -> None:
    """Titles, and the house's quiet frame and grid."""
    axes.set_xlabel(x, color=INK, fontsize=9)
    axes.set_ylabel(y, color=INK, fontsize=9)
    axes.set_title(title, color=INK, fontsize=10, loc="left")
    axes.tick_params(labelsize=8, colors=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color=GRID, linewidth=0.5)
    axes.set_axisbelow(True)


def _forest(axes: "Axes", measurements: list[Measurement], offset: float, line: Mapping[str, Any]) -> None:
    known = [(i + offset, m.value) for i, m in enumerate(measurements) if m.value is not None]
    places, values = [y for y, _ in known], [value for _, value in known]
    axes.plot(values, places, "o", markersize=4, color=line["color"], label=line["label"])
    for i, m in enumerate(measurements):
        if m.low is not None and m.high is not None:
            axes.plot([m.low, m.high], [i + offset, i + offset], color=line["color"], linewidth=1.4)


def _curve(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(false positive rate, recall, precision) at about CURVE_POINTS thresholds, from recall 0 on."""
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(labels[order])
    ends = np.flatnonzero(np.diff(scores[order], append=np.nan) != 0)
    if len(ends) > CURVE_POINTS:
        # Evenly in rows and evenly in hits, so that both ends of both curves keep their shape.
        wanted = np.concatenate(
            [
                np.linspace(0, len(order) - 1, CURVE_POINTS),
                np.searchsorted(hits, np.linspace(1, hits[-1], CURVE_POINTS)),
            ]
        )
        ends = ends[np.unique(np.searchsorted(ends, wanted).clip(0, len(ends) - 1))]
    called, hit = ends + 1, hits[ends]
    false_rate = (called - hit) / max(1, len(labels) - int(hits[-1]))
    recall = hit / max(1, int(hits[-1]))
    precision = hit / called
    return np.append(0.0, false_rate), np.append(0.0, recall), np.append(precision[0], precision)


def _group_label(measurement: Measurement) -> str:
    """A slice's column above, its bin and size below."""
    column, _, values = measurement.group.partition(" ")
    size = f"{measurement.rows:,} rows"
    return f"{column}\n{values}  ({size})" if values else f"{column}  ({size})"


def _figure_text(value: float | None) -> str:
    return "not defined" if value is None else f"{value:.3f}"
