"""What a ranker has learnt to see: a vector of every product and household, each under the version that made it."""

from pathlib import Path

import dagster as dg

from assets.automation import when_inputs_are_new
from assets.columns import lineage_now, show_columns
from assets.common import feature_key, model_key, predictions_key, shown
from assets.feature_tables import FEATURE_TABLES
from assets.partitions import AS_OF_MONDAYS
from ml_platform.calendar import parse_monday
from ml_platform.training.spec import ModelSpec
from resources import LakeResource, LedgerResource


def build_embeddings(spec: ModelSpec) -> dg.AssetsDefinition:
    """`models/<name>/embeddings`: of the champion that served the Monday; two versions' vectors never mix."""

    @dg.asset(
        key=model_key(spec, "embeddings"),
        description=f"Vectors of products and households by {spec.name}; comparable only within one model_version.",
        deps=[predictions_key(spec), *(feature_key(table) for table in spec.reads)],
        partitions_def=AS_OF_MONDAYS,
        automation_condition=when_inputs_are_new(),
        **shown(spec, "embeddings", {"polars", "parquet"}),
    )
    def embeddings(
        context: dg.AssetExecutionContext, lake: LakeResource, ledger: LedgerResource
    ) -> dg.MaterializeResult:
        from ml_platform.embeddings import embed
        from ml_platform.registry.bundles import open_bundle

        as_of, table = parse_monday(context.partition_key), lake.table("embeddings", spec.name)
        served = lake.table("predictions", spec.name).require(context.partition_key)
        version = ledger.open().version(spec.name, int(served.metadata["champion"]))
        bundle = open_bundle(Path(version.bundle_uri))
        frame = embed(spec, version.version, bundle, lake.features(FEATURE_TABLES), as_of)
        published = table.publish(table.stage(context.partition_key, frame, {"version": str(version.version)}))
        show_columns(context, lineage_now(), context.asset_key)
        return dg.MaterializeResult(
            data_version=dg.DataVersion(published.digest),
            metadata={
                "dagster/row_count": published.rows,
                "model_version": version.version,
                "dimensions": len(frame["vector"][0]),
                "path": dg.MetadataValue.path(str(published.path)),
            },
        )

    return embeddings
