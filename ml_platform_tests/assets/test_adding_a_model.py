"""The page on adding a model says what works: its two blocks are put where it says, and become a whole life cycle."""

import importlib.util
import re
import sys
from pathlib import Path

import dagster as dg
import pytest

from ml_platform.settings import REPOSITORY
from ml_platform.training.spec import ModelSpec

PAGE = REPOSITORY / "docs" / "adding-a-model.md"


@pytest.fixture
def spec(tmp_path: Path) -> ModelSpec:
    sql, python = (re.search(rf"```{kind}\n(.*?)```", PAGE.read_text(), re.S) for kind in ("sql", "python"))
    assert sql and python
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "heavy_redemption.sql").write_text(sql.group(1))
    (tmp_path / "heavy_redemption.py").write_text(python.group(1))
    found = importlib.util.spec_from_file_location("heavy_redemption", tmp_path / "heavy_redemption.py")
    assert found and found.loader
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    sys.modules.pop("heavy_redemption", None)
    return module.SPEC


def test_the_declared_model_becomes_a_life_cycle_of_five_assets(spec: ModelSpec) -> None:
    from assets.lifecycle import build_lifecycle

    keys = {asset.key.to_user_string() for asset in build_lifecycle(spec)}
    stages = ("training_set", "candidate", "evaluation", "champion")
    assert keys == {"predictions/heavy_redemption", *(f"models/heavy_redemption/{stage}" for stage in stages)}


def test_the_declared_model_is_trained_and_judged(spec: ModelSpec, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from assets.lifecycle import build_lifecycle
    from resources import build_resources

    monkeypatch.setenv("ML_PLATFORM_HOME", str(home))
    chosen = [
        asset for asset in build_lifecycle(spec) if asset.key.path[-1] in ("training_set", "candidate", "evaluation")
    ]
    with dg.instance_for_test() as instance:
        done = dg.materialize(chosen, partition_key="2018-01-01", resources=build_resources(), instance=instance)
    checks = done.get_asset_check_evaluations()
    assert done.success
    assert {check.check_name for check in checks} >= {"beats_baseline_redeemed", "calibrated", "reproducible"}
    assert next(check for check in checks if check.check_name == "reproducible").passed
