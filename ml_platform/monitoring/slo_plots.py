"""The picture of all promises: every day of the window, green or red, and what is left of each budget."""

from collections.abc import Sequence
from datetime import date

from ml_platform.calendar import DAY
from ml_platform.evaluation.plots import CHAMPION_COLOUR, GRID, INK, label_axes, markdown_image, new_figure, png_of
from ml_platform.monitoring.slo import Standing

HELD_COLOUR, UNSEEN_COLOUR = "#4f8f6f", "#eeeeee"
LONGEST_NAME = 34


def promises_plot(standings: Sequence[Standing], today: date) -> bytes:
    """Left: a row a promise, a cell a day (grey: nobody looked). Right: the share of the budget that is left."""
    from matplotlib.colors import ListedColormap

    window = max(each.promise.window_days for each in standings)
    first = today - (window - 1) * DAY
    figure, (days, budget) = new_figure(1.2 + 0.24 * len(standings), 2, widths=(3, 1))
    days.imshow(
        [_cells(each, first, window) for each in standings],
        cmap=ListedColormap([UNSEEN_COLOUR, HELD_COLOUR, CHAMPION_COLOUR]),
        vmin=0,
        vmax=2,
        aspect="auto",
        interpolation="nearest",
    )
    rows = range(len(standings))
    days.set_yticks(rows, [_short(each.promise.name) for each in standings])
    ticks = list(range(window - 1, -1, -28))[::-1]
    days.set_xticks(ticks, [f"{first + tick * DAY:%d %b}" for tick in ticks])
    label_axes(days, "", "", f"Held (green), broken (red), to {today}")
    days.grid(visible=False)
    left = [max(0.0, each.budget_left / each.budget_days) if each.budget_days else 0.0 for each in standings]
    budget.barh(rows, left, height=0.6, color=HELD_COLOUR)
    for row, each in zip(rows, standings):
        colour = CHAMPION_COLOUR if each.budget_left < 0 else INK
        budget.text(0.02, row, f"{each.budget_left:g} d", va="center", fontsize=7, color=colour)
    budget.set_xlim(0, 1)
    budget.set_ylim(days.get_ylim())
    budget.set_yticks([])
    budget.set_xticks([0, 0.5, 1], ["0", "50 %", "100 %"])
    label_axes(budget, "", "", "Budget left")
    days.tick_params(axis="y", labelsize=7.5)
    budget.spines["left"].set_color(GRID)
    return png_of(figure)


def promises_markdown(standings: Sequence[Standing], today: date) -> str:
    """The picture as one Markdown image; without promises, the words."""
    return markdown_image("promises", promises_plot(standings, today)) if standings else "nothing is promised"


def _cells(standing: Standing, first: date, window: int) -> list[int]:
    """[window] 0: not seen, 1: held, 2: broken."""
    seen = {(each.day - first).days: 1 if each.held else 2 for each in standing.history}
    return [seen.get(number, 0) for number in range(window)]


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"…{name[1 - LONGEST_NAME :]}"
