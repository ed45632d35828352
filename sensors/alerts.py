"""Tells people: what broke, what holds again and what happened, once each. Launches nothing.

Each tick observes every source, tells what the ledger has to tell, and empties the outbox. A source that cannot be read
keeps its open alerts and becomes an alert itself; the others go on.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

import dagster as dg

from assets.models import MODELS
from ml_platform.alerts.records import AlertsUnavailable, Condition
from ml_platform.clock import Clock
from ml_platform.settings import Settings
from resources import LakeResource, LedgerResource, TrackingResource
from sensors.common import TICK_SECONDS
from sensors.conditions import (
    NOTHING_TO_LEARN,
    PLATFORM,
    broken_promises,
    failed_checks,
    held_trainings,
    stale_assets,
)
from sensors.events import CursorUnreadable, Memory, ledger_events, look_at_aliases
from sensors.failures import SHORTEST_SILENCE_SECONDS, SILENT_INTERVALS, failed_runs, failing_sensors
from sensors.retraining import training_of

if TYPE_CHECKING:
    from ml_platform.monitoring.retraining import Training
    from ml_platform.registry.ledger import Ledger

_known: dict[str, Any] = {}
"""What this process found in which state of the record, so that a tick in the same state is cheap; forgetting it costs
time only."""
UNREADABLE = "unreadable"  # the source of what could not be observed


@dg.sensor(minimum_interval_seconds=TICK_SECONDS, default_status=dg.DefaultSensorStatus.RUNNING)
def alerts(
    context: dg.SensorEvaluationContext, lake: LakeResource, ledger: LedgerResource, tracking: TrackingResource
) -> dg.SkipReason:
    """Observes every source, then delivers. See `docs/runbooks` for what each kind means."""
    from ml_platform.alerts.book import AlertBook
    from ml_platform.alerts.delivery import deliver
    from ml_platform.alerts.sinks import sinks_from_env

    settings = Settings.from_env()
    clock, wall = Clock(settings.home), datetime.now(UTC)
    at = clock.now()
    memory = awake(_memory(context), wall)
    book = AlertBook(settings.alerts_url, clock.now)
    changed, unreadable = [], []
    for source, conditions in _sources(context, settings, clock, lake, ledger, memory, wall).items():
        try:
            changed += book.observe(source, _in_time(conditions(), at), at)
        except AlertsUnavailable:
            raise
        except Exception as error:  # whatever stands in the way of one source, the others go on
            unreadable.append(_unreadable(source, f"{type(error).__name__}: {error}", at))
    try:
        entries = ledger.open()
        told = (settings, entries.size())
        if _known.get("told") != told:
            changed += book.tell_all(_in_time(_events(entries), at), at)
            _known["told"] = told
        for said in look_at_aliases(entries, MODELS, tracking, memory, at):
            if isinstance(said, Memory):
                memory = said
            else:
                changed += book.tell_all([said], at)
    except AlertsUnavailable:
        raise
    except Exception as error:
        unreadable.append(_unreadable("ledger", f"{type(error).__name__}: {error}", at))
    if memory.trouble:
        unreadable.append(_unreadable("mlflow", memory.trouble, at))
    changed += book.observe(UNREADABLE, unreadable, at)
    context.update_cursor(memory.written())
    report = deliver(book, sinks_from_env(settings), datetime.now(UTC))
    states = [alert.state for alert in changed]
    counted = ", ".join(f"{states.count(state)} {word}" for state, word in WORDS.items())
    failures = "".join(f"; {sink} is down: {cause}" for sink, cause in report.failures.items())
    unread = f"; not observed: {', '.join(each.key for each in unreadable)}" if unreadable else ""
    return dg.SkipReason(f"{counted}; {report.delivered} sent, {report.pending} wait{failures}{unread}")


WORDS = {"open": "opened", "resolved": "resolved", "told": "told"}


def awake(memory: Memory, now: datetime) -> Memory:
    """Notes this tick. After a long pause the row begins anew: whoever slept cannot call others silent."""
    pause = timedelta(seconds=max(SILENT_INTERVALS * TICK_SECONDS, SHORTEST_SILENCE_SECONDS))
    before = datetime.fromisoformat(memory.ticked_at) if memory.ticked_at else None
    slept = before is None or not timedelta(0) <= now - before <= pause
    since = now.isoformat() if slept else memory.awake_since
    return replace(memory, ticked_at=now.isoformat(), awake_since=since)


def _memory(context: dg.SensorEvaluationContext) -> Memory:
    try:
        return Memory.read(context.cursor)
    except CursorUnreadable as error:
        context.log.warning(str(error))
        return Memory()


def _sources(
    context: dg.SensorEvaluationContext,
    settings: Settings,
    clock: Clock,
    lake: LakeResource,
    ledger: LedgerResource,
    memory: Memory,
    wall: datetime,
) -> dict[str, Callable[[], list[Condition]]]:
    """Every source of alerts by name, read when it is called."""
    instance, repository = context.instance, context.repository_def
    assert repository is not None
    graph = repository.asset_graph
    awake_since = datetime.fromisoformat(memory.awake_since or wall.isoformat())

    @cache
    def training(model: str) -> "Training":
        kinds = ("drift", "performance")
        state = (settings, clock.today(), ledger.open().size(), *(lake.table(kind, model).marks() for kind in kinds))
        return _unless_same(f"training of {model}", state, lambda: training_of(MODELS[model], lake, ledger))

    def nothing_to_learn(model: str) -> bool:
        try:
            return (training(model).held or "").startswith(NOTHING_TO_LEARN)
        except Exception:  # `held` says that it cannot be read
            return False

    def held() -> list[Condition]:
        known = ((spec.name, spec.owner, training(spec.name)) for spec in MODELS.values())
        return held_trainings(known, clock.today())

    return {
        "slo": lambda: broken_promises(settings, clock),
        "freshness": lambda: stale_assets(instance, graph),
        "checks": lambda: failed_checks(instance, graph, nothing_to_learn),
        "runs": lambda: failed_runs(instance, graph),
        "sensors": lambda: failing_sensors(instance, repository, context.sensor_name, wall, awake_since),
        "held": held,
    }


def _unless_same(name: str, state: tuple[object, ...], find: "Callable[[], Training]") -> "Training":
    """What was found in this very state, which costs a comparison; else found anew."""
    known = _known.get(name)
    if known is None or known[0] != state:
        known = _known[name] = (state, find())
    return known[1]


def _events(book: "Ledger") -> list[Condition]:
    return [event for spec in MODELS.values() for event in ledger_events(book, spec)]


def _in_time(conditions: Sequence[Condition], at: datetime) -> list[Condition]:
    """Nothing broke after it was seen: what is known by the wall clock may be years ahead of a replayed day."""
    return [replace(each, since=min(each.since, at)) for each in conditions]


def _unreadable(source: str, cause: str, at: datetime) -> Condition:
    return Condition(
        key=source,
        kind="sensor",
        severity="ticket",
        owner=PLATFORM,
        asset=None,
        title=f"Alerts cannot watch {source}",
        promised="every source of alerts is read at every tick",
        found=f"{cause}; what was open of it stays open",
        since=at,
    )
