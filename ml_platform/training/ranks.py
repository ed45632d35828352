"""The processes of one training: one alone, or as many as a launcher started, each told by its environment which it is.

Invariants: all of them read the same job file and decide alike; the first one alone speaks and writes.
"""

import os
from dataclasses import dataclass
from typing import Self

import numpy as np


@dataclass(frozen=True)
class Ranks:
    """This process's `number` among `count`."""

    number: int
    count: int

    @classmethod
    def from_env(cls) -> Self:
        """What the launcher says, in torchrun's words; one alone without it."""
        return cls(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))

    def to_env(self) -> dict[str, str]:
        """What `from_env` reads, of a process on the launcher's own machine."""
        return {"RANK": str(self.number), "LOCAL_RANK": str(self.number), "WORLD_SIZE": str(self.count)}

    @property
    def is_first(self) -> bool:
        return self.number == 0

    def share_of(self, rows: int) -> np.ndarray:
        """Which of so many rows are this process's: every `count`-th, so that each has some of every Monday."""
        return np.arange(self.number, rows, self.count)


ALONE = Ranks(0, 1)
