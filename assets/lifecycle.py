"""The life cycle of a model: what a `ModelSpec` becomes.

training_set → candidate → evaluation → champion → predictions → drift → performance, the first three keyed by the
cutoff, what follows the champion by as-of Mondays; a ranker's embeddings stand beside its predictions. A refusal by a
gate is a verdict: `evaluation` is there with a red check, and the champion stays.
"""

from assets.champion import build_champion
from assets.embeddings import build_embeddings
from assets.evaluation import build_evaluation
from assets.models import MODELS
from assets.monitoring import build_drift, build_performance
from assets.predictions import build_predictions
from assets.training import build_candidate, build_training_set_asset
from ml_platform.training.spec import ModelSpec


def build_lifecycle(spec: ModelSpec) -> list:
    """Every asset of one model, in the order data flows."""
    return [
        build_training_set_asset(spec),
        build_candidate(spec),
        build_evaluation(spec),
        build_champion(spec),
        build_predictions(spec),
        *([build_embeddings(spec)] if spec.items else []),
        build_drift(spec),
        build_performance(spec),
    ]


LIFECYCLE_ASSETS = [asset for spec in MODELS.values() for asset in build_lifecycle(spec)]
