"""What of the machinery is broken now: runs that failed, sensors that fail or are silent."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import dagster as dg
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.scheduler.instigation import InstigatorState, InstigatorTick, TickStatus
from dagster._core.storage.tags import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
    PARTITION_NAME_TAG,
)
from dagster_shared.error import SerializableErrorInfo

from ml_platform.alerts.records import Condition, Severity
from sensors.common import MOST_ATTEMPTS, REACTION, TICK_SECONDS
from sensors.conditions import PLATFORM, owner_of, run_link

if TYPE_CHECKING:
    from dagster._core.definitions.assets.graph.asset_graph import AssetGraph

LOOK_BACK_RUNS = 200
SILENT_INTERVALS = 10
SHORTEST_SILENCE_SECONDS = 60  # as long as Dagster lets one evaluation take
WEEKLY = "weekly"
PAGING = ("land ", WEEKLY, "decide ")
RETRIED_AS = "dagster/auto_retry_run_id"
WRAPPERS = ("DagsterExecutionStepExecutionError", "SensorExecutionError", "DagsterUserCodeProcessError")


@dataclass(frozen=True)
class Failure:
    """Why a run failed, and which assets it had made before."""

    cause: str
    made: frozenset[dg.AssetKey]


_failures: dict[str, Failure] = {}
_successes: dict[str, dg.RunRecord] = {}
"""What is known of finished runs, by id: they do not change, but that a failed one is told of its retry."""


def failed_runs(instance: dg.DagsterInstance, graph: "AssetGraph") -> list[Condition]:
    """Things whose last run failed, and whose missing assets no later run has made; one condition a thing.

    Of the last LOOK_BACK_RUNS finished runs. A failure that Dagster has retried speaks through its retry.
    """
    records = _since_oldest_failure(instance)
    broken: dict[str, tuple[dg.RunRecord, int]] = {}
    later: list[dg.DagsterRun] = []
    for record in records:  # newest first
        run = record.dagster_run
        if run.is_success:
            later.append(run)
        elif RETRIED_AS not in run.tags and not _settled(instance, run, later):
            thing = _thing(run)
            _, times = broken.get(thing, (record, 0))
            broken[thing] = (record, times + 1)  # the oldest tells since when
    seen = {record.dagster_run.run_id for record in records}
    for cache in (_failures, _successes):
        for run_id in list(cache.keys() - seen):
            del cache[run_id]
    newest = {_thing(r.dagster_run): r for r in reversed(records) if not r.dagster_run.is_success}
    return [
        _of_run(instance, graph, thing, newest[thing], first, times) for thing, (first, times) in sorted(broken.items())
    ]


def failing_sensors(
    instance: dg.DagsterInstance, repository: dg.RepositoryDefinition, me: str, now: datetime, awake_since: datetime
) -> list[Condition]:
    """Sensors whose last tick failed, and those that are on and have not ticked for long, while `me` has."""
    states = {
        state.instigator_name: state
        for state in instance.all_instigator_state(instigator_type=InstigatorType.SENSOR)
        if state.origin.repository_origin.repository_name == repository.name
    }
    ticks = instance.get_batch_ticks([state.selector_id for state in states.values()], limit=2)
    found = []
    for sensor in sorted(repository.sensor_defs, key=lambda each: each.name):
        state = states.get(sensor.name)
        on = state.is_running if state else sensor.default_status == dg.DefaultSensorStatus.RUNNING
        if sensor.name == me or not on:
            continue
        newest = list(ticks.get(state.selector_id, ())) if state else []
        finished = [tick for tick in newest if tick.status != TickStatus.STARTED]
        if finished and finished[0].status == TickStatus.FAILURE:
            found.append(_failing(sensor.name, finished[0]))
        interval = sensor.minimum_interval_seconds or TICK_SECONDS
        patience = timedelta(seconds=max(SILENT_INTERVALS * interval, SHORTEST_SILENCE_SECONDS))
        since = max([awake_since, *_heard(state, newest)])
        if now - since > patience:
            found.append(_silent(sensor.name, interval, patience, since))
    return found


def cause_of(error: SerializableErrorInfo | None, otherwise: str = "no cause was recorded") -> str:
    """The user's own exception: its class and message, without the frames and what Dagster wraps around it."""
    while error and error.cause and (error.cls_name or "") in WRAPPERS:
        error = error.cause
    return error.message.strip() if error and error.message.strip() else otherwise


def _since_oldest_failure(instance: dg.DagsterInstance) -> list[dg.RunRecord]:
    """Finished runs, newest first, down to the oldest failure in sight; reads no record where none failed."""
    over = dg.RunsFilter(statuses=[dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE])
    failed = dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE])
    failures = set(instance.get_run_ids(failed, limit=LOOK_BACK_RUNS))
    if not failures:
        return []
    recent = instance.get_run_ids(over, limit=LOOK_BACK_RUNS)
    deep = max((place for place, run_id in enumerate(recent, start=1) if run_id in failures), default=0)
    news = [run_id for run_id in recent[:deep] if run_id not in _successes]
    read = (
        {each.dagster_run.run_id: each for each in instance.get_run_records(dg.RunsFilter(run_ids=news))}
        if news
        else {}
    )
    _successes.update({run_id: each for run_id, each in read.items() if each.dagster_run.is_success})
    known = {**_successes, **read}
    return [known[run_id] for run_id in recent[:deep] if run_id in known]


def _thing(run: dg.DagsterRun, most_names: int | None = None) -> str:
    """What a run is about: its reaction, else the assets and partition it makes."""
    reaction = run.tags.get(REACTION)
    if reaction and reaction != WEEKLY:  # one tag for every run of automation
        return reaction
    names = sorted(key.to_user_string() for key in run.asset_selection or ()) or [run.job_name]
    rest = len(names[most_names:]) if most_names else 0
    shown = [*names[:most_names], *([f"{rest} more"] if rest else [])]
    return " ".join(filter(None, [reaction, ", ".join(shown), _partitions(run)]))


def _partitions(run: dg.DagsterRun) -> str:
    if ASSET_PARTITION_RANGE_START_TAG in run.tags:
        return f"{run.tags[ASSET_PARTITION_RANGE_START_TAG]}..{run.tags.get(ASSET_PARTITION_RANGE_END_TAG, '')}"
    return run.tags.get(PARTITION_NAME_TAG, "")


def _settled(instance: dg.DagsterInstance, run: dg.DagsterRun, later: Iterable[dg.DagsterRun]) -> bool:
    """Whether later runs did the same thing, or made what this one had left to make."""
    successes, thing = list(later), _thing(run)
    if any(_thing(each) == thing for each in successes):
        return True
    wanted = set(run.asset_selection or ())
    left = wanted - _failure(instance, run).made or wanted
    made = {key for each in successes if _covers(each, run) for key in each.asset_selection or ()}
    return bool(left) and left <= made


def _covers(success: dg.DagsterRun, run: dg.DagsterRun) -> bool:
    """Whether a run made the other's partitions. Keys are days: their order is that of their names."""
    first, last = _span(run)
    begin, end = _span(success)
    return begin <= first and last <= end


def _span(run: dg.DagsterRun) -> tuple[str, str]:
    key = run.tags.get(PARTITION_NAME_TAG, "")
    return run.tags.get(ASSET_PARTITION_RANGE_START_TAG, key), run.tags.get(ASSET_PARTITION_RANGE_END_TAG, key)


def _failure(instance: dg.DagsterInstance, run: dg.DagsterRun) -> Failure:
    known = _failures.get(run.run_id)
    if known is None:
        made = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION)
        keys = (entry.dagster_event.asset_key for entry in made if entry.dagster_event)
        known = Failure(_cause(instance, run.run_id), frozenset(key for key in keys if key))
        _failures[run.run_id] = known
    return known


def _cause(instance: dg.DagsterInstance, run_id: str) -> str:
    """What the first step that failed raised; where no step did, what ended the run."""
    for entry in instance.all_logs(run_id, of_type=dg.DagsterEventType.STEP_FAILURE)[:1]:
        event = entry.dagster_event
        assert event is not None
        data = event.step_failure_data
        said = data.user_failure_data.description if data.user_failure_data else None
        return f"{event.step_key}: {cause_of(data.error, said or 'no cause was recorded')}"
    for entry in instance.all_logs(run_id, of_type=dg.DagsterEventType.RUN_FAILURE)[:1]:
        event = entry.dagster_event
        assert event is not None
        return cause_of(event.job_failure_data.error, event.message or "no cause was recorded")
    return "no cause was recorded"


def _of_run(
    instance: dg.DagsterInstance,
    graph: "AssetGraph",
    thing: str,
    newest: dg.RunRecord,
    first: dg.RunRecord,
    times: int,
) -> Condition:
    run = newest.dagster_run
    keys = sorted(run.asset_selection or ())
    paging = run.tags.get(REACTION, "").startswith(PAGING) or any(key.path[-1] == "champion" for key in keys)
    severity: Severity = "page" if paging else "ticket"
    often = f"{times} times, at last: " if times > 1 else ""
    given_up = REACTION in run.tags and times >= MOST_ATTEMPTS
    return Condition(
        key=thing,
        kind="run",
        severity=severity,
        owner=owner_of(graph, keys),
        asset=keys[0].to_user_string() if len(keys) == 1 else None,
        title=f"A run failed: {_thing(run, most_names=3)}",
        promised="it succeeds, by itself or when run again" if not given_up else "it succeeds; nobody tries again",
        found=f"{often}{_failure(instance, run).cause}",
        since=datetime.fromtimestamp(first.end_time or first.create_timestamp.timestamp(), UTC),
        link=run_link(run.run_id),
    )


def _failing(name: str, tick: InstigatorTick) -> Condition:
    return Condition(
        key=f"{name} fails",
        kind="sensor",
        severity="ticket",
        owner=PLATFORM,
        asset=None,
        title=f"Sensor {name} fails",
        promised="every tick succeeds",
        found=cause_of(tick.error),
        since=datetime.fromtimestamp(tick.timestamp, UTC),
    )


def _silent(name: str, interval: float, patience: timedelta, since: datetime) -> Condition:
    return Condition(
        key=f"{name} is silent",
        kind="sensor",
        severity="page",
        owner=PLATFORM,
        asset=None,
        title=f"Sensor {name} is silent",
        promised=f"a tick every {interval:g} s, and one within {patience.total_seconds():g} s",
        found=f"none since {since:%Y-%m-%d %H:%M:%S} UTC, while others tick",
        since=since,
    )


def _heard(state: InstigatorState | None, ticks: Iterable[InstigatorTick]) -> list[datetime]:
    """When there was a sign of the sensor: a tick, or that somebody switched it on."""
    started = getattr(state.instigator_data, "last_sensor_start_timestamp", None) if state else None
    return [datetime.fromtimestamp(each, UTC) for each in [*(tick.timestamp for tick in ticks), started] if each]
