"""How far a week may move from what a model was trained on before it is called drifted."""

from dataclasses import dataclass

from ml_platform.errors import ConfigurationError


@dataclass(frozen=True)
class DriftPolicy:
    """A PSI above the threshold is drift, if it is above its own noise too. .1 is commonly called a small shift, .25 a
    large one (Siddiqi, Credit Risk Scorecards, 2006).

    `score_psi`: of the calibrated score. `feature_psi`: mean over the features, weighted by their importance.
    `replicates`: resamples the noise floor is taken from.
    """

    score_psi: float = 0.25
    feature_psi: float = 0.25
    replicates: int = 200
    seed: int = 20170101

    def __post_init__(self) -> None:
        if not (self.score_psi > 0 and self.feature_psi > 0 and self.replicates >= 20):
            raise ConfigurationError(
                "thresholds are above 0, and a noise floor takes at least 20 replicates",
                where="DriftPolicy",
                next_step="correct the declaration",
            )
