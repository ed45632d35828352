"""The whole path on a slice of the real data: from landed files to predictions, and what must not move.

One module, so that one process makes the home: adding a model, as its page in docs/ says, stands here too.
"""

import importlib.util
import re
from datetime import date
from pathlib import Path

import dagster as dg
import polars as pl
import pyarrow.parquet as pq
import pytest

from assets.feature_tables import FEATURE_TABLES
from assets.models import MODELS
from ml_platform.features.publish import publish_weeks
from ml_platform.features.store import FeatureStore
from ml_platform.lake import PartitionedTable
from ml_platform.landing.files import LandingFolder
from ml_platform.settings import REPOSITORY
from ml_platform.training.spec import ModelSpec
from ml_platform.warehouse.duckdb import DuckDBWarehouse
from ml_platform_tests.assets.conftest import mlp

PAGE = REPOSITORY / "docs" / "adding-a-model.md"
CUTOFF = "2018-01-01"
MODEL = "category_replenishment"


def test_every_model_has_a_judged_version_and_a_training_set(home: Path, models) -> None:
    assert set(models()) == set(MODELS)
    for name in MODELS:
        published = PartitionedTable(home / "lake" / "training_sets", name).published(CUTOFF)
        assert published is not None and published.rows > 0
        assert models()[name]["newest_version"] == 1


def test_a_second_demo_finds_nothing_to_do_and_changes_no_version(home: Path, models) -> None:
    before = models()
    done = mlp(home, "demo")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "up to date" in done.stdout
    assert models() == before


def test_training_again_from_the_same_inputs_gives_the_same_version(home: Path, models) -> None:
    bundles = sorted(path.name for path in (home / "lake" / "models" / MODEL).iterdir())
    done = mlp(home, "run", "--force", f'key:"models/{MODEL}/training_set" or key:"models/{MODEL}/candidate"')
    assert done.returncode == 0, done.stdout + done.stderr
    assert sorted(path.name for path in (home / "lake" / "models" / MODEL).iterdir()) == bundles
    assert models()[MODEL]["newest_version"] == 1


def test_a_late_correction_leaves_the_older_training_set_as_it_was(home: Path) -> None:
    training_sets = PartitionedTable(home / "lake" / "training_sets", MODEL)
    before = training_sets.published(CUTOFF)
    assert before is not None
    corrected = _land_a_correction(home, date(2018, 1, 1))
    for arguments in (
        ("run", "--partition", "2018-01-01", 'group:"raw" or group:"staging" or group:"marts"'),
        ("run", "--force", "--partition", CUTOFF, 'group:"feature_models" or group:"features"'),
        ("run", "--force", "--partition", CUTOFF, f'key:"models/{MODEL}/training_set"'),
    ):
        done = mlp(home, *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
    with DuckDBWarehouse(home / "warehouse" / "warehouse.duckdb").session("test") as session:
        landed = session.read(
            "select sum(spend_cents_delta) as cents from marts.household_day_deltas where landed_on >= $day",
            {"day": date(2018, 1, 1)},
        )
    assert landed["cents"][0] == corrected
    after = training_sets.published(CUTOFF)
    assert after is not None
    assert (after.digest, after.metadata["digest"]) == (before.digest, before.metadata["digest"])


def test_features_a_week_late_are_caught_and_never_published(home: Path) -> None:
    table, monday, later = FEATURE_TABLES["household"], date(2017, 10, 2), date(2017, 10, 9)
    store = FeatureStore(home / "lake", FEATURE_TABLES)
    before = store.table("household").published(monday.isoformat())
    with DuckDBWarehouse(home / "warehouse" / "warehouse.duckdb").session("test") as session:
        swap = {"monday": monday, "later": later}
        session.execute(
            "create temp table honest as select * from feature_models.household_features where as_of = $monday",
            {"monday": monday},
        )
        session.execute("delete from feature_models.household_features where as_of = $monday", {"monday": monday})
        session.execute(
            "insert into feature_models.household_features"
            " select * replace ($monday as as_of) from feature_models.household_features where as_of = $later",
            swap,
        )
        try:
            week = publish_weeks(session, store, table, [monday])[0]
        finally:
            session.execute("delete from feature_models.household_features where as_of = $monday", {"monday": monday})
            session.execute("insert into feature_models.household_features select * from honest")
    assert week.published is None
    assert not week.audit.passed and week.audit.mismatches.height > 10
    assert store.table("household").published(monday.isoformat()) == before


def test_predictions_name_their_version_their_features_and_stay_within_zero_and_one(home: Path, models) -> None:
    for name, row in models().items():
        if row["champion"] is None:
            done = mlp(
                home,
                "promote",
                name,
                "1",
                "--reason",
                "a slice is too small for the gates",
                "--who",
                "tester",
                *_waivers(row),
            )
            assert done.returncode == 0, done.stdout + done.stderr
            assert mlp(home, "run", "--force", "--partition", CUTOFF, f'key:"predictions/{name}"').returncode == 0
        frame = PartitionedTable(home / "lake" / "predictions", name).read(CUTOFF)
        key = [*MODELS[name].entity, *(["rank"] if "rank" in frame.columns else [])]
        assert frame.height == frame.select(key).n_unique() > 0
        assert frame["score"].is_between(0, 1).all()
        assert frame["model_version"].unique().to_list() == [1]
        assert frame["feature_as_of"].unique().to_list() == [date(2018, 1, 1)]


def _waivers(row: dict) -> list[str]:
    gates = row["newest_failed_gates"]
    return [word for gate in gates for word in ("--waive", gate)] + ["--until", "2099-12-31"]


def _land_a_correction(home: Path, day: date) -> int:
    """Lands a day on which one old line turns out to have cost a dollar more; returns what changes, in cents."""
    landing = LandingFolder(home / "landing")
    old = landing.delivery("transactions", date(2017, 11, 20))
    assert old is not None
    rows = pl.from_arrow(pq.read_table(old.data_path))
    assert isinstance(rows, pl.DataFrame)
    with DuckDBWarehouse(home / "warehouse" / "warehouse.duckdb").session("test") as session:
        line = session.read(
            "select household_id, basket_id, product_id from staging.stg_transactions"
            " where landed_on = $day and event_date = $day and is_merchandise and product_category is not null"
            " order by household_id, basket_id, product_id limit 1",
            {"day": date(2017, 11, 20)},
        )
    corrected = rows.join(line, on=line.columns).with_columns(pl.col("sales_value") + 1.0)
    assert corrected.height == 1
    landing.land("transactions", day, corrected.to_arrow().cast(pq.read_schema(old.data_path)))
    redemptions = landing.delivery("coupon_redemptions", date(2017, 11, 20))
    assert redemptions is not None
    empty = pq.read_table(redemptions.data_path).slice(0, 0)
    landing.land("coupon_redemptions", day, empty)
    return 100


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
    return module.SPEC


def test_the_declared_model_becomes_a_life_cycle_of_seven_assets(spec: ModelSpec) -> None:
    from assets.lifecycle import build_lifecycle

    keys = {asset.key.to_user_string() for asset in build_lifecycle(spec)}
    stages = ("training_set", "candidate", "evaluation", "champion")
    watched = (f"monitoring/heavy_redemption/{stage}" for stage in ("drift", "performance"))
    made = (f"models/heavy_redemption/{stage}" for stage in stages)
    assert keys == {"predictions/heavy_redemption", *made, *watched}


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
