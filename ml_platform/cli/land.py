"""`mlp land`: the reference data's files land, up to a day."""

from collections import Counter
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ml_platform.calendar import CLOSING_DAY, DAY, NotADay, parse_day
from ml_platform.cli import output
from ml_platform.clock import Clock
from ml_platform.landing.files import Delivery, LandingFolder
from ml_platform.settings import Settings


def land_until(until: str, since: str | None, as_json: bool) -> None:
    """Lands and shows a row per table."""
    landed = land(until, since, Console(stderr=True))
    output.show_rows(summary(landed), title=f"Landed until {until}", as_json=as_json)


def land(until: str, since: str | None, progress_on: Console, *, moves_clock: bool = True) -> list[Delivery]:
    """Lands from `since` (the first day not landed when None) to `until`, and moves the clock to the day after.

    What is replayed is the past: its "today" is the day after the last file, not the wall clock's. Raises NotADay and
    LandingConflict.
    """
    from ml_platform.landing.replay import ReplayRates, replay

    settings, last = Settings.from_env(), parse_day(until)
    if last > CLOSING_DAY:
        raise NotADay(
            f"the reference data ends on {CLOSING_DAY}", where="--until", next_step=f"use {CLOSING_DAY} or earlier"
        )
    folder, clock = LandingFolder(settings.landing), Clock(settings.home)
    newest = folder.landed_through()
    first = parse_day(since) if since else newest + DAY if newest else None
    if first and first > last:
        if since:
            raise NotADay(f"{first} is after {last}", where="--from", next_step="give a day on or before --until")
        return []
    bar = Progress(
        TextColumn("landing {task.description}"), BarColumn(24), MofNCompleteColumn(), TimeElapsedColumn(),
        console=progress_on, transient=True,
    )  # fmt: skip
    with bar:
        task = bar.add_task("reading the data", total=None)

        def advance(delivery: Delivery, done: int, total: int) -> None:
            bar.update(task, description=f"{delivery.table} {delivery.landed_on}", completed=done, total=total)

        landed = replay(
            folder, last, since=first, rates=ReplayRates.from_env(), households=settings.households, progress=advance
        )
    if moves_clock and (not clock.replayed or clock.today() <= last):
        clock.move_to(last + DAY)
    return landed


def summary(landed: list[Delivery]) -> list[dict[str, Any]]:
    """A row per table: how many deliveries and rows, and of which days."""
    counts = Counter(delivery.table for delivery in landed)
    rows = []
    for table in sorted(counts):
        mine = [delivery for delivery in landed if delivery.table == table]
        landed_on = [delivery.landed_on.isoformat() for delivery in mine]
        total = sum(delivery.rows for delivery in mine)
        rows.append(
            {
                "table": table,
                "deliveries": counts[table],
                "rows": total,
                "first": min(landed_on),
                "last": max(landed_on),
            }
        )
    return rows
