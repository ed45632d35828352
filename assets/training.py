"""From features to a trained candidate: the training set of a cutoff, and the worker that learns from it."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from assets.columns import PII_CHECK, lineage_now, pii_result, show_columns
from assets.common import feature_key, model_key, shown, table_of
from assets.feature_tables import FEATURE_TABLES
from assets.partitions import AS_OF_MONDAYS, HISTORY, WEEK_BEFORE
from ml_platform.calendar import parse_monday
from ml_platform.training.job import TrainingJob, write_job
from ml_platform.training.spec import ModelSpec
from resources import LakeResource, LedgerResource, TrackingResource, WarehouseResource
from resources.compute import Compute

if TYPE_CHECKING:
    from ml_platform.tracking.mlflow import Attempt


def build_training_set_asset(spec: ModelSpec) -> dg.AssetsDefinition:
    """`models/<name>/training_set`: mature labels joined point-in-time to features, as known before the cutoff."""
    features = [dg.AssetDep(feature_key(table), partition_mapping=HISTORY) for table in spec.reads]
    marts = [dg.AssetDep(["marts", mart], partition_mapping=WEEK_BEFORE) for mart in spec.label.reads]
    key = model_key(spec, "training_set")

    @dg.asset(
        key=key,
        description=f"Rows {spec.name} learns from and is judged on, as known before the cutoff. {spec.description}",
        deps=[*features, *marts],
        partitions_def=AS_OF_MONDAYS,
        pool="warehouse",
        check_specs=[
            dg.AssetCheckSpec(
                PII_CHECK, asset=key, blocking=True, description="what the inputs are made of, as the spec allows"
            )
        ],
        **shown(spec, "training_set", {"polars", "parquet"}),
    )
    def training_set(
        context: dg.AssetExecutionContext, warehouse: WarehouseResource, lake: LakeResource
    ) -> Iterator[dg.AssetCheckResult | dg.MaterializeResult]:
        from ml_platform.training.sets import build_training_set, summary_rows

        graph = lineage_now(model=spec)
        verdict = pii_result(key, spec, graph)
        yield verdict
        if not verdict.passed:
            raise dg.Failure(f"{spec.name} may not learn from this: {verdict.description}")
        cutoff, sets = parse_monday(context.partition_key), lake.table("training_sets", spec.name)
        mondays = list(spec.split.roles(cutoff, spec.label))
        with warehouse.open(context).session(f"labels of {spec.name}") as session:
            labels = session.read(spec.label.sql.read_text(), {"as_ofs": mondays, "cutoff": cutoff})
            cost = session.cost()
        catalogues = lake.table("catalogues", spec.name)
        built = build_training_set(spec, cutoff, labels, lake.features(FEATURE_TABLES), sets, catalogues)
        show_columns(context, graph, key)
        yield dg.MaterializeResult(
            data_version=dg.DataVersion(built.digest),
            metadata={
                "dagster/row_count": built.published.rows,
                **cost,
                "digest": built.digest,
                "path": dg.MetadataValue.path(str(built.published.path)),
                "rows_by_monday": table_of(summary_rows(built)),
            },
        )

    return training_set


def build_candidate(spec: ModelSpec) -> dg.AssetsDefinition:
    """`models/<name>/candidate`: a bundle trained in a worker process, registered as a version, one tracked attempt."""

    @dg.asset(
        key=model_key(spec, "candidate"),
        description=f"The {spec.trainer.kind} bundle of {spec.name} trained on the cutoff's training set.",
        deps=[model_key(spec, "training_set")],
        partitions_def=AS_OF_MONDAYS,
        **shown(spec, "candidate", {spec.trainer.kind, "mlflow"}),
    )
    def candidate(
        context: dg.AssetExecutionContext,
        lake: LakeResource,
        compute: dg.ResourceParam[Compute],
        tracking: TrackingResource,
        ledger: LedgerResource,
    ) -> dg.MaterializeResult:
        from ml_platform.registry.bundles import open_bundle

        cutoff = parse_monday(context.partition_key)
        data = lake.table("training_sets", spec.name).require(context.partition_key)
        folder = lake.models(spec.name)
        items = lake.table("catalogues", spec.name).published(context.partition_key)
        job = TrainingJob.from_spec(
            spec,
            Path(str(data.path)),
            data.metadata["digest"],
            folder,
            catalogue_path=Path(str(items.path)) if items else None,
        )
        job = replace(job, output=str(folder / job.digest()[:16]))
        track = tracking.open()
        track.close_abandoned(lambda run_id: _is_over(context.instance, run_id))
        with track.attempt(
            spec.name, dagster_run_id=context.run_id, data_digest=job.data_digest, params=job.parameters()
        ) as attempt:
            context.instance.add_run_tags(context.run_id, {f"mlflow/{spec.name}": attempt.run_id})
            written = write_job(job, folder / "jobs" / f"{job.digest()[:16]}.json")
            compute.train(context, written, tell=lambda message: _told(context, attempt, message))
            bundle = open_bundle(folder / job.digest()[:16])
            attempt.log_curves(bundle.curves())
            attempt.log_files(bundle.path, "bundle")
        version = ledger.open().register(
            spec.name,
            bundle_digest=bundle.digest,
            bundle_uri=str(bundle.path),
            cutoff=cutoff,
            training_set_digest=job.data_digest,
            spec_digest=job.spec_digest,
            run_id=context.run_id,
            tracking_run_id=attempt.run_id,
        )
        show_columns(context, lineage_now(), context.asset_key)
        return dg.MaterializeResult(
            data_version=dg.DataVersion(bundle.digest),
            metadata={
                "version": version.version,
                "digest": bundle.digest,
                "bundle": dg.MetadataValue.path(str(bundle.path)),
                "rounds": bundle.report["rounds"],
                "mlflow_run": attempt.url or attempt.run_id,
                "importance": table_of(
                    [{"feature": name, "gain": gain} for name, gain in bundle.json("importance.json")["gain"].items()]
                ),
                **{f"log_loss_{role}": loss for role, loss in bundle.report["log_loss"].items()},
            },
        )

    return candidate


def _told(context: dg.AssetExecutionContext, attempt: "Attempt", message: Mapping[str, Any]) -> None:
    """A worker's progress, as it comes, into tracking; a training is not lost because MLflow is away for a while."""
    from ml_platform.tracking.mlflow import TrackingUnavailable

    if message.get("kind") == "progress":
        try:
            attempt.log_progress(message)
        except TrackingUnavailable as away:
            context.log.warning(f"this progress is not in MLflow: {away}")


def _is_over(instance: dg.DagsterInstance, run_id: str) -> bool:
    """Whether this instance knows the run as ended; one of another instance on the same MLflow may be at work."""
    run = instance.get_run_by_id(run_id)
    return run is not None and run.is_finished
