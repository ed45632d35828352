"""A ranker in the life cycle that a classifier has: lists in tables, matured lists, paired lists, embeddings."""

from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from assets.feature_tables import FEATURE_TABLES
from assets.models import MODELS
from ml_platform.embeddings import embed
from ml_platform.features.store import FeatureStore
from ml_platform.lake import PartitionedTable
from ml_platform.monitoring.performance import Figure, Promise, breached, paired, realised, week_figures
from ml_platform.monitoring.weekly import measure_drift, measure_performance
from ml_platform.predictions import Scorer, SnapshotMissing, answer, catalogue, contract, predict
from ml_platform.registry.bundles import Bundle
from ml_platform.tasks import rank, task_of
from ml_platform.training.reporting import PlainReporter
from ml_platform.training.sets import TrainingSetUnusable, build_training_set
from ml_platform.training.spec import TemporalSplit
from ml_platform.training.worker import train
from ml_platform_tests.training.baskets import FEATURES, FIRST, HOUSEHOLDS, PRODUCTS, World, make_world

AS_OF = FIRST + timedelta(weeks=4)
KEYS = ("household_id", "product_id", "as_of")
COLUMNS = tuple(each for each in FEATURES if each.startswith("household_baskets:"))
TABLES = {
    name: replace(
        FEATURE_TABLES[name], columns=tuple(each for each in FEATURE_TABLES[name].columns if each.name in known)
    )
    for name in ("household_baskets", "product")
    for known in [{*KEYS, *(each.removeprefix(f"{name}:") for each in FEATURES)}]
}
"""The contracts of the deployment, with the columns that the world has."""
SPEC = replace(
    MODELS["next_basket"],
    features=COLUMNS,
    slices=(),
    split=TemporalSplit(FIRST, train_mondays=None, stop_mondays=1, calibrate_mondays=0, evaluate_mondays=1),
)


def newest(path: Path) -> pl.DataFrame:
    """The newest Monday of a file of the world; households are numbered from 1, as contracts have it."""
    rows = pl.read_parquet(path).filter(pl.col("as_of") == AS_OF)
    return rows.with_columns(pl.col("^household_id$") + 1)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def bundle(world: World, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return train(world.job(tmp_path_factory.mktemp("models") / "b", features=COLUMNS), PlainReporter())


@pytest.fixture(scope="module")
def store(world: World, tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    """The newest Monday of the world, published."""
    store = FeatureStore(tmp_path_factory.mktemp("lake"), TABLES)
    for name, path in (("household_baskets", world.training_set), ("product", world.catalogue)):
        rows = newest(path)
        rows = rows.rename({each: each.removeprefix(f"{name}__") for each in rows.columns})
        conformed = TABLES[name].conform(rows.select(list(TABLES[name].schema())))
        store.table(name).publish(store.table(name).stage(AS_OF.isoformat(), conformed))
    return store


@pytest.fixture(scope="module")
def served(bundle: Bundle, store: FeatureStore) -> pl.DataFrame:
    return predict(SPEC, {"champion": Scorer(3, bundle)}, store, AS_OF)


def labels_of(world: World) -> pl.DataFrame:
    return newest(world.training_set).select("household_id", "as_of", "label")


def test_predictions_are_twenty_rows_a_household_and_keep_their_contract(
    served: pl.DataFrame, store: FeatureStore
) -> None:
    assert contract(SPEC, store).entity == ("household_id", "role", "rank")
    outcome = contract(SPEC, store).check(served)
    assert outcome.passed, outcome.explain()
    assert served.height == 20 * HOUSEHOLDS
    by_place = served.sort("household_id", "rank").group_by("household_id", maintain_order=True).agg("rank", "score")
    assert by_place["rank"].to_list() == [list(range(1, 21))] * HOUSEHOLDS
    assert all(scores == sorted(scores, reverse=True) for scores in by_place["score"].to_list())


def test_folded_again_the_rows_are_the_lists_the_model_gave(
    served: pl.DataFrame, bundle: Bundle, store: FeatureStore
) -> None:
    folded = rank.fold(served.sample(fraction=1.0, shuffle=True, seed=1), ["household_id", "as_of", "role"])
    keys = folded.select("household_id", "as_of")
    assert np.array_equal(rank.array(folded["products"]), answer(SPEC, bundle, store, keys))


def test_a_list_that_is_short_is_padded_and_one_that_is_long_is_cut() -> None:
    lists = rank.array(pl.Series([[5, 3], list(range(1, 31)), []], dtype=pl.List(pl.Int64)))
    assert lists.shape == (3, 20)
    assert lists[0].tolist() == [5, 3, *[-1] * 18] and lists[1].tolist() == list(range(1, 21))
    assert (lists[2] == -1).all()


def test_a_monday_without_its_catalogue_is_told(bundle: Bundle, store: FeatureStore, world: World) -> None:
    with pytest.raises(SnapshotMissing, match="product"):
        catalogue(SPEC, store, [AS_OF + timedelta(weeks=1)])
    with pytest.raises(rank.CatalogueMissing):
        task_of(SPEC).answers(bundle, pl.read_parquet(world.training_set), None)


def test_matured_lists_are_judged_by_recall_and_paired_by_household(served: pl.DataFrame, world: World) -> None:
    labels = labels_of(world)
    others = served.with_columns(
        role=pl.lit("challenger"), model_version=pl.lit(4, pl.Int64), product_id=pl.col("product_id") + 1000
    )
    frame = realised(pl.concat([served, others]), labels, SPEC)
    challenger, champion = week_figures(frame, SPEC, replicates=60)
    lists = dict(served.filter(pl.col("rank") <= 10).group_by("household_id").agg("product_id").iter_rows())
    bought = dict(labels.select("household_id", "label").iter_rows())
    by_hand = np.mean([len(set(bought[each]) & set(lists[each])) / len(bought[each]) for each in lists])
    assert champion.figures["recall_at_10"].value == pytest.approx(by_hand) and by_hand > 0
    assert challenger.figures["recall_at_10"].value == 0
    assert champion.positives == sum(len(bought[each]) for each in lists)
    assert champion.figures["repeat_recall_at_10"] == Figure(None)  # matured rows do not keep the baskets
    found = paired(frame, 3, 4, SPEC, replicates=60)
    assert (found.metric, found.weeks, found.rows) == ("recall_at_10", 1, HOUSEHOLDS)
    assert found.gain == pytest.approx(-by_hand) and found.high is not None and found.high < 0
    assert breached(challenger, Promise({}, {"recall_at_10": 0.1}))[0].startswith("Recall@10 0.0000")
    assert breached(champion, Promise({}, {"recall_at_10": 0.0})) == ()


def test_nobody_served_gives_an_empty_record_of_the_same_shape(served: pl.DataFrame, world: World) -> None:
    judged_on = AS_OF + timedelta(weeks=3)
    frame, weeks, record = measure_performance(SPEC, None, labels_of(world), None, judged_on)
    full, _, made = measure_performance(SPEC, served, labels_of(world), None, judged_on)
    assert frame.schema == full.schema and frame.is_empty()
    assert (weeks, record.rows, record.champion) == ((), 0, None)
    assert (made.as_of, made.rows, made.champion) == (AS_OF, HOUSEHOLDS, 3)


def test_drift_is_watched_on_numbers_and_on_the_score_of_the_first_place(
    bundle: Bundle, served: pl.DataFrame, store: FeatureStore
) -> None:
    found = measure_drift(SPEC, Scorer(3, bundle), store, served, AS_OF, TABLES)
    assert {column["column"] for column in found.report.table()} == {"household_baskets:days_since_basket", "score"}
    assert (found.record.version, found.current.rows) == (3, HOUSEHOLDS)


def test_embeddings_name_their_version_in_every_row(bundle: Bundle, store: FeatureStore) -> None:
    found = embed(SPEC, 3, bundle, store, AS_OF)
    assert found.group_by("kind").len().sort("kind").rows() == [("entity", HOUSEHOLDS), ("item", PRODUCTS)]
    assert found["model_version"].unique().to_list() == [3] and found.schema["vector"] == pl.List(pl.Float32)
    assert found["vector"].list.len().unique().to_list() == [16]


def test_a_label_without_a_product_makes_no_training_set(world: World, store: FeatureStore, tmp_path: Path) -> None:
    cutoff = date(2017, 7, 3)
    days = list(SPEC.split.roles(cutoff, SPEC.label))
    empty = pl.DataFrame({"household_id": [1] * len(days), "as_of": days, "label": [[] for _ in days]})
    with pytest.raises(TrainingSetUnusable, match="labels name no product"):
        build_training_set(SPEC, cutoff, empty, store, *(PartitionedTable(tmp_path, name) for name in ("a", "b")))
