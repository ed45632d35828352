"""The champion: the only way a version comes to serve, or is taken back."""

from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import dagster as dg

from assets.columns import lineage_now, show_columns
from assets.common import model_key, shown, table_of
from assets.feature_tables import FEATURE_TABLES
from ml_platform.clock import Clock
from ml_platform.registry.records import ModelVersion, PromotionRefused, Waiver
from ml_platform.settings import Settings
from ml_platform.training.spec import ModelSpec
from resources import LakeResource, LedgerResource, TrackingResource

if TYPE_CHECKING:
    from ml_platform.registry.ledger import Ledger


THE_GRAPH = "the graph"


class WaiverConfig(dg.Config):
    """A person lets a version past one failed gate until a day."""

    gate: str
    until: str


class ChampionConfig(dg.Config):
    """`decide`: what the record says (see `ml_platform.monitoring.succession`). `promote`, `rollback`: what a person
    asks for."""

    action: Literal["decide", "promote", "rollback"] = "decide"
    version: int | None = None
    who: str = THE_GRAPH
    reason: str = ""
    waivers: list[WaiverConfig] = []


def build_champion(spec: ModelSpec) -> dg.AssetsDefinition:
    """`models/<name>/champion`: compares, sets, and writes it down; without a champion it yields nothing."""

    @dg.asset(
        key=model_key(spec, "champion"),
        description=f"The version of {spec.name} that serves, on the passed verdict of that very artifact.",
        deps=[dg.AssetDep(model_key(spec, "evaluation"), partition_mapping=dg.LastPartitionMapping())],
        output_required=False,
        **shown(spec, "champion", {"mlflow"}),
    )
    def champion(
        context: dg.AssetExecutionContext,
        config: ChampionConfig,
        lake: LakeResource,
        ledger: LedgerResource,
        tracking: TrackingResource,
    ) -> Iterator[dg.MaterializeResult]:
        from ml_platform.registry.views import history_rows

        book = ledger.open()
        today = Clock(Settings.from_env().home).today()
        if config.action == "decide":
            said = _decide(context, book, spec, lake, today)
        else:
            said = _asked(book, spec, config, today)
        context.log.info(said)
        tracking.open().project(book, spec.name)
        reigning = book.champion(spec.name)
        if reigning is None:
            context.log.warning(f"{spec.name} has no champion: {said}")
            return
        show_columns(context, lineage_now(), context.asset_key)
        yield dg.MaterializeResult(
            data_version=dg.DataVersion(reigning.bundle_digest),
            metadata={
                "version": reigning.version,
                "decision": said,
                "cutoff": reigning.cutoff.isoformat(),
                "digest": reigning.bundle_digest,
                "history": table_of(history_rows(book, spec.name)),
            },
        )

    return champion


def _decide(context: dg.AssetExecutionContext, book: "Ledger", spec: ModelSpec, lake: LakeResource, today: date) -> str:
    """Does what the record says should happen, and says it in a sentence. A refusal is a verdict, not an error."""
    from ml_platform.monitoring.succession import decide_succession
    from ml_platform.registry import promotion

    found = decide_succession(spec, book, lake.table("performance", spec.name), lake.features(FEATURE_TABLES))
    if found.act == "rollback":
        promotion.rollback(
            book, spec.name, who=THE_GRAPH, reason=found.reason, read_digest=_digest, to_version=found.version
        )
    elif found.act == "retire" and found.version:
        reigning = book.champion(spec.name)
        assert reigning is not None  # only a challenger is retired
        book.retire(
            spec.name,
            found.version,
            champion_version=reigning.version,
            who=THE_GRAPH,
            reason=found.reason,
            evidence=found.evidence,
        )
    elif found.act == "promote" and found.version:
        asked = ChampionConfig(action="promote", version=found.version, reason=found.reason)
        try:
            return _asked(book, spec, asked, today)
        except PromotionRefused as refused:
            context.log.warning(str(refused))
            return f"version {found.version} refused: {refused.what}"
    return f"{found.act}: {found.reason}"


def _asked(book: "Ledger", spec: ModelSpec, config: ChampionConfig, today: date) -> str:
    """Promotes or rolls back as asked, or raises what stands in the way."""
    from ml_platform.registry import promotion

    if config.action == "rollback":
        done = promotion.rollback(
            book, spec.name, who=config.who, reason=config.reason, read_digest=_digest, to_version=config.version
        )
        return f"rolled back to version {done.champion.version}: {config.reason}"
    if config.version is None:
        raise dg.Failure("which version? Give `version` with `action: promote`, or `mlp promote MODEL VERSION`")
    done = promotion.promote(
        book,
        spec.name,
        config.version,
        gates=spec.gate_names,
        who=config.who,
        reason=config.reason,
        today=today,
        read_digest=_digest,
        waivers=[
            Waiver(each.gate, config.who, config.reason, date.fromisoformat(each.until)) for each in config.waivers
        ],
    )
    return f"version {config.version} {done.action}: {config.reason}"


def _digest(version: ModelVersion) -> str:
    from ml_platform.registry.bundles import open_bundle

    return open_bundle(Path(version.bundle_uri)).digest
