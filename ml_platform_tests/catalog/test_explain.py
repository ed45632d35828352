"""A prediction taken apart: what is told adds up to what was published, or says why it does not."""

import json
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import assets.models
import ml_platform.cli.explain
from ml_platform.catalog.explain import Explanation, Places, UnknownPrediction, explain
from ml_platform.catalog.source_rows import source_rows
from ml_platform.cli import app
from ml_platform.contracts import AS_OF, Column, FeatureTable
from ml_platform.features.store import FeatureStore
from ml_platform.lake import PartitionedTable
from ml_platform.landing.files import LandingFolder
from ml_platform.landing.tables import RAW_TABLES
from ml_platform.predictions import Scorer, predict
from ml_platform.registry.bundles import MODEL
from ml_platform.registry.ledger import Ledger
from ml_platform.training.data import feature_matrix
from ml_platform.training.job import TrainingJob
from ml_platform.training.reporting import PlainReporter
from ml_platform.training.spec import ModelSpec
from ml_platform.training.trainers.xgboost import import_xgboost, load_model
from ml_platform.training.worker import train
from ml_platform_tests.training.conftest import make_rows, make_spec

MONDAY = date(2017, 6, 5)
VALUES = ("visits", "spend", "is_member", "noise")
SHOPPER = FeatureTable(
    name="shopper",
    entity=("shopper_id",),
    columns=(
        Column("shopper_id", "int64", "Shopper", "id", lower=0),
        AS_OF,
        Column("visits", "int32", "Visits", "count", lower=0),
        Column("spend", "float64", "Spend", "cents", nullable=True),
        Column("is_member", "bool", "Member", "flag"),
        Column("noise", "float32", "Noise", "ratio"),
    ),
    description="What a shopper did",
    owner="team:tests",
    relation="feature_models.shopper_features",
    audit_sql=Path(__file__),
)


@dataclass(frozen=True)
class Home:
    """A champion that has predicted one Monday, and the shoppers' features of that Monday."""

    spec: ModelSpec
    places: Places
    shoppers: pl.DataFrame

    def explain(self, shopper: str = "7", week: str = MONDAY.isoformat()) -> Explanation:
        return explain(self.spec, shopper, week, self.places)

    def publish(self, shoppers: pl.DataFrame) -> None:
        table = self.places.store.table("shopper")
        table.publish(table.stage(MONDAY.isoformat(), shoppers))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    folder = tmp_path_factory.mktemp("explained")
    spec, data = make_spec(folder), folder / "training_set.parquet"
    rows = make_rows()
    pq.write_table(rows, data)
    bundle = train(TrainingJob.from_spec(spec, data, "digest", folder / "bundle"), PlainReporter())
    assert bundle is not None
    store, ledger = FeatureStore(folder, {"shopper": SHOPPER}), Ledger(f"sqlite:///{folder / 'ledger.db'}")
    renamed = {f"shopper__{name}": name for name in VALUES}
    frame = pl.DataFrame(pl.from_arrow(rows)).rename(renamed).with_columns(as_of=MONDAY).head(300)
    home = Home(
        spec,
        Places(folder, store, ledger, LandingFolder(folder / "landing"), {}),
        SHOPPER.conform(frame.select(list(SHOPPER.schema()))),
    )
    home.publish(home.shoppers)
    ledger.register(
        spec.name, bundle_digest=bundle.digest, bundle_uri=str(bundle.path), cutoff=MONDAY,
        training_set_digest="digest", spec_digest=spec.digest(), run_id="run",
    )  # fmt: skip
    ledger.append(spec.name, "promote", 1, None, who="ada", reason="it is better", evidence_digest="evidence")
    predictions = PartitionedTable(folder / "predictions", spec.name)
    scored = predict(spec, {"champion": Scorer(1, bundle)}, store, MONDAY)
    predictions.publish(predictions.stage(MONDAY.isoformat(), scored, {"champion": "1"}))
    return home


def test_the_shares_of_the_features_and_the_bias_add_up_to_the_margin(home: Home) -> None:
    found = home.explain()
    (account,) = found.accounts
    matrix = feature_matrix(
        pl.DataFrame(home.shoppers).filter(shopper_id=7).to_arrow(), ["visits", "spend", "is_member", "noise"]
    )
    version = home.places.ledger.version(home.spec.name, 1)
    booster = load_model((Path(version.bundle_uri) / MODEL).read_bytes())
    names = {"feature_names": booster.feature_names}
    margin = booster.predict(import_xgboost().DMatrix(matrix, **names), output_margin=True)[0]
    assert sum(account.parts.values()) == pytest.approx(float(margin), abs=1e-5) and account.margin == pytest.approx(
        margin, abs=1e-5
    )
    assert set(account.parts) == {*home.spec.features, "bias"}
    assert {each.reference: each.contribution for each in found.features} == {
        name: share for name, share in account.parts.items() if name != "bias"
    }


def test_the_steps_lead_from_the_margin_to_the_published_probability(home: Home) -> None:
    found = home.explain()
    logistic, calibration = found.accounts[0].steps
    assert logistic.value == pytest.approx(1 / (1 + np.exp(-found.accounts[0].margin)), abs=1e-6)
    assert calibration.name == "calibration" and calibration.value == found.published[0]
    assert found.reproduced and found.features_unchanged
    assert found.version == 1 and [entry["who"] for entry in found.entries] == ["ada"]


def test_values_are_those_that_were_read_and_a_missing_one_has_its_share_too(home: Home) -> None:
    unknown = home.shoppers.filter(pl.col("spend").is_null())["shopper_id"][0]
    told = {each.reference: each for each in home.explain(str(unknown)).features}
    row = home.shoppers.filter(shopper_id=unknown).row(0, named=True)
    assert {name.partition(":")[2]: each.value for name, each in told.items()} == {
        n: row[n] for n in ("visits", "spend", "is_member", "noise")
    }
    assert told["shopper:spend"].contribution is not None and {each.as_of for each in told.values()} == {MONDAY}


def test_features_published_again_since_are_said_and_so_is_another_answer(home: Home) -> None:
    home.publish(home.shoppers.with_columns(visits=pl.col("visits") + 9))
    try:
        found = home.explain()
        assert not found.features_unchanged and not found.reproduced
    finally:
        home.publish(home.shoppers)


def test_mlp_explain_shows_the_whole_way_and_refuses_what_is_no_monday(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(assets.models.MODELS, home.spec.name, home.spec)
    monkeypatch.setattr(ml_platform.cli.explain, "_places", lambda: home.places)
    run, asked = CliRunner(env={"COLUMNS": "160"}), ["explain", home.spec.name, "7", MONDAY.isoformat()]
    shown = run.invoke(app, asked).stdout
    assert all(word in shown for word in ("shopper:visits", "bias", "logistic", "calibration", "ada", "version 1"))
    assert f"published    {home.explain().published[0]:.6f}  the same" in shown
    told = json.loads(run.invoke(app, [*asked, "--json"]).stdout)
    (account,) = told["accounts"]
    assert sum(account["parts"].values()) == pytest.approx(account["margin"], abs=1e-5) and told["reproduced"]
    assert told["scores"] == pytest.approx(told["published"])
    refused = run.invoke(app, [*asked[:-1], "2017-06-06"])
    assert refused.exit_code == 1 and "2017-06-06 is a Tuesday" in refused.stderr and "2017-06-05" in refused.stderr


@pytest.mark.parametrize(
    ("entity", "week", "near"),
    [("301", "2017-06-05", "299, 298, 297"), ("x'; drop", "2017-06-05", "0, 1, 2"), ("7", "2017-06-12", "2017-06-05")],
)
def test_an_unknown_entity_or_week_is_refused_with_the_nearest(entity: str, week: str, near: str, home: Home) -> None:
    with pytest.raises(UnknownPrediction) as refused:
        home.explain(entity, week)
    assert refused.value.next_step == f"the nearest are {near}"


def test_source_rows_are_the_entitys_own_and_landed_before_the_monday(tmp_path: Path) -> None:
    landing, noon = LandingFolder(tmp_path), datetime(2017, 6, 1, 16, tzinfo=UTC)
    words = dict.fromkeys(("department", "brand", "product_type", "package_size"), "x") | {"manufacturer_id": 1}
    aisle = [{**words, "product_id": each, "product_category": kind} for each, kind in ((1, "BEEF"), (2, "MILK"))]
    land(landing, "products", date(2017, 5, 29), aisle)
    for days, (household, product) in enumerate(((1, 1), (1, 2), (2, 1), (1, 1))):
        bought = {"household_id": household, "product_id": product, "basket_id": days, "store_id": 1, "quantity": 1}
        at = {"event_ts": noon + timedelta(days=days), "is_withdrawn": False}
        land(landing, "transactions", date(2017, 6, 2) + timedelta(days=days), [bought | at])
    pair = {"household_id": 1, "product_category": "BEEF"}
    found = source_rows(landing, "household_category", "transactions", pair, MONDAY)
    assert (found.rows, found.landed_on, found.event) == (1, date(2017, 6, 2), noon)
    assert found.narrowed_by == ("household_id", "product_category")
    whole = source_rows(landing, "household", "products", {"household_id": 1}, MONDAY)
    assert (whole.rows, whole.narrowed_by, whole.landed_on) == (2, (), date(2017, 5, 29))
    nothing = source_rows(landing, "household", "transactions", {"household_id": 1}, date(2017, 5, 1))
    assert (nothing.rows, nothing.landed_on, nothing.event) == (0, None, None)


def land(folder: LandingFolder, table: str, day: date, rows: list[dict]) -> None:
    schema = RAW_TABLES[table].schema
    usual = {field.name: 0.0 for field in schema if pa.types.is_floating(field.type)}
    folder.land(table, day, pa.Table.from_pylist([usual | row for row in rows], schema=schema))
