"""The live view of a run: Dagster's events, as they are stored, become lines; failures are kept."""

from dataclasses import dataclass, field
from typing import Any

from dagster import DagsterEvent, DagsterEventType
from dagster._core.events.log import EventLogEntry
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from ml_platform.cli.failures import StepFailure

ROW_COUNT = "dagster/row_count"
KEY_WIDTH = 46


@dataclass
class RunView:
    """Counts and prints steps, assets and checks of one run. `failures` holds what went wrong, in order."""

    console: Console
    title: str
    steps: int
    failures: list[StepFailure] = field(default_factory=list)
    failed_checks: list[str] = field(default_factory=list)
    _shown: set[str] = field(default_factory=set)

    def __enter__(self) -> "RunView":
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        self._progress = Progress(*columns, console=self.console, transient=True)
        self._task = self._progress.add_task(self.title, total=self.steps)
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def on_event(self, entry: EventLogEntry) -> None:
        """Called by the instance for every event of the run, on the thread that executes it."""
        event = entry.dagster_event
        if event is None:
            if entry.step_key and entry.user_message:
                self._say(f"{self.title} · {entry.step_key}: {entry.user_message.splitlines()[0][:90]}")
            return
        handler = self._HANDLERS.get(event.event_type)
        if handler:
            handler(self, event)

    def _say(self, text: str) -> None:
        self._progress.update(self._task, description=escape(text))

    def _line(self, mark: str, what: str, rest: str = "") -> None:
        self.console.print(f"  {mark} {escape(what):<{KEY_WIDTH}} {rest}", soft_wrap=True)

    def _started(self, event: DagsterEvent) -> None:
        self._say(f"{self.title} · {event.step_key}")

    def _materialized(self, event: DagsterEvent) -> None:
        assert event.asset_key
        key = event.asset_key.to_user_string()
        if key not in self._shown:
            self._shown.add(key)
            rows = row_count(event.step_materialization_data.materialization.metadata)
            self._line("[green]✓[/]", key, "" if rows is None else f"{rows:>12,} rows")

    def _checked(self, event: DagsterEvent) -> None:
        evaluation = event.asset_check_evaluation_data
        if evaluation.passed:
            return
        name = f"{evaluation.asset_key.to_user_string()}: {evaluation.check_name}"
        self.failed_checks.append(name)
        self._line("[yellow]✗[/]", name, f"[yellow]{escape(evaluation.description or 'check failed')}[/]")

    def _succeeded(self, event: DagsterEvent) -> None:
        self._progress.advance(self._task)

    def _failed(self, event: DagsterEvent) -> None:
        failure = StepFailure.from_event(event)
        self.failures.append(failure)
        self._line("[red]✗[/]", failure.step, f"[red]{escape(failure.what.splitlines()[0])}[/]")
        self._progress.advance(self._task)

    def _skipped(self, event: DagsterEvent) -> None:
        self._line("[dim]–[/]", str(event.step_key), "[dim]skipped[/]")
        self._progress.advance(self._task)

    _HANDLERS = {
        DagsterEventType.STEP_START: _started,
        DagsterEventType.ASSET_MATERIALIZATION: _materialized,
        DagsterEventType.ASSET_CHECK_EVALUATION: _checked,
        DagsterEventType.STEP_SUCCESS: _succeeded,
        DagsterEventType.STEP_FAILURE: _failed,
        DagsterEventType.STEP_SKIPPED: _skipped,
    }


def row_count(metadata: Any) -> int | None:
    """The rows an asset said it has, from its materialisation's metadata."""
    value = metadata.get(ROW_COUNT)
    return None if value is None else int(value.value)
