"""Predictions: the champion scores the snapshot of a Monday, once, whatever how often it is asked."""

from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg

from assets.automation import OfThisMonday, when_inputs_are_new
from assets.columns import lineage_now, show_columns
from assets.common import feature_key, model_key, predictions_key, shown, table_of
from assets.feature_tables import FEATURE_TABLES
from assets.partitions import AS_OF_MONDAYS
from ml_platform.calendar import parse_monday
from ml_platform.training.spec import ModelSpec
from resources import LakeResource, LedgerResource

if TYPE_CHECKING:
    from ml_platform.predictions import Role, Scorer
    from ml_platform.registry.ledger import Ledger


def build_predictions(spec: ModelSpec) -> dg.AssetsDefinition:
    """`predictions/<name>`: published only when its contract holds; each row names version, features and digest."""
    key = predictions_key(spec)

    @dg.asset(
        key=key,
        description=f"Weekly scores by the champion. {spec.description}",
        deps=[model_key(spec, "champion"), *(feature_key(table) for table in spec.reads)],
        partitions_def=AS_OF_MONDAYS,
        # What was predicted stays as it was made: a new champion's first Monday is the present one.
        automation_condition=when_inputs_are_new(ignore=dg.AssetSelection.assets(model_key(spec, "champion")))
        & OfThisMonday(),
        check_specs=[dg.AssetCheckSpec("contract", asset=key, blocking=True, description="What a prediction promises")],
        **shown(spec, "predictions", {"polars", "parquet"}),
    )
    def predictions(
        context: dg.AssetExecutionContext, lake: LakeResource, ledger: LedgerResource
    ) -> dg.MaterializeResult:
        from ml_platform.evaluation.plots import distribution_markdown
        from ml_platform.predictions import contract, predict
        from ml_platform.tasks import task_of

        as_of, store = parse_monday(context.partition_key), lake.features(FEATURE_TABLES)
        scorers = _scorers(ledger.open(), spec)
        frame = predict(spec, scorers, store, as_of)
        promise, table = contract(spec, store), lake.table("predictions", spec.name)
        outcome = promise.check(frame)
        versions = {role: str(scorer.version) for role, scorer in scorers.items()}
        staged = table.stage(context.partition_key, frame, versions)
        if not outcome.passed:
            aside = table.set_aside(staged, "contract")
            raise dg.Failure(f"predictions break their contract; kept aside at {aside}")
        published, scores = table.publish(staged), frame.filter(role="champion")["score"]
        show_columns(context, lineage_now(), key)
        return dg.MaterializeResult(
            data_version=dg.DataVersion(published.digest),
            metadata={
                "dagster/row_count": published.rows,
                **versions,
                "path": dg.MetadataValue.path(str(published.path)),
                "highest": table_of(task_of(spec).highlights(spec, frame)),
                "distribution": dg.MetadataValue.md(distribution_markdown(scores.to_numpy())),
            },
            check_results=[dg.AssetCheckResult(check_name="contract", passed=True)],
        )

    return predictions


def _scorers(book: "Ledger", spec: ModelSpec) -> "dict[Role, Scorer]":
    """The champion, and the challenger beside it while there is one on trial."""
    from ml_platform.predictions import Scorer
    from ml_platform.registry.bundles import open_bundle
    from ml_platform.registry.challengers import challenger

    champion = book.champion(spec.name)
    if champion is None:
        raise dg.Failure(f"{spec.name} has no champion: materialise models/{spec.name}/champion")
    found: dict[Role, Scorer] = {"champion": Scorer(champion.version, open_bundle(Path(champion.bundle_uri)))}
    rival = challenger(book, spec.name, spec.gate_names) if spec.trial else None
    if rival:
        found["challenger"] = Scorer(rival.version, open_bundle(Path(rival.bundle_uri)))
    return found
