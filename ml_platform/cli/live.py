"""`mlp live`: the year again, day by day; the replay lands files and moves the clock, the daemon decides everything.

With a terminal and a browser: Dagster's webserver and daemon run beside a view of what is going on. Headless: the same
sensors and runs, in this process, as fast as they go. Interrupted, it goes on from its clock. It ends with the story.
"""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date

from dagster import DagsterInstance, DagsterRunStatus, RunsFilter
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.execution.backfill import BulkActionsFilter, BulkActionStatus
from rich.console import Console
from rich.live import Live

from ml_platform.calendar import CLOSING_DAY, DAY, OPENING_DAY, WEEK, last_monday, parse_day
from ml_platform.cli import output
from ml_platform.cli.instance import UNFINISHED, dagster_environment, open_instance
from ml_platform.cli.land import land
from ml_platform.cli.story import UNEVENTFUL, show, story
from ml_platform.cli.ui import HOST, command, port_is_free
from ml_platform.clock import Clock
from ml_platform.errors import ConfigurationError, PlatformError
from ml_platform.landing.files import LandingFolder
from ml_platform.landing.loaded import read_loaded
from ml_platform.landing.tables import DAILY
from ml_platform.settings import REPOSITORY, Settings

DEFAULT_SECONDS_A_DAY = 3.0
LIVE_TICK_SECONDS = 2
MONDAY_PATIENCE_SECONDS = 900
FASTEST = "max"
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Each ends a replay as Ctrl-C does: Dagster runs in a session of its own, and would outlive a closed terminal."""


class ReplayStalled(PlatformError):
    """The daemon did not finish a Monday's work in time."""


def run_live(speed: str, *, headless: bool, start: str | None, until: str | None, port: int) -> None:
    """Replays from where this home's clock stands (or jumps to `start` first) until `until`."""
    seconds = seconds_a_day(speed)
    last = parse_day(until) if until else CLOSING_DAY
    jump = last_monday(parse_day(start)) - DAY if start else None
    settings = Settings.from_env()
    if not Clock(settings.home).replayed:
        Clock(settings.home).move_to(OPENING_DAY)
    if headless:
        _headless(settings, jump, last)
    else:
        _watched(settings, seconds, jump, last, port)
    with open_instance(settings) as instance:
        show([each for each in story(settings, instance) if each.event not in UNEVENTFUL])
    output.console().print(
        f"all of it: ML_PLATFORM_HOME={settings.home} mlp story --json; the judgement: mlp hindsight"
    )


def seconds_a_day(speed: str) -> float:
    """The pause between two days. Raises ConfigurationError."""
    if speed == FASTEST:
        return 0.0
    try:
        seconds = float(speed)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < 3600:
        raise ConfigurationError(
            f"{speed!r} is no speed", where="--speed", next_step=f"give seconds a day, such as 3, or {FASTEST}"
        )
    return seconds


def _headless(settings: Settings, jump: date | None, last: date) -> None:
    """Week by week; each is settled before the next one lands."""
    from ml_platform.cli.headless import headless_daemon

    with output.own_terminal() as terminal, headless_daemon(settings) as daemon:
        for day in _steps(settings, jump, last, weekly=True):
            began = time.monotonic()
            land(day.isoformat(), None, Console(quiet=True), moves_clock=False)
            runs = daemon.settle()  # loaded while it was landing, as a daemon does; then it is Monday
            _follow(settings, day)
            runs += daemon.settle()
            terminal.print(f"{day + DAY}  {runs} runs, {time.monotonic() - began:.0f} s  {_standing(settings)}")


def _watched(settings: Settings, seconds: float, jump: date | None, last: date, port: int) -> None:
    """Day by day beside a running Dagster; a Monday's work is waited for."""
    from ml_platform.cli.live_view import view

    with output.own_terminal() as terminal, _dagster(settings, port), open_instance(settings) as instance:
        terminal.print(f"Dagster is at http://{HOST}:{port}; end with Ctrl-C, go on later with the same command")
        with Live(view(settings), console=terminal, refresh_per_second=2) as screen:
            for day in _steps(settings, jump, last, weekly=False):
                land(day.isoformat(), None, Console(quiet=True), moves_clock=False)
                deadline = time.monotonic() + seconds
                while time.monotonic() < deadline:
                    _follow(settings, day)
                    screen.update(view(settings))
                    time.sleep(0.5)
                if (day + DAY).weekday() == 0:
                    for _ in _until_done(settings, instance, day):
                        screen.update(view(settings))


def _steps(settings: Settings, jump: date | None, last: date, *, weekly: bool) -> Iterator[date]:
    """The days to land up to, one after another: first the jump, if the home has not come so far."""
    landed = LandingFolder(settings.landing).landed_through()
    day = landed or OPENING_DAY
    if landed is not None:
        yield landed  # an interrupted step is finished first
    if jump is not None and jump > day:
        day = jump
        yield day
    while day < last:
        day = min(last_monday(day + DAY) + WEEK - DAY, last) if weekly else day + DAY
        yield day


def _follow(settings: Settings, day: date) -> None:
    """Moves the clock to the day after `day`, but no further than a day ahead of what is loaded: a replay that outruns
    the machine would break every promise of freshness."""
    clock = Clock(settings.home)
    loaded = [read_loaded(settings.lake, name) for name in DAILY]
    known = min(each.landed_on for each in loaded if each) if all(loaded) else OPENING_DAY
    to = min(day, known + DAY) + DAY
    if not clock.replayed or to > clock.today():
        clock.move_to(to)


def _until_done(settings: Settings, instance: DagsterInstance, day: date) -> Iterator[None]:
    """Waits, a look at a time, until the clock has come to the day after, nothing is under way, and every sensor has
    looked twice since and asked for nothing."""
    deadline, quiet_since, looks = time.monotonic() + MONDAY_PATIENCE_SECONDS, time.time(), 0
    under_way = RunsFilter(statuses=[*UNFINISHED, DagsterRunStatus.QUEUED])
    filling = BulkActionsFilter(statuses=[BulkActionStatus.REQUESTED])
    while looks < 2:
        if time.monotonic() > deadline:
            raise ReplayStalled(
                f"the work of {day + DAY} is not done after {MONDAY_PATIENCE_SECONDS} s",
                next_step="look at the runs in the UI; `mlp live` goes on where it stopped",
            )
        yield
        time.sleep(LIVE_TICK_SECONDS)
        _follow(settings, day)
        if Clock(settings.home).today() <= day or instance.get_runs_count(under_way) or instance.get_backfills(filling):
            quiet_since, looks = time.time(), 0
        elif _earliest_look(instance) > quiet_since:
            quiet_since, looks = time.time(), looks + 1


def _earliest_look(instance: DagsterInstance) -> float:
    """When the sensor that has not looked for the longest began to look last, in seconds since 1970; 0 for never."""
    sensors = instance.all_instigator_state(instigator_type=InstigatorType.SENSOR)
    looked = [getattr(each.instigator_data, "last_tick_start_timestamp", None) for each in sensors if each.is_running]
    return min((began or 0.0 for began in looked), default=0.0)


@contextmanager
def _dagster(settings: Settings, port: int) -> Iterator[None]:
    """Webserver and daemon with every sensor on, for as long as the block lasts."""
    if not port_is_free(port):
        raise ConfigurationError("something listens there already", where=f"{HOST}:{port}", next_step="use --port")
    quick = {"ML_PLATFORM_TICK_SECONDS": str(LIVE_TICK_SECONDS), "ML_PLATFORM_STEPS": "in_process"}
    log = (settings.home / "live.log").open("ab")
    server = subprocess.Popen(
        command(port),
        cwd=REPOSITORY,
        env=os.environ | dagster_environment(settings) | quick,
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
    before = {each: signal.signal(each, signal.default_int_handler) for each in ENDING}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
        server.terminate()
        try:
            server.wait(60)
        except subprocess.TimeoutExpired:
            server.kill()
        log.close()


def _standing(settings: Settings) -> str:
    """The champions in a few words."""
    from assets.models import MODELS
    from ml_platform.registry.ledger import Ledger

    book = Ledger(settings.ledger_url, Clock(settings.home).now)
    champions = {name: book.champion(name) for name in MODELS}
    return "  ".join(f"{name} v{found.version}" if found else f"{name} –" for name, found in champions.items())
