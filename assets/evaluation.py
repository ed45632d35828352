"""A candidate on the frozen evaluation set: figures, plots, and one check a gate."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg

from assets.common import model_key, shown, table_of
from assets.feature_tables import FEATURE_TABLES
from assets.partitions import AS_OF_MONDAYS
from ml_platform.registry.records import ModelVersion
from ml_platform.training.spec import ModelSpec, gate_name
from resources import LakeResource, LedgerResource, TrackingResource
from resources.compute import Compute

if TYPE_CHECKING:
    from ml_platform.registry.ledger import Ledger


def build_evaluation(spec: ModelSpec) -> dg.AssetsDefinition:
    """`models/<name>/evaluation`: against every baseline and the champion, on Mondays nothing was trained on."""
    key = model_key(spec, "evaluation")

    @dg.asset(
        key=key,
        description=f"Metrics of the candidate of {spec.name} with clustered intervals, and the gates' verdict.",
        deps=[model_key(spec, "candidate"), model_key(spec, "training_set")],
        partitions_def=AS_OF_MONDAYS,
        check_specs=[
            dg.AssetCheckSpec(gate_name(gate), asset=key, description=(type(gate).__doc__ or "").strip())
            for gate in spec.gates
        ],
        **shown(spec, "evaluation", {"python"}),
    )
    def evaluation(
        context: dg.AssetExecutionContext,
        lake: LakeResource,
        compute: dg.ResourceParam[Compute],
        ledger: LedgerResource,
        tracking: TrackingResource,
    ) -> dg.MaterializeResult:
        import polars as pl

        from ml_platform.evaluation.plots import markdown_image
        from ml_platform.evaluation.report import Answered, evaluate, flat_metrics, metrics_table
        from ml_platform.predictions import answer
        from ml_platform.registry.bundles import open_bundle
        from ml_platform.registry.promotion import opponent
        from ml_platform.tasks import task_of
        from ml_platform.training.rehearsal import is_reproducible

        data = lake.table("training_sets", spec.name).require(context.partition_key)
        catalogues = lake.table("catalogues", spec.name)
        offered = catalogues.published(context.partition_key)
        items = catalogues.read(context.partition_key) if offered else None
        frame = lake.table("training_sets", spec.name).read(context.partition_key)
        held_out = frame.filter(pl.col("role") == "evaluate")
        book = ledger.open()
        version = _candidate(book, spec, data.metadata["digest"])
        bundle, champion = open_bundle(Path(version.bundle_uri)), opponent(book, version)
        rival = open_bundle(Path(champion.bundle_uri)) if champion else None
        with tempfile.TemporaryDirectory(prefix=".rehearsal-", dir=lake.models(spec.name)) as folder:
            same = is_reproducible(
                spec,
                bundle,
                Path(str(data.path)),
                data.metadata["digest"],
                Path(folder),
                catalogue_path=Path(str(offered.path)) if offered else None,
                run=lambda job: compute.train(context, job),
            )
        keys = held_out.select(*spec.entity, "as_of")
        found = evaluate(
            spec,
            frame,
            Answered(bundle.digest, task_of(spec).answers(bundle, held_out, items)),
            Answered(rival.digest, answer(spec, rival, lake.features(FEATURE_TABLES), keys)) if rival else None,
            reproducible=same,
            items=items,
        )
        book.record_verdict(spec.name, version.version, found.verdict.to_json(), champion.version if champion else None)
        plots = task_of(spec).plots(found)
        if version.tracking_run_id:
            attempt = tracking.open().resume(version.tracking_run_id)
            attempt.log_metrics(flat_metrics(found))
            attempt.log_plots(plots)
        return dg.MaterializeResult(
            metadata={
                "version": version.version,
                "passed": found.verdict.passed,
                "champion_judged_against": champion.version if champion else "none",
                "metrics": table_of(metrics_table(found)),
                "by_week": table_of(metrics_table(found, "as_of")),
                "by_slice": table_of(metrics_table(found, "slice")),
                "plots": dg.MetadataValue.md("\n\n".join(markdown_image(name, png) for name, png in plots.items())),
            },
            check_results=[
                dg.AssetCheckResult(
                    check_name=gate.name,
                    passed=gate.passed,
                    description=gate.explanation,
                    metadata={
                        "figure": "undefined" if gate.figure is None else gate.figure,
                        "threshold": gate.threshold,
                    },
                )
                for gate in found.verdict.gates
            ],
        )

    return evaluation


def _candidate(book: "Ledger", spec: ModelSpec, training_set_digest: str) -> ModelVersion:
    """The version trained on this very training set by this very spec."""
    wanted = (training_set_digest, spec.digest())
    for version in reversed(book.versions(spec.name)):
        if (version.training_set_digest, version.spec_digest) == wanted:
            return version
    raise dg.Failure(
        f"no candidate of {spec.name} was trained on training set {training_set_digest[:12]}: "
        f"materialise models/{spec.name}/candidate for this cutoff"
    )
