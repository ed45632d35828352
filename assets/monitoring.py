"""Monitoring of a model: how far each Monday moved from what it was trained on, and how well each turned out.

`monitoring/<model>/drift` speaks on the Monday itself, of inputs and scores; `monitoring/<model>/performance` weeks
later, when the labels have matured, of results. Neither acts: sensors read what they keep.
"""

from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg

from assets.automation import when_inputs_are_new
from assets.common import feature_key, monitoring_key, predictions_key, shown, table_of
from assets.feature_tables import FEATURE_TABLES
from assets.partitions import AS_OF_MONDAYS, WEEK_BEFORE
from ml_platform.calendar import parse_monday
from ml_platform.training.spec import ModelSpec
from resources import LakeResource, LedgerResource, WarehouseResource

if TYPE_CHECKING:
    import polars as pl


class DriftConfig(dg.Config):
    """`report`: write Evidently's full report also for a calm Monday (it takes some ten seconds)."""

    report: bool = False


def build_drift(spec: ModelSpec) -> dg.AssetsDefinition:
    """`monitoring/<name>/drift`: ranked shifts against the champion's reference, and one verdict."""
    key = monitoring_key(spec, "drift")

    @dg.asset(
        key=key,
        description=f"Features and scores of a Monday against what the champion of {spec.name} was trained on.",
        deps=[predictions_key(spec), *(feature_key(table) for table in spec.reads)],
        partitions_def=AS_OF_MONDAYS,
        check_specs=[dg.AssetCheckSpec("calm", asset=key, description="The Monday is like those of the training.")],
        automation_condition=when_inputs_are_new(),
        **shown(spec, "drift", {"polars", "parquet", "evidently"}),
    )
    def drift(
        context: dg.AssetExecutionContext, config: DriftConfig, lake: LakeResource, ledger: LedgerResource
    ) -> dg.MaterializeResult:
        from ml_platform.monitoring.plots import drift_markdown
        from ml_platform.monitoring.weekly import measure_drift, publish_drift
        from ml_platform.predictions import Scorer
        from ml_platform.registry.bundles import open_bundle

        as_of, store = parse_monday(context.partition_key), lake.features(FEATURE_TABLES)
        predictions = lake.table("predictions", spec.name)
        served = predictions.require(context.partition_key)
        version = ledger.open().version(spec.name, int(served.metadata["champion"]))
        champion = Scorer(version.version, open_bundle(Path(version.bundle_uri)))
        found = measure_drift(spec, champion, store, predictions.read(context.partition_key), as_of, FEATURE_TABLES)
        publish_drift(lake.table("drift", spec.name), found.report, found.record)
        html = {}
        if config.report or found.record.verdict == "drifted":
            trained_on = lake.table("training_sets", spec.name).read(version.cutoff.isoformat())
            html = {"evidently": _evidently(spec, trained_on, found.inputs, lake.reports(spec.name), as_of)}
        return dg.MaterializeResult(
            metadata={
                "verdict": found.record.verdict,
                "cause": found.record.cause,
                "model_version": version.version,
                **found.record.figures,
                "shifts": table_of(found.report.table()),
                "plots": dg.MetadataValue.md(drift_markdown(found.report, champion.bundle.reference(), found.current)),
                **html,
            },
            check_results=[
                dg.AssetCheckResult(
                    check_name="calm",
                    passed=found.record.verdict in ("calm", "empty"),
                    severity=dg.AssetCheckSeverity.WARN,
                    description=found.record.cause,
                    metadata=dict(found.record.figures),
                )
            ],
        )

    return drift


def build_performance(spec: ModelSpec) -> dg.AssetsDefinition:
    """`monitoring/<name>/performance`: what was predicted then, met with the labels that have matured since."""
    key = monitoring_key(spec, "performance")
    weeks = -(-spec.label.maturity.days // 7)
    made_then = dg.TimeWindowPartitionMapping(
        start_offset=-weeks, end_offset=-weeks, allow_nonexistent_upstream_partitions=True
    )

    @dg.asset(
        key=key,
        description=f"Realised figures of {spec.name} on the Monday whose labels have just matured, against promised.",
        deps=[
            dg.AssetDep(predictions_key(spec), partition_mapping=made_then),
            *(dg.AssetDep(["marts", mart], partition_mapping=WEEK_BEFORE) for mart in spec.label.reads),
        ],
        partitions_def=AS_OF_MONDAYS,
        check_specs=[
            dg.AssetCheckSpec("as_promised", asset=key, description="Realised figures keep what evaluation promised.")
        ],
        pool="warehouse",
        automation_condition=when_inputs_are_new(),
        **shown(spec, "performance", {"polars", "parquet"}),
    )
    def performance(
        context: dg.AssetExecutionContext, warehouse: WarehouseResource, lake: LakeResource, ledger: LedgerResource
    ) -> dg.MaterializeResult:
        from ml_platform.monitoring.weekly import matured_monday, measure_performance, publish_performance

        judged_on = parse_monday(context.partition_key)
        as_of, table = matured_monday(spec, judged_on), lake.table("predictions", spec.name)
        served = table.published(as_of.isoformat())
        with warehouse.open(context).session(f"matured labels of {spec.name}") as session:
            labels = session.read(spec.label.sql.read_text(), {"as_ofs": [as_of], "cutoff": judged_on})
        verdict = ledger.open().verdict(spec.name, int(served.metadata["champion"])) if served else None
        frame, weeks, record = measure_performance(
            spec, table.read(as_of.isoformat()) if served else None, labels, verdict and verdict.body, judged_on
        )
        publish_performance(lake.table("performance", spec.name), frame, record)
        figures = {name: value for name, value in record.figures.items() if value is not None}
        said = "; ".join(record.breached) or (f"as promised as of {as_of}" if record.rows else "nobody predicted then")
        return dg.MaterializeResult(
            metadata={
                "dagster/row_count": frame.height,
                "as_of": as_of.isoformat(),
                "said": said,
                **figures,
                "by_role": table_of([week.row() for week in weeks]),
            },
            check_results=[
                dg.AssetCheckResult(
                    check_name="as_promised",
                    passed=not record.breached,
                    severity=dg.AssetCheckSeverity.WARN,
                    description=said,
                    metadata=figures,
                )
            ],
        )

    return performance


def _evidently(
    spec: ModelSpec, trained_on: "pl.DataFrame", inputs: "pl.DataFrame", folder: Path, as_of: date
) -> dg.MetadataValue:
    """Evidently's report of the same data, on a sample of each side, as a link."""
    import polars as pl
    import polars.selectors as cs

    from ml_platform.monitoring.evidently_report import write_report
    from ml_platform.training.job import column_of

    numeric = inputs.select(cs.numeric() | cs.boolean()).columns
    columns = [name for reference in spec.features if (name := column_of(reference)) in numeric]
    then = trained_on.filter(pl.col("role") == "train").select(columns)
    written = write_report(then, inputs.select(columns), folder / f"{as_of}.html", seed=spec.seed)
    return dg.MetadataValue.url(written.path.absolute().as_uri())
