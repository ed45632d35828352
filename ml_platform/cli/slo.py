"""`mlp slo`: every promise as it stands now. Reading records nothing; the sensors keep the book."""

import difflib
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from ml_platform.cli import output
from ml_platform.clock import Clock
from ml_platform.errors import PlatformError
from ml_platform.monitoring.promises import Reading
from ml_platform.monitoring.slo import SloBook, Standing
from ml_platform.settings import Settings


class UnknownPromise(PlatformError):
    """Nothing of this name is promised."""


def show_slo(history: str | None, as_json: bool) -> None:
    """All promises, or the days of one. Raises UnknownPromise."""
    settings = Settings.from_env()
    clock = Clock(settings.home)
    today = clock.today()
    standings = _standings(settings, clock, today)
    if history is not None:
        show_history(find(history, standings), as_json)
        return
    rows = [standing.row() for standing in standings]
    if as_json:
        output.show_json(rows)
        return
    output.show_rows([_line(row) for row in rows], title=f"Promises on {today}, in days", as_json=False)
    for row in rows:
        if row["state"] == "broken":
            said = f"{row['promise']}: {row['promised']}; {row['found']}. See {row['runbook']}"
            output.console().print(said, markup=False)


def show_history(standing: Standing, as_json: bool) -> None:
    """A row a day of the window on which someone looked, today's included, newest last."""
    rows = [_day(each) for each in standing.history]
    left = f"{standing.budget_left:g} of {standing.budget_days:g} days of budget left"
    output.show_rows(rows, title=f"{standing.promise.name}: {left}", as_json=as_json)


def find(name: str, standings: Sequence[Standing]) -> Standing:
    """The standing of the promise of that name. Raises UnknownPromise with the nearest name."""
    known = {standing.promise.name: standing for standing in standings}
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f'did you mean "{near[0]}"?' if near else "see `mlp slo` for what is promised"
        raise UnknownPromise(f"nothing is promised under {name!r}", where="--history", next_step=hint)
    return known[name]


def _line(row: Mapping[str, Any]) -> dict[str, Any]:
    """A promise as one line: what is, then what was promised."""
    lag = "–" if row["lag_days"] is None else row["lag_days"]
    return {
        **{name: row[name] for name in ("promise", "state")},
        "lag / promised": f"{lag} / {row['within_days']}",
        "budget left": f"{row['budget_left']:g} / {row['budget_days']:g}",
        **{name: row[name] for name in ("since", "severity", "owner")},
    }


def _day(reading: Reading) -> dict[str, Any]:
    newest = None if reading.newest is None else reading.newest.isoformat()
    return {"day": reading.day.isoformat(), "state": reading.state, "newest": newest, "lag_days": reading.lag_days}


def _standings(settings: Settings, clock: Clock, today: date) -> list[Standing]:
    from assets.slo import read_promises

    return SloBook(settings.alerts_url, clock.now).standings(read_promises(settings, today))
