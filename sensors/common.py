"""What the sensors share: how often they look, and how a request stays one effect."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence

import dagster as dg
from dagster._core.storage.dagster_run import NOT_FINISHED_STATUSES

from assets.common import CAUSE

REACTION = "ml_platform/reaction"
WEEKLY = "weekly"
"""The reaction of whatever the declarative sensor asks for."""
MOST_ATTEMPTS = 3
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

    Dagster drops a run key it has seen, for ever, so the number of failed attempts is part of it; three are enough. A
    run that waits in the queue is under way: it is neither asked for again nor has it failed.
    """
    before = instance.get_runs(dg.RunsFilter(tags={REACTION: reaction}))
    if any(run.status in NOT_FINISHED_STATUSES for run in before):
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


def one_kind(asked: Iterable[dg.RunRequest | dg.SkipReason]) -> Iterator[dg.RunRequest | dg.SkipReason]:
    """Every request; where there is none, one reason made of all: Dagster takes either from a tick, never both."""
    said, asked_for = [], 0
    for each in asked:
        if isinstance(each, dg.RunRequest):
            asked_for += 1
            yield each
        else:
            said.append(str(each.skip_message))
    if not asked_for:
        yield dg.SkipReason("; ".join(said))
