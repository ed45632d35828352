"""The next-basket model: a transformer over the last baskets, and a repeat head over what was bought before.

A basket is the mean of its items' embeddings (item plus category) plus embeddings of its age, the time to the basket
before it, its size and its place; a last token stands for today. Of the last layer only today's state is computed, for
it alone is read: it is scored against the same item embeddings (tied), plus each item's bias and what its statistics
say. The repeat head, a small perceptron over the pairs of `tensors`, adds to the items of the history. One softmax over
the Monday's catalogue; the loss is the mean negative log probability of the items that were bought (a multinomial).

Shapes: B queries of one Monday, L = HISTORY + 1 tokens, d the width, k the catalogue, P the batch's pairs.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ml_platform.training.job import TrainingFailed
from ml_platform.training.sequence.tensors import BUCKETS, HISTORY, PAIR_INPUTS, QUERY_INPUTS

LENGTH = HISTORY + 1


@dataclass(frozen=True)
class Architecture:
    """What decides the weights' shapes. `item_statistics` 0 leaves the catalogue's statistics out of the model."""

    products: int
    categories: int
    statistics: int
    width: int = 64
    layers: int = 2
    heads: int = 2
    dropout: float = 0.1
    repeat_width: int = 32
    item_statistics: int = 1

    def __post_init__(self) -> None:
        if self.width % self.heads or self.layers < 1:
            raise TrainingFailed(
                f"a width of {self.width} does not part into {self.heads} heads, or there is no layer",
                next_step="correct the trainer's parameters in the model's spec",
            )


@dataclass(frozen=True)
class Batch:
    """Queries of one Monday, gathered: what the model's forward pass reads. All tensors lie on one device."""

    lines: Tensor  # int64 [lines], slots
    bags: Tensor  # int64 [baskets], where each basket's lines begin
    times: Tensor  # int64 [baskets, 3]
    tokens: Tensor  # int64 [baskets], place of each basket in [B * L]
    valid: Tensor  # bool [B, L]
    pairs: Tensor  # float32 [P, …]
    pair_rows: Tensor  # int64 [P], the query in the batch
    pair_places: Tensor  # int64 [P], the place in the catalogue
    queries: Tensor  # float32 [B, …]
    slots: Tensor  # int64 [k]
    categories: Tensor  # int64 [k]
    statistics: Tensor  # float32 [k, s]
    target_rows: Tensor  # int64 [T]
    target_places: Tensor  # int64 [T]


class Block(nn.Module):
    """A pre-norm transformer layer: the states `asking` [B, q, d] attend to all `states` [B, L, d]."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm, self.norm_after = nn.LayerNorm(width), nn.LayerNorm(width)
        self.ask, self.keys_values, self.out = (
            nn.Linear(width, width),
            nn.Linear(width, 2 * width),
            nn.Linear(width, width),
        )
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, states: Tensor, valid: Tensor, last_only: bool) -> Tensor:
        asking = states[:, -1:] if last_only else states
        known = self.norm(states)
        question = self._heads(self.ask(known[:, -1:] if last_only else known))
        keys, values = (self._heads(part) for part in self.keys_values(known).chunk(2, dim=-1))
        weights = question @ keys.transpose(-1, -2) / keys.shape[-1] ** 0.5
        weights = weights.masked_fill(~valid[:, None, None, :], float("-inf")).softmax(dim=-1)
        seen = (weights @ values).transpose(1, 2).flatten(2)
        asking = asking + self.dropout(self.out(seen))
        return asking + self.dropout(self.down(functional.gelu(self.up(self.norm_after(asking)))))

    def _heads(self, states: Tensor) -> Tensor:
        return states.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class NextBasket(nn.Module):
    """See the module's docstring. Buffers hold the means and scales of the inputs as training saw them."""

    pair_mean: Tensor
    pair_scale: Tensor
    query_mean: Tensor
    query_scale: Tensor
    statistic_mean: Tensor
    statistic_scale: Tensor
    slot_categories: Tensor  # int64 [v + 1], the category's slot of every product's

    def __init__(self, shape: Architecture) -> None:
        super().__init__()
        width, hidden = shape.width, shape.repeat_width
        self.shape = shape
        self.item = nn.Embedding(shape.products + 1, width)
        self.category = nn.Embedding(shape.categories + 1, width)
        self.bias = nn.Embedding(shape.products + 1, 1)
        self.age, self.gap, self.size = (nn.Embedding(BUCKETS, width) for _ in range(3))
        self.position = nn.Embedding(LENGTH, width)
        self.today = nn.Parameter(torch.empty(width))
        self.from_query = nn.Linear(len(QUERY_INPUTS), width)
        self.blocks = nn.ModuleList(Block(width, shape.heads, shape.dropout) for _ in range(shape.layers))
        self.dropout, self.norm, self.project = nn.Dropout(shape.dropout), nn.LayerNorm(width), nn.Linear(width, width)
        known = 2 * shape.statistics if shape.item_statistics else 0
        self.popularity = nn.Sequential(nn.Linear(known, hidden), nn.GELU(), nn.Linear(hidden, 1)) if known else None
        self.repeat_statistics = nn.Linear(known, hidden) if known else None
        self.repeat_pair = nn.Linear(len(PAIR_INPUTS), hidden)
        self.repeat_query = nn.Linear(len(QUERY_INPUTS), hidden, bias=False)
        self.repeat_state = nn.Linear(width, hidden, bias=False)
        self.repeat_item = nn.Linear(width, hidden, bias=False)
        self.repeat = nn.Sequential(nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, 1))
        for name, inputs in (("pair", len(PAIR_INPUTS)), ("query", len(QUERY_INPUTS)), ("statistic", shape.statistics)):
            self.register_buffer(f"{name}_mean", torch.zeros(inputs))
            self.register_buffer(f"{name}_scale", torch.ones(inputs))
        self.register_buffer("slot_categories", torch.zeros(shape.products + 1, dtype=torch.int64))
        self._begin()

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """(states [B, d], scores [B, k] float32: logits of the softmax over the catalogue)."""
        states = self.encode(batch)
        items = self.item(batch.slots) + self.category(batch.categories)
        known = self._statistics(batch.statistics)
        per_item = self.bias(batch.slots).squeeze(-1)
        if self.popularity is not None:
            per_item = per_item + self.popularity(known).squeeze(-1)
        scores = (states @ items.T).float().add_(per_item.float())
        repeats = self._repeats(batch, states, items, known).float()
        scores.index_put_((batch.pair_rows, batch.pair_places), repeats, accumulate=True)
        return states, scores

    def encode(self, batch: Batch) -> Tensor:
        """Today's state of every query: [B, d]."""
        rows, width = batch.valid.shape[0], self.shape.width
        table = self.item.weight + self.category(self.slot_categories)
        baskets = functional.embedding_bag(batch.lines, table, batch.bags, mode="mean")
        baskets = baskets + self._times(batch.times)
        states = baskets.new_zeros(rows * LENGTH, width).index_copy(0, batch.tokens, baskets).view(rows, LENGTH, width)
        today = self.today + self.from_query(_standard(batch.queries, self.query_mean, self.query_scale))
        states = torch.cat([states[:, :-1], today[:, None].to(states.dtype)], dim=1) + self.position.weight
        states = self.dropout(states)
        for number, block in enumerate(self.blocks, start=1):
            states = block(states, batch.valid, last_only=number == len(self.blocks))
        return self.project(self.norm(states[:, -1]))

    def _times(self, times: Tensor) -> Tensor:
        """[baskets, d]: age, gap and size in one product; a gradient scattered into a few rows is slow."""
        marks = self.age.weight.new_zeros(times.shape[0], 3 * BUCKETS)
        marks.scatter_(1, times + torch.arange(3, device=times.device) * BUCKETS, 1.0)
        return marks @ torch.cat([self.age.weight, self.gap.weight, self.size.weight])

    def _statistics(self, statistics: Tensor) -> Tensor:
        """[k, 2 s]: standardised, 0 where unknown, then whether unknown."""
        unknown = statistics.isnan()
        standard = _standard(statistics, self.statistic_mean, self.statistic_scale)
        return torch.cat([standard.masked_fill(unknown, 0.0), unknown.float()], dim=1)

    def _repeats(self, batch: Batch, states: Tensor, items: Tensor, known: Tensor) -> Tensor:
        """[P]. The first layer is a sum over pair, query and item: what is the query's or the item's is done once."""
        per_item = self.repeat_item(items)
        if self.repeat_statistics is not None:
            per_item = per_item + self.repeat_statistics(known)
        queries = _standard(batch.queries, self.query_mean, self.query_scale)
        per_query = self.repeat_query(queries) + self.repeat_state(states)
        pairs = self.repeat_pair(_standard(batch.pairs, self.pair_mean, self.pair_scale))
        pairs = pairs.add_(per_item.index_select(0, batch.pair_places)).add_(per_query.index_select(0, batch.pair_rows))
        return self.repeat(pairs).squeeze(-1)

    def _begin(self) -> None:
        for embedding in (self.item, self.category, self.age, self.gap, self.size, self.position):
            nn.init.normal_(embedding.weight, std=0.05)
        nn.init.normal_(self.today, std=0.05)
        nn.init.zeros_(self.bias.weight)


def loss_of(scores: Tensor, batch: Batch) -> Tensor:
    """[B]: mean negative log probability of each query's targets; 0 for a query that has none in the catalogue."""
    return _Multinomial.apply(scores, batch.target_rows, batch.target_places)  # type: ignore[return-value]


class _Multinomial(torch.autograd.Function):
    """The loss with its gradient written out: [B, k] is the step's largest array, and each pass over it costs."""

    @staticmethod
    def forward(context: Any, scores: Tensor, rows: Tensor, places: Tensor) -> Tensor:
        shares = scores.softmax(dim=1)
        # The largest share cannot vanish, so the row's normaliser is exact from it; a target's own share may.
        most, where = shares.max(dim=1, keepdim=True)
        normaliser = (scores.gather(1, where) - most.log()).squeeze(1)
        nothing = scores.new_zeros(scores.shape[0])
        counts = nothing.index_add(0, rows, torch.ones_like(rows, dtype=scores.dtype))
        context.save_for_backward(shares, rows, places, counts)
        return nothing.index_add(0, rows, normaliser[rows] - scores[rows, places]) / counts.clamp(min=1)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        shares, rows, places, counts = context.saved_tensors
        each = gradients[0] * (counts > 0)
        shares = shares * each[:, None]
        shares.index_put_((rows, places), -(each / counts.clamp(min=1))[rows], accumulate=True)
        return shares, None, None


def _standard(values: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
    return (values - mean) / scale
