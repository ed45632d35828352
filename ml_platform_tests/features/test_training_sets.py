from dataclasses import replace
from datetime import date
from pathlib import Path

import polars as pl
import pytest

from ml_platform.calendar import WEEK
from ml_platform.features.store import FeatureStore
from ml_platform.lake import PartitionedTable
from ml_platform.training.sets import TrainingSet, TrainingSetUnusable, build_training_set
from ml_platform.training.spec import ModelSpec, TemporalSplit
from ml_platform_tests.features.conftest import HOUSEHOLD, TABLES
from ml_platform_tests.training.conftest import make_spec

CUTOFF = date(2017, 11, 6)
HOUSEHOLDS = 20


@pytest.fixture
def spec(tmp_path: Path) -> ModelSpec:
    split = TemporalSplit(first=date(2017, 6, 5), train_mondays=3, evaluate_mondays=2)
    entity, features = ("household_id",), ("household:spend_cents_28d", "household:recency_days")
    return make_spec(
        tmp_path,
        entity=entity,
        cluster="household_id",
        features=features,
        split=split,
        baselines=tuple(replace(b, columns=features[:1]) for b in make_spec(tmp_path).baselines),
        slices=(),
    )


@pytest.fixture
def store(tmp_path: Path, spec: ModelSpec) -> FeatureStore:
    """Every Monday of the split; household 1 is new in the last, so the earlier ones do not know it."""
    store = FeatureStore(tmp_path / "lake", TABLES)
    for week, monday in enumerate(mondays(spec)):
        publish(store, monday, spend=1000 * week)
    return store


def mondays(spec: ModelSpec) -> list[date]:
    return list(spec.split.roles(CUTOFF, spec.label))


def publish(store: FeatureStore, monday: date, spend: int) -> None:
    rows = {"household_id": range(2, HOUSEHOLDS + 1), "as_of": monday, "spend_cents_28d": spend, "recency_days": 3}
    frame = HOUSEHOLD.conform(pl.DataFrame({**rows, "weekend_share": None}))
    table = store.table("household")
    table.publish(table.stage(monday.isoformat(), frame))


def labels(spec: ModelSpec, first_household: int = 2) -> pl.DataFrame:
    ids = pl.DataFrame({"household_id": range(first_household, HOUSEHOLDS + 1)})
    rows = ids.join(pl.DataFrame({"as_of": mondays(spec)}), how="cross")
    return rows.with_columns(label=(pl.col("household_id") % 2).cast(pl.Int8))


def build(spec: ModelSpec, store: FeatureStore, rows: pl.DataFrame, root: Path) -> TrainingSet:
    return build_training_set(spec, CUTOFF, rows, store, PartitionedTable(root, spec.name))


def test_each_row_has_its_role_its_label_and_the_features_of_its_own_monday(
    spec: ModelSpec, store: FeatureStore, tmp_path: Path
) -> None:
    built = build(spec, store, labels(spec), tmp_path)
    rows = pl.read_parquet(str(built.published.path))
    features = ["household__spend_cents_28d", "household__recency_days", "household__as_of"]
    assert rows.columns == ["household_id", "as_of", "role", "label", *features]
    assert rows.sort("as_of", "household_id").equals(rows)
    assert (rows["household__as_of"] == rows["as_of"]).all()
    assert dict(rows.select("as_of", "role").unique().iter_rows()) == spec.split.roles(CUTOFF, spec.label)
    spend = rows.group_by("as_of").agg(pl.col("household__spend_cents_28d").unique().first()).sort("as_of")
    assert spend["household__spend_cents_28d"].to_list() == [1000 * week for week in range(len(mondays(spec)))]


def test_every_label_has_matured_before_the_cutoff(spec: ModelSpec, store: FeatureStore, tmp_path: Path) -> None:
    built = build(spec, store, labels(spec), tmp_path)
    newest = built.by_monday["as_of"].max()
    assert isinstance(newest, date)
    assert newest + spec.label.maturity <= CUTOFF < newest + spec.label.maturity + WEEK


def test_the_digest_does_not_depend_on_the_order_of_the_rows(
    spec: ModelSpec, store: FeatureStore, tmp_path: Path
) -> None:
    straight = build(spec, store, labels(spec), tmp_path / "a")
    shuffled = labels(spec).sample(fraction=1, shuffle=True, seed=4).select("label", "as_of", "household_id")
    again = build(spec, store, shuffled, tmp_path / "b")
    assert again.digest == straight.digest
    assert again.published.path.read_bytes() == straight.published.path.read_bytes()


def test_the_digest_changes_with_a_feature_a_label_and_the_spec(
    spec: ModelSpec, store: FeatureStore, tmp_path: Path
) -> None:
    rows = labels(spec)
    digests = {build(spec, store, rows, tmp_path / "a").digest}
    digests.add(build(spec, store, rows.with_columns(label=1 - pl.col("label")), tmp_path / "b").digest)
    digests.add(build(replace(spec, seed=spec.seed + 1), store, rows, tmp_path / "c").digest)
    publish(store, mondays(spec)[0], spend=77)
    digests.add(build(spec, store, rows, tmp_path / "d").digest)
    assert len(digests) == 4


def test_features_published_after_the_newest_label_change_nothing(
    spec: ModelSpec, store: FeatureStore, tmp_path: Path
) -> None:
    before = build(spec, store, labels(spec), tmp_path / "a").digest
    publish(store, mondays(spec)[-1] + WEEK, spend=10**6)
    assert build(spec, store, labels(spec), tmp_path / "b").digest == before


def test_rows_a_table_does_not_know_keep_nulls_and_are_counted(
    spec: ModelSpec, store: FeatureStore, tmp_path: Path
) -> None:
    both = replace(
        spec, features=(*spec.features, "household_category:lines_28d"), entity=("household_id", "product_category")
    )
    with_pairs = labels(spec).with_columns(product_category=pl.lit("BREAD"))
    for monday in mondays(spec):
        table = store.table("household_category")
        one = {"household_id": [2], "product_category": ["BREAD"], "as_of": [monday], "lines_28d": [7]}
        table.publish(table.stage(monday.isoformat(), TABLES["household_category"].conform(pl.DataFrame(one))))
    built = build(both, store, with_pairs, tmp_path)
    rows = pl.read_parquet(str(built.published.path))
    assert rows["household_category__lines_28d"].count() == len(mondays(spec))
    assert built.by_monday["unmatched"].to_list() == [HOUSEHOLDS - 2] * len(mondays(spec))
    assert built.by_monday["stale"].to_list() == [0] * len(mondays(spec))


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda rows: rows.filter(pl.col("as_of") != rows["as_of"].min()), "no labels as of"),
        (lambda rows: pl.concat([rows, rows[:1].with_columns(as_of=CUTOFF)]), "which the split does not use"),
        (lambda rows: rows.with_columns(label=pl.lit(2, dtype=pl.Int8)), "neither 0 nor 1"),
        (lambda rows: rows.with_columns(label=pl.lit(None, dtype=pl.Int8)), "neither 0 nor 1"),
        (lambda rows: pl.concat([rows, rows[:3]]), "3 labels share"),
        (lambda rows: rows.with_columns(pl.col("household_id") + 10**6), "have none at all"),
    ],
    ids=["a Monday less", "an immature Monday", "label 2", "label null", "twice", "unknown households"],
)
def test_labels_that_cannot_be_meant_are_refused(
    spec: ModelSpec, store: FeatureStore, tmp_path: Path, spoil, why: str
) -> None:
    with pytest.raises(TrainingSetUnusable, match=why):
        build(spec, store, spoil(labels(spec)), tmp_path)
    assert PartitionedTable(tmp_path, spec.name).partitions() == []


def test_a_monday_without_features_of_its_own_is_refused_although_older_ones_would_do(
    spec: ModelSpec, store: FeatureStore, tmp_path: Path
) -> None:
    gap = mondays(spec)[1]
    (store.table("household").folder / "published" / f"{gap}.json").unlink()
    with pytest.raises(TrainingSetUnusable, match=f"not published as of {gap}"):
        build(spec, store, labels(spec), tmp_path)


def test_features_from_after_their_labels_time_are_refused(
    spec: ModelSpec, store: FeatureStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = store.join

    def a_week_late(rows: pl.DataFrame, *arguments) -> pl.DataFrame:
        later = honest(rows.with_columns(pl.col("as_of") + WEEK), *arguments)
        return later.with_columns(rows["as_of"])

    monkeypatch.setattr(store, "join", a_week_late)
    with pytest.raises(TrainingSetUnusable, match="after their label time"):
        build(spec, store, labels(spec), tmp_path)
