"""What `mlp` prints: tables, JSON, error panels, and a terminal that stays ours while runs write logs of their own."""

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table

from ml_platform.errors import PlatformError

WIDTH_OF_A_PIPE = 1000


def console() -> Console:
    """A console on standard output as it is now. A pipe or a file has no width of its own, so nothing is wrapped there
    and names can be searched for; `COLUMNS` states one."""
    found = Console(soft_wrap=False, highlight=False)
    if not found.is_terminal and "COLUMNS" not in os.environ:
        found.width = WIDTH_OF_A_PIPE
    return found


def show_error(error: PlatformError) -> None:
    """What, where, next: on standard error."""
    lines = [escape(error.what)]
    if error.where:
        lines.append(f"[dim]where[/]  {escape(error.where)}")
    if error.next_step:
        lines.append(f"[bold]next[/]   {escape(error.next_step)}")
    panel = Panel("\n".join(lines), title=type(error).__name__, title_align="left", border_style="red")
    Console(stderr=True, highlight=False).print(panel)


def show_json(value: object) -> None:
    """JSON on standard output; days and paths as text."""
    print(json.dumps(value, indent=2, default=str))


def show_rows(rows: Sequence[Mapping[str, Any]], *, title: str, as_json: bool, to: Console | None = None) -> None:
    """The same rows as a table or as JSON. Numbers are right-aligned, None is a dash, booleans a tick or a cross."""
    if as_json:
        show_json(list(rows))
        return
    table = Table(title=title, title_justify="left", title_style="bold", header_style="dim", box=None, pad_edge=False)
    names = list(rows[0]) if rows else []
    for name in names:
        numeric = any(isinstance(row[name], int | float) and not isinstance(row[name], bool) for row in rows)
        table.add_column(name.replace("_", " "), justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(cell(row[name]) for name in names))
    target = to or console()
    target.print(table if rows else f"[bold]{title}[/]: none")
    target.print()


def cell(value: object) -> str:
    """One value as table text (markup escaped)."""
    if value is None:
        return "[dim]–[/]"
    if isinstance(value, bool):
        return "[green]✓[/]" if value else "[red]✗[/]"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1 else f"{value:,.1f}"
    if isinstance(value, list | tuple):
        return escape(", ".join(map(str, value)))
    return escape(str(value))


@contextmanager
def own_terminal() -> Iterator[Console]:
    """Keeps the terminal for the progress view: file descriptors 1 and 2 go nowhere inside.

    Dagster captures what steps print into log files (shown by the UI) and mirrors it to these descriptors, through
    processes of its own; replacing `sys.stdout` would not stop them.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [(number, os.dup(number)) for number in (1, 2)]
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        for number, _ in kept:
            os.dup2(nowhere, number)
        with os.fdopen(os.dup(kept[0][1]), "w", encoding="utf-8") as real:
            yield Console(file=real, highlight=False)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, copy in kept:
            os.dup2(copy, number)
            os.close(copy)
        os.close(nowhere)
