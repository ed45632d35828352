"""Trains a model again when the record says so: see `ml_platform.monitoring.retraining`."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import dagster as dg

from assets.common import MODEL, model_key
from assets.feature_tables import FEATURE_TABLES
from assets.models import MODELS
from ml_platform.clock import Clock
from ml_platform.settings import Settings
from ml_platform.training.spec import ModelSpec
from resources import LakeResource, LedgerResource
from sensors.common import TICK_SECONDS, one_kind, request

if TYPE_CHECKING:
    from ml_platform.monitoring.retraining import Training

STAGES = ("training_set", "candidate", "evaluation")


@dg.sensor(
    target=dg.AssetSelection.assets(*(model_key(spec, stage) for spec in MODELS.values() for stage in STAGES)),
    minimum_interval_seconds=TICK_SECONDS,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def retraining(
    context: dg.SensorEvaluationContext, lake: LakeResource, ledger: LedgerResource
) -> Iterator[dg.RunRequest | dg.SkipReason]:
    """Training set → candidate → evaluation of the present Monday, with the cause in the run's tags."""
    asked = ((spec, _asked(context.instance, spec, lake, ledger)) for spec in MODELS.values())
    yield from one_kind(_of(spec, each) for spec, each in asked)


def _of(spec: ModelSpec, asked: dg.RunRequest | dg.SkipReason) -> dg.RunRequest | dg.SkipReason:
    """A reason names its model; a request has it in its tags."""
    return dg.SkipReason(f"{spec.name}: {asked.skip_message}") if isinstance(asked, dg.SkipReason) else asked


def training_of(spec: ModelSpec, lake: LakeResource, ledger: LedgerResource) -> "Training":
    """Whether the model is to be trained on the clock's Monday, by the record."""
    from ml_platform.monitoring.retraining import decide_training
    from ml_platform.monitoring.weekly import drift_records, performance_records
    from ml_platform.registry.challengers import challenger

    book = ledger.open()
    return decide_training(
        spec,
        Clock(Settings.from_env().home).today(),
        book.versions(spec.name),
        book.champion(spec.name),
        challenger(book, spec.name, spec.gate_names) if spec.trial else None,
        drift_records(lake.table("drift", spec.name)),
        performance_records(lake.table("performance", spec.name)),
    )


def _asked(
    instance: dg.DagsterInstance, spec: ModelSpec, lake: LakeResource, ledger: LedgerResource
) -> dg.RunRequest | dg.SkipReason:
    found = training_of(spec, lake, ledger)
    monday = found.cutoff.isoformat()
    if not found.due:
        return dg.SkipReason(f"{found.reason}; held back: {found.held}" if found.held else found.reason)
    missing = [name for name in spec.reads if lake.features(FEATURE_TABLES).table(name).published(monday) is None]
    if missing:
        return dg.SkipReason(f"waiting for the features of {monday}: {', '.join(missing)}")
    return request(
        instance,
        f"train {spec.name} {monday}",
        [model_key(spec, stage) for stage in STAGES],
        cause=f"{found.cause}: {found.reason}",
        partition=monday,
        tags={MODEL: spec.name},
    )
