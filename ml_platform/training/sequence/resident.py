"""The whole data set on the device, and batches of it by index: nothing is copied from the host while training.

How many baskets, lines and pairs a batch has is summed on the host from offsets kept there, so gathering never waits
for the device.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ml_platform.training.sequence.model import LENGTH, Batch
from ml_platform.training.sequence.tensors import Examples, Shelf


@dataclass(frozen=True)
class _ShelfTensors:
    slots: Tensor
    categories: Tensor
    statistics: Tensor


class Resident:
    """Examples and their Mondays' shelves on `device`."""

    def __init__(self, examples: Examples, shelves: Mapping[int, Shelf], device: torch.device) -> None:
        line_starts = examples.line_offsets[examples.basket_offsets]
        self._mondays = examples.mondays
        self._sizes = {
            "basket": np.diff(examples.basket_offsets),
            "line": np.diff(line_starts),
            "pair": np.diff(examples.pair_offsets),
            "target": np.diff(examples.target_offsets),
        }

        def there(values: np.ndarray) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(values)).to(device)

        self._device = device
        self._starts = {
            name: there(offsets[:-1])
            for name, offsets in (
                ("basket", examples.basket_offsets),
                ("line", line_starts),
                ("pair", examples.pair_offsets),
                ("target", examples.target_offsets),
            )
        }
        self._lengths = {name: there(sizes) for name, sizes in self._sizes.items()}
        self._line_offsets, self._lines = there(examples.line_offsets), there(examples.lines)
        self._times, self._queries = there(examples.times), there(examples.queries)
        self._pairs, self._pair_places = there(examples.pairs), there(examples.pair_places)
        self._target_places = there(examples.target_places)
        self._shelves = {
            monday: _ShelfTensors(there(shelf.slots), there(shelf.categories), there(shelf.statistics))
            for monday, shelf in shelves.items()
        }

    def batch(self, rows: np.ndarray) -> Batch:
        """The queries of these numbers [B], all of one Monday, as the model reads them."""
        shelf = self._shelves[int(self._mondays[rows[0]])]
        chosen = torch.from_numpy(rows).to(self._device, non_blocking=True)
        basket_rows, baskets, place = self._gather("basket", rows, chosen)
        _, lines, _ = self._gather("line", rows, chosen)
        pair_rows, pairs, _ = self._gather("pair", rows, chosen)
        target_rows, targets, _ = self._gather("target", rows, chosen)
        lengths = self._lengths["line"][chosen]
        before = lengths.cumsum(0) - lengths
        bags = self._line_offsets[baskets] - self._starts["line"][chosen][basket_rows] + before[basket_rows]
        counts = self._lengths["basket"][chosen]
        ago = counts[basket_rows] - 1 - place
        positions = torch.arange(LENGTH, device=self._device)
        return Batch(
            lines=self._lines[lines].long(),
            bags=bags,
            times=self._times[baskets],
            tokens=basket_rows * LENGTH + (LENGTH - 2 - ago),
            valid=positions >= LENGTH - 1 - counts[:, None],
            pairs=self._pairs[pairs].float(),
            pair_rows=pair_rows,
            pair_places=self._pair_places[pairs].long(),
            queries=self._queries[chosen],
            slots=shelf.slots,
            categories=shelf.categories,
            statistics=shelf.statistics,
            target_rows=target_rows,
            target_places=self._target_places[targets],
        )

    def _gather(self, name: str, rows: np.ndarray, chosen: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of the rows' elements: (the row in the batch, the position in the flat array, the place within the row)."""
        total = int(self._sizes[name][rows].sum())
        lengths = self._lengths[name][chosen]
        owner = torch.repeat_interleave(torch.arange(len(rows), device=self._device), lengths, output_size=total)
        place = torch.arange(total, device=self._device) - (lengths.cumsum(0) - lengths)[owner]
        return owner, self._starts[name][chosen][owner] + place, place


def batches_of(by_monday: Mapping[int, np.ndarray], size: int) -> Iterator[np.ndarray]:
    """Rows parted into batches of one Monday and about `size` rows, in order."""
    for rows in by_monday.values():
        yield from np.array_split(rows, -(-len(rows) // size))
