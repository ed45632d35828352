"""A code location for launched runs: the candidate of one small model, its steps in pods."""

import tempfile
from pathlib import Path

import dagster as dg

from assets.training import build_candidate
from ml_platform_tests.training.conftest import make_spec
from resources import build_resources
from resources.steps import build_executor

SPEC = make_spec(Path(tempfile.mkdtemp()))

defs = dg.Definitions(
    assets=[build_candidate(SPEC)], resources=build_resources(), executor=build_executor("kubernetes")
)
