"""How far a week may move from what a model was trained on before it is called drifted."""

from dataclasses import dataclass

from ml_platform.errors import ConfigurationError


@dataclass(frozen=True)
class DriftPolicy:
    """A PSI above the threshold is drift, if it is above its own noise too.

    `score_psi`: of the calibrated score; .25 is commonly called a large shift (Siddiqi, Credit Risk Scorecards, 2006).
    `feature_psi`: mean over the features, weighted by their importance. Twice as much: a reference pools many weeks,
    and where all rows of a week share a value (the days to a campaign's end) each of them lies .1 to .2 away from it;
    what the model cares about shows in its score. `replicates`: resamples the noise floor is taken from.
    """

    score_psi: float = 0.25
    feature_psi: float = 0.5
    replicates: int = 200
    seed: int = 20170101

    def __post_init__(self) -> None:
        if not (self.score_psi > 0 and self.feature_psi > 0 and self.replicates >= 20):
            raise ConfigurationError(
                "thresholds are above 0, and a noise floor takes at least 20 replicates",
                where="DriftPolicy",
                next_step="correct the declaration",
            )
