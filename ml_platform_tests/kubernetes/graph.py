"""A code location for launched runs: one small model that asks for a GPU, from candidate to champion, steps in pods."""

import tempfile
from pathlib import Path

import dagster as dg

from assets.champion import build_champion
from assets.evaluation import build_evaluation
from assets.training import build_candidate
from ml_platform.training.spec import BeatsBaseline, BeatsChampion, Calibrated, NoSliceWorse, Reproducible, Resources
from ml_platform_tests.training.conftest import make_spec
from resources import build_resources
from resources.steps import build_executor

SPEC = make_spec(
    Path(tempfile.mkdtemp()),
    resources=Resources(cpu=2, gpus=1),
    gates=(BeatsBaseline("visits"), BeatsChampion(), Calibrated(0.1), NoSliceWorse("visits"), Reproducible(rounds=4)),
)

defs = dg.Definitions(
    assets=[build_candidate(SPEC), build_evaluation(SPEC), build_champion(SPEC)],
    resources=build_resources(),
    executor=build_executor("kubernetes"),
)
