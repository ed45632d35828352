"""Asks the `champion` asset to decide whenever what it decides by has changed; nothing else promotes or rolls back."""

from collections.abc import Iterator

import dagster as dg

from assets.common import model_key
from assets.models import MODELS
from ml_platform.training.spec import ModelSpec
from resources import LakeResource, LedgerResource
from sensors.common import TICK_SECONDS, request


@dg.sensor(
    target=dg.AssetSelection.assets(*(model_key(spec, "champion") for spec in MODELS.values())),
    minimum_interval_seconds=TICK_SECONDS,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def promotion(
    context: dg.SensorEvaluationContext, lake: LakeResource, ledger: LedgerResource
) -> Iterator[dg.RunRequest | dg.SkipReason]:
    """One decision for each state of the record: a new verdict, a newly matured Monday, another champion."""
    said, asked_for = [], 0
    for spec in MODELS.values():
        state = _state(spec, lake, ledger)
        if state is None:
            said.append(f"{spec.name}: no version has a verdict yet")
            continue
        name = f"decide {spec.name} {state}"
        asked = request(context.instance, name, [model_key(spec, "champion")], cause=state)
        if isinstance(asked, dg.RunRequest):
            asked_for += 1
            yield asked
        else:
            said.append(str(asked.skip_message))
    if not asked_for:
        yield dg.SkipReason("; ".join(said))


def _state(spec: ModelSpec, lake: LakeResource, ledger: LedgerResource) -> str | None:
    """What the decision depends on, in words: verdicts, entries, retirements and the newest matured Monday."""
    book = ledger.open()
    judged = [verdict for version in book.versions(spec.name) if (verdict := book.verdict(spec.name, version.version))]
    if not judged:
        return None
    verdicts = " ".join(f"v{verdict.version}.{verdict.seq}" for verdict in judged[-1:])
    matured = lake.table("performance", spec.name).partitions()[-1:] if book.champion(spec.name) else []
    return f"{verdicts} entries {len(book.history(spec.name))} matured {' '.join(matured) or 'none'}"
