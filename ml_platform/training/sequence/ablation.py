"""How much the model leans on a feature: what its absence costs on the role stop.

A feature is taken away by holding the inputs made of it at their training means (items and categories at UNSEEN, and
no pairs without the products) in the trained model; the rise of the stop loss is its importance, 0 where the loss does
not rise (Breiman's permutation importance, 2001, without a permutation's noise).
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ml_platform.training.sequence.loop import EVALUATION_BATCH, Loop
from ml_platform.training.sequence.model import Batch, NextBasket, loss_of
from ml_platform.training.sequence.tensors import PAIR_INPUTS, QUERY_INPUTS
from ml_platform.training.sequence.vocabulary import UNSEEN

_BY_DAYS = tuple(name for name in PAIR_INPUTS if "days" in name)
_PAIRS_OF = {"days_ago": _BY_DAYS}
_QUERIES_OF = {"distinct_products": ("distinct_share",), **{name: (name,) for name in QUERY_INPUTS}}


def importance_of(loop: Loop, features: Sequence[str], statistics: Sequence[str]) -> dict[str, float]:
    """The rise of the stop loss without each feature (`table:column`)."""
    whole = _loss(loop, ())
    return {reference: max(0.0, _loss(loop, (reference,), statistics) - whole) for reference in features}


def without(batch: Batch, model: NextBasket, reference: str, statistics: Sequence[str]) -> Batch:
    """The batch as if the feature were not known."""
    table, _, column = reference.partition(":")
    if table == "product":
        if column == "category":
            return replace(batch, categories=torch.full_like(batch.categories, UNSEEN))
        held = [statistics.index(column)] if column in statistics else []
        return replace(batch, statistics=_held(batch.statistics, model.statistic_mean, held))
    if column == "products":
        nothing = {name: getattr(batch, name)[:0] for name in ("pairs", "pair_rows", "pair_places")}
        return replace(batch, lines=torch.full_like(batch.lines, UNSEEN), **nothing)
    pairs = [PAIR_INPUTS.index(name) for name in _PAIRS_OF.get(column, ())]
    queries = [QUERY_INPUTS.index(name) for name in _QUERIES_OF.get(column, ())]
    return replace(
        batch,
        pairs=_held(batch.pairs, model.pair_mean, pairs),
        queries=_held(batch.queries, model.query_mean, queries),
    )


def _loss(loop: Loop, left_out: Sequence[str], statistics: Sequence[str] = ()) -> float:
    total = torch.zeros((), dtype=torch.float64, device=loop.device)
    loop.model.eval()
    with torch.no_grad():
        for rows in loop.stop.batches(EVALUATION_BATCH):
            batch = loop.stop.resident.batch(rows)
            for reference in left_out:
                batch = without(batch, loop.model, reference, statistics)
            total += loss_of(loop.model(batch)[1], batch).sum()
    return total.item() / sum(len(rows) for rows in loop.stop.by_monday.values())


def _held(values: Tensor, means: Tensor, columns: Sequence[int]) -> Tensor:
    held = values.clone()
    for column in columns:
        held[:, column] = means[column]
    return held
