"""What is broken now, by the record: promises, freshness, checks, and trainings that something holds back.

One function a source of alerts. Each reads, changes nothing that others see, and returns all that is broken of its
source; what it no longer names holds again. Runs and sensors themselves are in `sensors.failures`.
"""

import os
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, time
from typing import TYPE_CHECKING
from urllib.parse import quote
from zoneinfo import ZoneInfo

import dagster as dg
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluation
from dagster._core.definitions.freshness import FreshnessState
from dagster._core.storage.asset_check_execution_record import (
    COMPLETED_ASSET_CHECK_EXECUTION_RECORD_STATUSES,
    AssetCheckExecutionRecord,
    AssetCheckExecutionRecordStatus,
)

from assets.common import model_key, monitoring_key
from assets.models import MODELS
from assets.slo import CHECK as EVERY_PROMISE_HOLDS
from assets.slo import KEY as SLO
from assets.slo import asset_key, read_promises
from ml_platform.alerts.records import Condition, Kind, Severity
from ml_platform.calendar import BUSINESS_TIMEZONE
from ml_platform.clock import Clock
from ml_platform.settings import Settings

if TYPE_CHECKING:
    from dagster._core.definitions.assets.graph.asset_graph import AssetGraph

    from ml_platform.monitoring.retraining import Training

PLATFORM = "team:data-platform"
NOTHING_TO_LEARN = "nothing to learn"
LATE = "inputs are stale"
DATA_BUGS = ("a data bug", LATE)
CAUSE_KINDS: dict[str, Kind] = {"drift": "drift", "decay": "performance", "age": "slo"}
FIGURES_SHOWN = 6
JUDGED: dict[dg.AssetCheckKey, tuple[Kind, str]] = {
    **{dg.AssetCheckKey(monitoring_key(spec, "drift"), "calm"): ("drift", spec.name) for spec in MODELS.values()},
    **{
        dg.AssetCheckKey(monitoring_key(spec, "performance"), "as_promised"): ("performance", spec.name)
        for spec in MODELS.values()
    },
}
"""Checks that judge a model: their alerts have a kind and a runbook of their own."""
EVALUATIONS = frozenset(model_key(spec, "evaluation") for spec in MODELS.values())


def broken_promises(settings: Settings, clock: Clock) -> list[Condition]:
    """Each promise that is broken on the clock's day, and each error budget that is spent. Keeps the readings."""
    from ml_platform.monitoring.slo import SloBook

    readings = read_promises(settings, clock.today())
    book = SloBook(settings.alerts_url, clock.now)
    book.record(readings)
    found: list[Condition] = []
    for standing in book.standings(readings):
        promise, reading = standing.promise, standing.reading
        link = asset_link(asset_key(promise))
        if reading.state == "broken":
            found.append(
                Condition(
                    key=promise.name,
                    kind=promise.alert_kind,
                    severity=promise.severity,
                    owner=promise.owner,
                    asset=promise.asset,
                    title=f"{promise.asset} breaks its promise ({promise.kind})",
                    promised=promise.promised,
                    found=reading.found,
                    since=start_of(standing.since or reading.day),
                    link=link,
                )
            )
        if standing.budget_left < 0:
            broken = [each.day for each in standing.history if each.held is False]
            found.append(
                Condition(
                    key=f"{promise.name} budget",
                    kind="slo",
                    severity=promise.severity,
                    owner=promise.owner,
                    asset=promise.asset,
                    title=f"{promise.asset} has spent its error budget ({promise.kind})",
                    promised=f"of {promise.window_days} days at most {promise.budget_days:g} are broken",
                    found=f"{len(broken)} days broken",
                    since=start_of(broken[int(promise.budget_days)]),
                    link=link,
                )
            )
    return found


def stale_assets(instance: dg.DagsterInstance, graph: "AssetGraph") -> list[Condition]:
    """Assets that Dagster's own freshness, on the wall clock, calls failed."""
    policies = {node.key: node.freshness_policy for node in graph.asset_nodes if node.freshness_policy}
    return [
        Condition(
            key=key.to_user_string(),
            kind="freshness",
            severity="ticket",
            owner=owner_of(graph, [key]),
            asset=key.to_user_string(),
            title=f"{key.to_user_string()} was not materialised in time",
            promised=_window(policies[key]),
            found=f"stale by the wall clock since {record.updated_at:%Y-%m-%d %H:%M} UTC",
            since=record.updated_at,
            link=asset_link(key),
        )
        for key, record in instance.get_freshness_state_records(list(policies)).items()
        if record.freshness_state == FreshnessState.FAIL
    ]


def failed_checks(
    instance: dg.DagsterInstance, graph: "AssetGraph", nothing_to_learn: Callable[[str], bool]
) -> list[Condition]:
    """Checks whose latest result is a failure, whatever their severity; a check under way stands as it stood before.

    What another source says better is left out: broken promises, and the gates of an evaluation.
    """
    said_elsewhere = dg.AssetCheckKey(SLO, EVERY_PROMISE_HOLDS)
    keys = [key for key in graph.asset_check_keys if key != said_elsewhere and key.asset_key not in EVALUATIONS]
    latest = instance.event_log_storage.get_latest_asset_check_execution_by_key(keys)
    completed = (_completed(instance, record) for record in latest.values())
    failed = [each for each in completed if each and each.status == AssetCheckExecutionRecordStatus.FAILED]
    return sorted((_of_check(graph, each, nothing_to_learn) for each in failed), key=lambda each: each.key)


def held_trainings(trainings: Iterable[tuple[str, str, "Training"]], today: date) -> list[Condition]:
    """Trainings (given as model, owner, decision) that a cause wants and something holds back.

    A first training waits by plan, and a Monday not yet measured is late only once it is over: both are left out.
    """
    found = []
    for model, owner, training in trainings:
        kind = CAUSE_KINDS.get(training.cause or "")
        if kind is None or training.held is None or (training.held.startswith(LATE) and today <= training.cutoff):
            continue
        key = dg.AssetKey(["models", model, "training_set"])
        found.append(
            Condition(
                key=f"{model} {training.cause}",
                kind=kind,
                severity="ticket" if training.held.startswith(DATA_BUGS) else "info",
                owner=owner,
                asset=key.to_user_string(),
                title=f"{model} wants a training ({training.cause}), and it is held back",
                promised=f"a training on {training.cause}: {training.reason}",
                found=training.held,
                since=start_of(training.cutoff),
                link=asset_link(key),
            )
        )
    return found


def asset_link(key: dg.AssetKey) -> str:
    """The asset's page in the UI."""
    return f"{_ui()}/assets/{'/'.join(quote(part, safe='') for part in key.path)}"


def run_link(run_id: str) -> str:
    """The run's page in the UI."""
    return f"{_ui()}/runs/{quote(run_id, safe='')}"


def owner_of(graph: "AssetGraph", keys: Iterable[dg.AssetKey]) -> str:
    """Who answers for these assets: the first owner that one of them names, else the platform."""
    owners = (owner for key in keys if graph.has(key) for owner in graph.get(key).owners)
    return next(iter(owners), PLATFORM)


def start_of(day: date) -> datetime:
    """The first instant of a business day, in UTC."""
    return datetime.combine(day, time.min, ZoneInfo(BUSINESS_TIMEZONE)).astimezone(UTC)


def _ui() -> str:
    return (os.environ.get("ML_PLATFORM_UI_URL") or "http://127.0.0.1:3000").rstrip("/")


def _window(policy: object) -> str:
    window = getattr(policy, "fail_window", None)
    return f"materialised within {window.to_timedelta()}" if window else "materialised by its deadline"


def _completed(instance: dg.DagsterInstance, record: AssetCheckExecutionRecord) -> AssetCheckExecutionRecord | None:
    if record.status in COMPLETED_ASSET_CHECK_EXECUTION_RECORD_STATUSES:
        return record
    before = instance.event_log_storage.get_asset_check_execution_history(
        record.key, limit=1, status=set(COMPLETED_ASSET_CHECK_EXECUTION_RECORD_STATUSES)
    )
    return before[0] if before else None


def _of_check(
    graph: "AssetGraph", record: AssetCheckExecutionRecord, nothing_to_learn: Callable[[str], bool]
) -> Condition:
    key, path, spec = record.key, record.key.asset_key.to_user_string(), graph.get_check_spec(record.key)
    evaluation = record.evaluation
    assert isinstance(evaluation, AssetCheckEvaluation) and record.event is not None  # a completed record has both
    kind, model = JUDGED.get(key, ("check", ""))
    severity: Severity = "ticket" if evaluation.severity == dg.AssetCheckSeverity.ERROR else "info"
    if spec.blocking:
        severity = "page"
    elif model:
        severity = "info" if kind == "drift" and nothing_to_learn(model) else "ticket"
    return Condition(
        key=f"{path} {key.name}",
        kind=kind,
        severity=severity,
        owner=owner_of(graph, [key.asset_key]),
        asset=path,
        title=f"{path} fails its check {key.name}",
        promised=spec.description or f"{key.name} holds",
        found=_found(evaluation),
        since=datetime.fromtimestamp(record.event.timestamp, UTC),
        link=asset_link(key.asset_key),
    )


def _found(evaluation: AssetCheckEvaluation) -> str:
    """The check's own words, then its first figures."""
    plain = {name: entry.value for name, entry in evaluation.metadata.items()}
    figures = [
        f"{name} {value:.6g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in plain.items()
        if isinstance(value, bool | int | float | str)
    ]
    of = [f"partition {evaluation.partition}"] if evaluation.partition else []
    said = [evaluation.description or "it does not hold", *of, *figures[:FIGURES_SHOWN]]
    return "; ".join(said)
