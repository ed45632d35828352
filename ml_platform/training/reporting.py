"""What a worker says while it works: through Dagster Pipes when Dagster started it, as plain lines otherwise.

A Reporter takes words for people (`log`) and payloads for programs (`send`, JSON objects with a `kind`:
`progress`, `result` or `failure`). Plain output shows the words alone: the payloads repeat them.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from ml_platform.errors import PlatformError


class Reporter(Protocol):
    """Where a worker's words go."""

    def log(self, text: str) -> None: ...

    def send(self, payload: Mapping[str, Any]) -> None: ...


class PlainReporter:
    """Prints lines to standard output at once."""

    def log(self, text: str) -> None:
        print(text, flush=True)

    def send(self, payload: Mapping[str, Any]) -> None:
        """Programs that read plain output read the bundle instead."""


class SilentReporter:
    """Of the processes of one training, all but the first."""

    def log(self, text: str) -> None:
        """The first one says it."""

    def send(self, payload: Mapping[str, Any]) -> None:
        """The first one sends it."""


class PipesReporter:
    """Speaks to the Dagster step that started this process: its log, and its custom messages."""

    def __init__(self, context: Any) -> None:
        self._context = context

    def log(self, text: str) -> None:
        self._context.log.info(text)

    def send(self, payload: Mapping[str, Any]) -> None:
        self._context.report_custom_message(dict(payload))


@contextmanager
def open_reporter(speaks: bool = True) -> Iterator[Reporter]:
    """The reporter this process was started with, a silent one unless it `speaks`. An error that passes through is told
    to Dagster before it goes on."""
    from dagster_pipes import PipesEnvVarParamsLoader, open_dagster_pipes

    if not speaks:
        yield SilentReporter()
        return
    if not PipesEnvVarParamsLoader().is_dagster_pipes_process():
        yield PlainReporter()
        return
    with open_dagster_pipes() as context:
        reporter = PipesReporter(context)
        try:
            yield reporter
        except PlatformError as error:
            context.log.error(f"{type(error).__name__}: {error}")
            reporter.send(
                {
                    "kind": "failure",
                    "error": type(error).__name__,
                    "what": error.what,
                    "where": error.where,
                    "next_step": error.next_step,
                }
            )
            raise
