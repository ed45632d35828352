"""What a model declares of its own life: when a week is called drifted, when it is trained again, how a trial ends."""

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


@dataclass(frozen=True)
class Retraining:
    """When the platform trains the model again on its own, and when it does not.

    A first model is trained as soon as `first_train_mondays` Mondays of training have matured. Then a cause is needed:
    `drifted_weeks` Mondays in a row called drifted (after which `calm_weeks` calm ones in a row re-arm it), realised
    figures worse than promised in `decayed_weeks` matured Mondays in a row, or a champion older than `max_age_days`.
    A cause trains only if at least `new_mondays` of labels have matured since the last training, none was within
    `cooldown_days`, and fewer than `weekly_budget` in the last seven days.
    """

    first_train_mondays: int = 4
    drifted_weeks: int = 1
    calm_weeks: int = 2
    decayed_weeks: int = 2
    max_age_days: int = 182
    new_mondays: int = 2
    cooldown_days: int = 14
    weekly_budget: int = 1


@dataclass(frozen=True)
class Trial:
    """A version that passed its gates predicts in the champion's shadow until its own matured weeks decide.

    Decided from `min_weeks` matured Mondays with `min_positives` positives on, by the paired, clustered interval of its
    gain in its task's headline figure: promoted when the lower bound exceeds `margin`, retired when the upper bound
    does not, kept waiting in between, and retired after `max_weeks`.
    """

    min_weeks: int = 2
    min_positives: int = 50
    max_weeks: int = 8
    margin: float = 0.0
