"""The champion: the only way a version comes to serve, or is taken back."""

from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import dagster as dg

from assets.common import model_key, shown, table_of
from ml_platform.registry.records import ModelVersion, PromotionRefused, Waiver
from ml_platform.training.spec import ModelSpec
from resources import LedgerResource, TrackingResource

if TYPE_CHECKING:
    from ml_platform.registry.ledger import Ledger


class WaiverConfig(dg.Config):
    """A person lets a version past one failed gate until a day."""

    gate: str
    until: str


class ChampionConfig(dg.Config):
    """`decide`: promote the newest version if its verdict allows. `promote`, `rollback`: what a person asks for."""

    action: Literal["decide", "promote", "rollback"] = "decide"
    version: int | None = None
    who: str = "the graph"
    reason: str = "passed every gate"
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
        context: dg.AssetExecutionContext, config: ChampionConfig, ledger: LedgerResource, tracking: TrackingResource
    ) -> Iterator[dg.MaterializeResult]:
        from ml_platform.registry.views import history_rows

        book = ledger.open()
        said = _act(context, book, spec, config)
        tracking.open().project(book, spec.name)
        reigning = book.champion(spec.name)
        if reigning is None:
            context.log.warning(f"{spec.name} has no champion: {said}")
            return
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


def _act(context: dg.AssetExecutionContext, book: "Ledger", spec: ModelSpec, config: ChampionConfig) -> str:
    """Does what the config asks and says it in a sentence. A refusal is an error only for a person who asked."""
    from ml_platform.registry import promotion

    if config.action == "rollback":
        done = promotion.rollback(
            book, spec.name, who=config.who, reason=config.reason, read_digest=_digest, to_version=config.version
        )
        return f"rolled back to version {done.champion.version}: {config.reason}"
    version = config.version or _newest(book, spec)
    if version is None:
        return "nothing was trained yet"
    try:
        done = promotion.promote(
            book,
            spec.name,
            version,
            gates=spec.gate_names,
            who=config.who,
            reason=config.reason,
            today=date.today(),
            read_digest=_digest,
            waivers=[
                Waiver(each.gate, config.who, config.reason, date.fromisoformat(each.until)) for each in config.waivers
            ],
        )
    except PromotionRefused as refused:
        if config.action == "promote":
            raise
        context.log.warning(str(refused))
        return f"version {version} refused: {refused.what}"
    return f"version {version} {done.action}"


def _newest(book: "Ledger", spec: ModelSpec) -> int | None:
    """The version of the newest cutoff: one trained later on an older cutoff is no newer model."""
    newest = max(book.versions(spec.name), key=lambda each: (each.cutoff, each.version), default=None)
    return newest and newest.version


def _digest(version: ModelVersion) -> str:
    from ml_platform.registry.bundles import open_bundle

    return open_bundle(Path(version.bundle_uri)).digest
