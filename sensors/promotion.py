"""Asks the `champion` asset to decide whenever what it decides by has changed; nothing else promotes or rolls back."""

from collections.abc import Iterator

import dagster as dg

from assets.common import model_key
from assets.models import MODELS
from ml_platform.training.spec import ModelSpec
from resources import LakeResource, LedgerResource
from sensors.common import TICK_SECONDS, one_kind, request


@dg.sensor(
    target=dg.AssetSelection.assets(*(model_key(spec, "champion") for spec in MODELS.values())),
    minimum_interval_seconds=TICK_SECONDS,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def promotion(
    context: dg.SensorEvaluationContext, lake: LakeResource, ledger: LedgerResource
) -> Iterator[dg.RunRequest | dg.SkipReason]:
    """One decision for each state of the record: a new verdict, a newly matured Monday, another champion."""
    yield from one_kind(_asked(context.instance, spec, lake, ledger) for spec in MODELS.values())


def _asked(
    instance: dg.DagsterInstance, spec: ModelSpec, lake: LakeResource, ledger: LedgerResource
) -> dg.RunRequest | dg.SkipReason:
    state = _state(spec, lake, ledger)
    if state is None:
        return dg.SkipReason(f"{spec.name}: no version has a verdict yet")
    return request(instance, f"decide {spec.name} {state}", [model_key(spec, "champion")], cause=state)


def _state(spec: ModelSpec, lake: LakeResource, ledger: LedgerResource) -> str | None:
    """What the decision depends on, in words: the newest verdict, the entries and the newest matured Monday."""
    book = ledger.open()
    verdicts = (book.verdict(spec.name, version.version) for version in reversed(book.versions(spec.name)))
    newest = next((verdict for verdict in verdicts if verdict), None)
    if newest is None:
        return None
    matured = lake.table("performance", spec.name).partitions()[-1:] if book.champion(spec.name) else []
    return (
        f"v{newest.version}.{newest.seq} entries {len(book.history(spec.name))} matured {' '.join(matured) or 'none'}"
    )
