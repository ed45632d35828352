"""What the sensors share: how often they look, and how a request stays one effect."""

import os
from collections.abc import Mapping, Sequence

import dagster as dg
from dagster._core.storage.dagster_run import IN_PROGRESS_RUN_STATUSES

REACTION = "ml_platform/reaction"
CAUSE = "ml_platform/cause"
TICK_SECONDS = int(os.environ.get("ML_PLATFORM_TICK_SECONDS", "30"))
"""How often a sensor looks. `mlp live` sets it lower: there a day takes seconds."""


def request(
    instance: dg.DagsterInstance,
    reaction: str,
    assets: Sequence[dg.AssetKey],
    *,
    cause: str,
    partition: str | None = None,
    tags: Mapping[str, str] | None = None,
) -> dg.RunRequest | dg.SkipReason:
    """One run for one state of the world, named by `reaction`: asked for again only if the run before it failed.

    Dagster drops a run key it has seen, for ever, so the number of failed attempts is part of it; three are enough.
    """
    before = instance.get_runs(dg.RunsFilter(tags={REACTION: reaction}))
    if any(run.status in IN_PROGRESS_RUN_STATUSES for run in before):
        return dg.SkipReason(f"{reaction} is under way")
    if any(run.is_success for run in before):
        return dg.SkipReason(f"{reaction} was done")
    if len(before) >= MOST_ATTEMPTS:
        return dg.SkipReason(f"{reaction} failed {len(before)} times; see its runs, and run it by hand once mended")
    return dg.RunRequest(
        run_key=f"{reaction} attempt {len(before) + 1}",
        asset_selection=list(assets),
        partition_key=partition,
        tags={REACTION: reaction, CAUSE: cause, **(tags or {})},
    )


MOST_ATTEMPTS = 3
