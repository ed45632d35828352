"""The gates of next_basket on a synthetic world in which only a product's statistics tell what is bought again.

Every household has bought the same kinds of products equally often and equally lately, so that its own history cannot
say which of them come next; each Monday's catalogue can, by what sold in the last four weeks. That is drawn anew every
second Monday and turned around on the one between, so no product sells better on the whole. A model with the statistics
must pass, one without them must be refused.
"""

from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from assets.models import MODELS
from ml_platform.evaluation.gates import Verdict
from ml_platform.evaluation.report import Answered, evaluate
from ml_platform.tasks import task_of
from ml_platform.training.reporting import PlainReporter
from ml_platform.training.spec import Baseline, BeatsBaseline, NoSliceWorse, Reproducible, Trainer
from ml_platform.training.worker import train
from ml_platform_tests.training.baskets import SMALL, World

FIRST = date(2017, 4, 3)
ROLES = ("train", "train", "train", "train", "stop", "stop", "evaluate", "evaluate")
HOUSEHOLDS, PRODUCTS, OWN, BOUGHT = 80, 120, 30, 6
JUDGED = ("decayed_frequency", "personal_frequency")
SPEC = replace(
    MODELS["next_basket"],
    features=tuple(f"household_baskets:{name}" for name in ("products", "basket_sizes", "days_ago")),
    slices=(),
    baselines=tuple(Baseline(name, name) for name in JUDGED),
    gates=tuple(
        gate
        for gate in MODELS["next_basket"].gates
        if not isinstance(gate, BeatsBaseline | NoSliceWorse) or gate.baseline in JUDGED
    ),
)
"""The deployment's gates, but for the baseline that takes long and the slices that the world does not have."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Three baskets of ten of a household's thirty products, each product once; next come those that sell now."""
    random = np.random.default_rng(5)
    own = np.stack([random.choice(PRODUCTS, OWN, replace=False) for _ in range(HOUSEHOLDS)]) + 1
    rows, shelves, sells = [], [], np.zeros(PRODUCTS, np.int64)
    for week, role in enumerate(ROLES):
        monday = FIRST + timedelta(weeks=week)
        sells = random.permutation(PRODUCTS) * 8 + 10 if week % 2 == 0 else sells.max() + sells.min() - sells
        for household in range(HOUSEHOLDS):
            baskets = np.sort(random.permutation(own[household]).reshape(3, -1), axis=1)
            bought = own[household][np.argsort(-sells[own[household] - 1])[:BOUGHT]]
            rows.append((household, monday, role, np.sort(bought).tolist(), baskets.ravel().tolist()))
        shelves.append(_shelf(monday, sells, random))
    names = ("household_id", "as_of", "role", "label", "household_baskets__products")
    table = pl.DataFrame(rows, schema=names, orient="row").with_columns(
        household_baskets__basket_sizes=pl.lit([OWN // 3] * 3, pl.List(pl.Int32)),
        household_baskets__days_ago=pl.lit([9, 6, 3], pl.List(pl.Int32)),
    )
    folder = tmp_path_factory.mktemp("world")
    table.write_parquet(folder / "training_set.parquet")
    pl.concat(shelves).write_parquet(folder / "catalogue.parquet")
    return World(folder / "training_set.parquet", folder / "catalogue.parquet")


def _shelf(monday: date, sells: np.ndarray, random: np.random.Generator) -> pl.DataFrame:
    """`lines_84d`, which baselines take for popularity, says nothing."""
    return pl.DataFrame(
        {
            "product_id": np.arange(1, PRODUCTS + 1),
            "as_of": [monday] * PRODUCTS,
            "product__category": ["all"] * PRODUCTS,
            "product__lines_84d": random.integers(10, 1000, PRODUCTS).astype(np.int32),
            "product__lines_28d": sells.astype(np.int32),
        }
    )


def judged(world: World, folder: Path, item_statistics: int) -> Verdict:
    """The verdict on a model that is trained now, with or without the statistics."""
    params = {**SMALL, "layers": 1, "learning_rate": 0.02, "item_statistics": item_statistics}
    job = world.job(folder / "bundle", features=SPEC.features, trainer=Trainer("torch", 5, 5, params))
    bundle = train(job, PlainReporter())
    assert bundle is not None
    table, items = pl.read_parquet(world.training_set), pl.read_parquet(world.catalogue)
    answers = task_of(SPEC).answers(bundle, table.filter(pl.col("role") == "evaluate"), items)
    return evaluate(SPEC, table, Answered(bundle.digest, answers), None, True, items, replicates=200).verdict


def test_the_model_with_the_statistics_of_its_items_passes_every_gate(world: World, tmp_path: Path) -> None:
    verdict = judged(world, tmp_path, item_statistics=1)
    assert any(isinstance(gate, Reproducible) for gate in SPEC.gates) and len(verdict.gates) == len(SPEC.gates) == 5
    assert verdict.passed, [gate.explanation for gate in verdict.gates if not gate.passed]


def test_the_model_without_the_statistics_of_its_items_is_refused_by_the_gates(world: World, tmp_path: Path) -> None:
    verdict = judged(world, tmp_path, item_statistics=0)
    refused = {gate.name for gate in verdict.gates if not gate.passed}
    assert not verdict.passed
    assert refused == {f"beats_baseline_{name}" for name in JUDGED}, "it is no better than counting"
