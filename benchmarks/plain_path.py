"""The whole path without Dagster: the core functions that the assets call, in one plain script.

The measure against which orchestration is taxed. `python -m benchmarks.plain_path` works on what has landed in
`ML_PLATFORM_HOME`; it does the work of every asset and check, and shows and records nothing of it in Dagster.
"""

import sys
import tempfile
from dataclasses import replace
from datetime import date
from pathlib import Path
from types import ModuleType

import polars as pl

from benchmarks.plain_steps import dbt_build, load, publish
from benchmarks.rows import REPOSITORY
from ml_platform.calendar import CLOSING_DAY, DAY, FIRST_AS_OF, LAST_AS_OF, OPENING_DAY, last_monday, mondays
from ml_platform.embeddings import embed
from ml_platform.evaluation.report import Answered, evaluate, flat_metrics
from ml_platform.features.store import FeatureStore
from ml_platform.lake import PartitionedTable
from ml_platform.landing.files import LandingFolder
from ml_platform.monitoring.plots import drift_markdown
from ml_platform.monitoring.weekly import (
    matured_monday,
    measure_drift,
    measure_performance,
    publish_drift,
    publish_performance,
)
from ml_platform.predictions import Scorer, contract, predict
from ml_platform.registry import promotion
from ml_platform.registry.bundles import open_bundle
from ml_platform.registry.ledger import Ledger
from ml_platform.registry.records import PromotionRefused
from ml_platform.settings import Settings
from ml_platform.tasks import task_of
from ml_platform.tracking.mlflow import Tracking
from ml_platform.training.compute import run_worker
from ml_platform.training.job import TrainingJob, write_job
from ml_platform.training.rehearsal import is_reproducible
from ml_platform.training.sets import build_training_set
from ml_platform.training.spec import ModelSpec
from ml_platform.warehouse.duckdb import DuckDBWarehouse

# The declarations are plain, but the package they stand in builds the graph when imported; an empty stand-in does not.
_assets = ModuleType("assets")
_assets.__path__ = [str(REPOSITORY / "assets")]
sys.modules["assets"] = _assets
from assets.feature_tables import FEATURE_TABLES  # noqa: E402
from assets.models import MODELS  # noqa: E402


def main() -> None:
    """Raw, SQL, features, then the life cycle of each model at the newest Monday. Raises what any of it raises."""
    settings = Settings.from_env()
    landing = LandingFolder(settings.landing)
    landed = landing.landed_through()
    if landed is None:
        raise SystemExit("nothing has landed: mlp land --until 2017-12-31")
    landed, newest = min(landed, CLOSING_DAY), min(last_monday(landed + DAY), LAST_AS_OF)
    warehouse = DuckDBWarehouse(settings.warehouse_file)
    load(warehouse, landing, OPENING_DAY, landed)
    dbt_build(warehouse, ["staging", "marts"], {"landed_from": OPENING_DAY, "landed_to": landed})
    dbt_build(warehouse, ["feature_models"], {"as_of_from": FIRST_AS_OF, "as_of_to": newest})
    store = FeatureStore(settings.lake, FEATURE_TABLES)
    publish(warehouse, store, FEATURE_TABLES, mondays(FIRST_AS_OF, newest))
    for spec in MODELS.values():
        _live(spec, newest, settings, warehouse, store)


def _live(spec: ModelSpec, cutoff: date, settings: Settings, warehouse: DuckDBWarehouse, store: FeatureStore) -> None:
    """training set -> candidate -> evaluation -> champion -> predictions."""
    sets = PartitionedTable(settings.lake / "training_sets", spec.name)
    with warehouse.session(f"labels of {spec.name}") as session:
        asked = {"as_ofs": list(spec.split.roles(cutoff, spec.label)), "cutoff": cutoff}
        labels = session.read(spec.label.sql.read_text(), asked)
    catalogues = PartitionedTable(settings.lake / "catalogues", spec.name)
    built = build_training_set(spec, cutoff, labels, store, sets, catalogues)
    folder, data = settings.lake / "models" / spec.name, Path(str(built.published.path))
    offered = Path(str(built.items.path)) if built.items else None
    items = catalogues.read(cutoff.isoformat()) if offered else None
    job = TrainingJob.from_spec(spec, data, built.digest, folder, catalogue_path=offered)
    job = replace(job, output=str(folder / job.digest()[:16]))
    book, tracking = Ledger(settings.ledger_url), Tracking(settings.tracking_uri, settings.mlflow_artifacts)
    with tracking.attempt(
        spec.name, dagster_run_id="plain", data_digest=job.data_digest, params=job.parameters()
    ) as attempt:
        run_worker(write_job(job, folder / "jobs" / f"{job.digest()[:16]}.json"))
        bundle = open_bundle(Path(job.output))
        attempt.log_curves(bundle.curves())
        attempt.log_files(bundle.path, "bundle")
    version = book.register(
        spec.name,
        bundle_digest=bundle.digest,
        bundle_uri=str(bundle.path),
        cutoff=cutoff,
        training_set_digest=job.data_digest,
        spec_digest=job.spec_digest,
        run_id="plain",
        tracking_run_id=attempt.run_id,
    )
    frame = sets.read(cutoff.isoformat())
    rows = frame.filter(pl.col("role") == "evaluate")
    with tempfile.TemporaryDirectory() as aside:
        same = is_reproducible(spec, bundle, data, built.digest, Path(aside), catalogue_path=offered)
    scored = Answered(bundle.digest, task_of(spec).answers(bundle, rows, items))
    found = evaluate(spec, frame, scored, None, reproducible=same, items=items)
    book.record_verdict(spec.name, version.version, found.verdict.to_json(), None)
    attempt.log_metrics(flat_metrics(found))
    attempt.log_plots(task_of(spec).plots(found))
    promoted = _promote(spec, book, version.version)
    tracking.project(book, spec.name)
    if not promoted:
        return
    predictions = predict(spec, {"champion": Scorer(version.version, bundle)}, store, cutoff)
    outcome = contract(spec, store).check(predictions)
    if not outcome.passed:
        raise SystemExit(f"predictions of {spec.name} break their contract")
    table = PartitionedTable(settings.lake / "predictions", spec.name)
    table.publish(table.stage(cutoff.isoformat(), predictions, {"champion": str(version.version)}))
    if spec.items:
        vectors = PartitionedTable(settings.lake / "embeddings", spec.name)
        frame = embed(spec, version.version, bundle, store, cutoff)
        vectors.publish(vectors.stage(cutoff.isoformat(), frame, {"version": str(version.version)}))
    _monitor(spec, Scorer(version.version, bundle), predictions, cutoff, settings, warehouse, store)


def _monitor(
    spec: ModelSpec,
    champion: Scorer,
    predictions: pl.DataFrame,
    monday: date,
    settings: Settings,
    warehouse: DuckDBWarehouse,
    store: FeatureStore,
) -> None:
    """drift and performance of the newest Monday; nobody predicted the one that has matured."""
    found = measure_drift(spec, champion, store, predictions, monday, FEATURE_TABLES)
    publish_drift(PartitionedTable(settings.lake / "drift", spec.name), found.report, found.record)
    drift_markdown(found.report, champion.bundle.reference(), found.current)
    with warehouse.session(f"matured labels of {spec.name}") as session:
        asked = {"as_ofs": [matured_monday(spec, monday)], "cutoff": monday}
        labels = session.read(spec.label.sql.read_text(), asked)
    frame, _, record = measure_performance(spec, None, labels, None, monday)
    publish_performance(PartitionedTable(settings.lake / "performance", spec.name), frame, record)


def _promote(spec: ModelSpec, book: Ledger, version: int) -> bool:
    """Makes the version champion if its verdict allows; a refusal is said, as the graph says it."""
    try:
        promotion.promote(
            book,
            spec.name,
            version,
            gates=spec.gate_names,
            who="plain_path",
            reason="passed every gate",
            today=date.today(),
            read_digest=lambda version: open_bundle(Path(version.bundle_uri)).digest,
        )
    except PromotionRefused as refused:
        print(refused)
        return False
    return True


if __name__ == "__main__":
    main()
