"""What an answer adds up from, in the trainer's own words: parts that sum to a margin, then the steps to the score.

Invariants: the parts are additive and complete, so that their sum is the margin (to the trainer's rounding); what is
not additive, a calibration or a softmax, is a step of its own with the value it gives; the last step gives the score.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """One way from number to number: what is done, in words, and what comes out."""

    name: str
    said: str
    value: float


@dataclass(frozen=True)
class Account:
    """One answer taken apart. `parts`: by feature (`table:column`) of a classifier, with what every row is given under
    BIAS; by part of the score of a ranker. `product`: whom a list's answer is about, None for a classifier."""

    parts: Mapping[str, float]
    margin: float
    steps: tuple[Step, ...]
    product: int | None = None

    @property
    def score(self) -> float:
        return self.steps[-1].value


BIAS = "bias"
