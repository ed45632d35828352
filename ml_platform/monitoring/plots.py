"""Pictures of a week's drift as small PNGs, in the hand of `evaluation.plots`."""

from ml_platform.evaluation.plots import (
    CANDIDATE_COLOUR,
    CHAMPION_COLOUR,
    GRID,
    INK,
    label_axes,
    markdown_image,
    new_figure,
    png_of,
)
from ml_platform.monitoring.drift import DriftReport
from ml_platform.monitoring.sketch import SCORE, ColumnSketch, Sketch

SHOWN_COLUMNS = 15
_GROWING_COLOUR = "#b8b8b8"


def shifts_plot(report: DriftReport, shown: int = SHOWN_COLUMNS) -> bytes:
    """PSI of the score and of the highest ranked columns, a mark at each one's noise floor; grey: grows by nature."""
    shifts = [report.score, *report.shifts[:shown]]
    figure, (axes,) = new_figure(1.1 + 0.26 * len(shifts), 1)
    for place, shift in enumerate(shifts):
        colour = _GROWING_COLOUR if shift.grows else CHAMPION_COLOUR if shift is report.score else CANDIDATE_COLOUR
        axes.barh(place, shift.psi, height=0.62, color=colour)
        axes.plot([shift.noise] * 2, [place - 0.38, place + 0.38], color=INK, linewidth=1.2)
    axes.set_yticks(range(len(shifts)), [_named(s.column, s.importance, s is report.score) for s in shifts])
    axes.invert_yaxis()
    label_axes(axes, "PSI (mark: noise floor)", "", f"{report.verdict.capitalize()}: shifts by importance")
    axes.tick_params(axis="y", labelsize=7.5)
    axes.grid(visible=False, axis="y")
    return png_of(figure)


def score_shift_plot(reference: ColumnSketch, current: ColumnSketch) -> bytes:
    """Share of the rows in each bin of the reference, then and now."""
    figure, (axes,) = new_figure(3.0, 1)
    edges = range(len(reference.counts) + 1)
    for name, sketch, colour in (("training", reference, GRID), ("now", current, CANDIDATE_COLOUR)):
        rows = max(1, int(sketch.cells.sum()))
        share = [count / rows for count in sketch.counts]
        axes.stairs(share, edges, fill=sketch is reference, color=colour, linewidth=1.6, label=f"{name} ({rows:,})")
    step = max(1, len(reference.edges) // 12)
    places = list(range(1, len(reference.edges) + 1))[::step]
    axes.set_xticks(places, [f"{edge:.3g}" for edge in reference.edges[::step]])
    label_axes(axes, f"{reference.name}, in bins of the training rows", "share of rows", "Where the rows lie")
    axes.legend(frameon=False, fontsize=8)
    return png_of(figure)


def drift_markdown(report: DriftReport, reference: Sketch, current: Sketch) -> str:
    """Both pictures as Markdown images; for an empty week, the words."""
    if report.verdict == "empty":
        return report.cause
    score = score_shift_plot(reference.column(SCORE), current.column(SCORE))
    return "\n\n".join((markdown_image("shifts", shifts_plot(report)), markdown_image("score", score)))


def _named(column: str, importance: float, is_score: bool) -> str:
    return column if is_score else f"{column} ({importance:.0%})"
