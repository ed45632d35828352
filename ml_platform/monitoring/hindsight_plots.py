"""The picture of a year in hindsight: realised log loss by Monday for each policy, with what happened marked."""

from ml_platform.evaluation.plots import CANDIDATE_COLOUR, CHAMPION_COLOUR, GRID, INK, label_axes, new_figure, png_of
from ml_platform.monitoring.hindsight_verdict import POLICIES, POLICY_WORDS, Hindsight, Policy

_DRIFT_COLOUR = "#f3d9b1"
_LINES: dict[Policy, dict] = {
    "platform": {"color": CANDIDATE_COLOUR, "linewidth": 1.8, "marker": "o", "markersize": 3.5, "zorder": 4},
    "never": {"color": CHAMPION_COLOUR, "linewidth": 1.3, "linestyle": "--", "zorder": 3},
    "weekly": {"color": "#4f8f6f", "linewidth": 1.3, "zorder": 2},
    "shadowed": {"color": "#4f8f6f", "linewidth": 1.1, "linestyle": "--", "zorder": 2},
    "best": {"color": "#7a7a7a", "linewidth": 1.1, "linestyle": ":", "zorder": 1},
}


def hindsight_plot(found: Hindsight) -> bytes:
    """Above: log loss by Monday. Below: how much less than never retraining, where small gaps show. A vertical line is
    a new champion's first Monday, a shaded week one called drifted."""
    from matplotlib.ticker import MaxNLocator

    figure, (axes,) = new_figure(6.0, 1)
    axes.remove()
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(1, 1))
    days = [f"{monday.as_of:%d %b}" for monday in found.mondays]
    places = range(len(days))
    for policy in POLICIES:
        result = found.policies[policy]
        label = f"{POLICY_WORDS[policy]}: {result.log_loss:.4f}, {result.trainings} trained"
        losses = [monday.log_loss[policy] for monday in found.mondays]
        saved = [monday.log_loss["never"] - monday.log_loss[policy] for monday in found.mondays]
        upper.plot(places, losses, label=label, **_LINES[policy])
        lower.plot(places, saved, **_LINES[policy])
    for place, monday in enumerate(found.mondays):
        for each in (upper, lower):
            if monday.drifted:
                each.axvspan(place - 0.5, place + 0.5, color=_DRIFT_COLOUR, alpha=0.6, linewidth=0, zorder=0)
            if monday.new_champion:
                each.axvline(place, color=INK, linewidth=0.9, zorder=1)
        if monday.new_champion:
            words = {"xycoords": ("data", "axes fraction"), "fontsize": 7.5, "color": INK}
            upper.annotate(f" v{monday.version}", (place, 0.97), va="top", **words)
    label_axes(upper, "", "log loss, nats", f"{found.model}: realised log loss (line: new champion, shade: drifted)")
    label_axes(lower, "Monday", "nats less than never retraining", "")
    lower.axhline(0, color=GRID, linewidth=1)
    lower.xaxis.set_major_locator(MaxNLocator(10, integer=True))
    lower.xaxis.set_major_formatter(lambda place, _: days[int(place)] if 0 <= place < len(days) else "")
    figure.legend(*upper.get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False, fontsize=8)
    return png_of(figure)
