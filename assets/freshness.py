"""How long ago Dagster may have materialised an asset, by the wall clock, before it is called stale.

Dagster looks at materialisations only, whatever their partition, so this says that the machinery runs. That the data is
new is promised beside each declaration and measured on the injected clock (`assets.slo`).
"""

from collections.abc import Iterable, Sequence
from datetime import timedelta

import dagster as dg

BY_DAY = dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=48), warn_window=timedelta(hours=26))
BY_WEEK = dg.FreshnessPolicy.time_window(fail_window=timedelta(days=9), warn_window=timedelta(days=8))
BY_CHAMPION = dg.FreshnessPolicy.time_window(fail_window=timedelta(days=190), warn_window=timedelta(days=182))
UNLESS_SAID = dg.FreshnessPolicy.time_window(fail_window=timedelta(days=365), warn_window=timedelta(days=182))
"""The project's default: what nobody promised more of is still looked at once a year."""

BY_STAGE = {"champion": BY_CHAMPION, **dict.fromkeys(("predictions", "embeddings", "drift", "performance"), BY_WEEK)}
"""Of a model's life cycle, what is due by itself; the other stages wait for a reason to train."""


def with_default_freshness(
    assets: Iterable[dg.AssetsDefinition | dg.AssetSpec],
) -> Sequence[dg.AssetsDefinition | dg.AssetSpec]:
    """The assets with the project's default where their declaration says nothing."""

    def defaulted(spec: dg.AssetSpec) -> dg.AssetSpec:
        return dg.apply_freshness_policy(spec, UNLESS_SAID, overwrite_existing=False)

    return dg.map_asset_specs(defaulted, assets)
