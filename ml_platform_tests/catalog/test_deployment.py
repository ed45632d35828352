"""The lineage of this repository: whole, followed to the last column, free of what no spec allows, and shown."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from typer.testing import CliRunner

import assets.catalog
import assets.columns
from assets.models import MODELS
from ml_platform.catalog.build import Declared, build_lineage
from ml_platform.catalog.dbt import Project
from ml_platform.catalog.graph import ColumnRef, Lineage
from ml_platform.catalog.names import find
from ml_platform.catalog.pii import forbidden_inputs
from ml_platform.cli import app
from ml_platform.contracts import AS_OF, Column, FeatureTable
from ml_platform.settings import REPOSITORY
from ml_platform_tests.catalog.builders import ref
from resources import LakeResource

CLASSIFIERS = [spec.name for spec in MODELS.values() if spec.task == "classify"]
CONSTANT = {"sign", "role", "kind"}
"""Columns that are made of nothing, and say so."""


def test_every_column_that_sql_makes_is_followed_to_its_sources(whole: Lineage):
    assert whole.resolved().share == 1
    assert whole.resolved().columns > 200
    assert [str(edge) for edge in whole.edges if edge.how == "unknown"] == []


def test_every_edge_leads_between_columns_that_are_there(whole: Lineage):
    there = {reference for node in whole.nodes for reference in whole.refs(node)}
    assert {end for edge in whole.edges for end in (edge.source, edge.target)} <= there


def test_every_value_comes_from_a_landed_file_or_is_a_constant(whole: Lineage):
    from_nowhere = {
        str(reference)
        for node in whole.nodes.values()
        for reference in whole.refs(node.id)
        if node.kind != "landing" and node.id != "raw/loads" and not whole.sources(reference)
    }
    parameters = {f"labels/{name}.as_of" for name in MODELS}
    assert {name for name in from_nowhere if name.rpartition(".")[2] not in CONSTANT} == parameters


@pytest.mark.parametrize("model", CLASSIFIERS)
def test_the_receipts_money_is_followed_all_the_way_to_each_household_models_predictions(whole: Lineage, model: str):
    start, score = ref("landing/transactions.sales_value"), ref(f"predictions/{model}.score")
    on_the_way = {edge.target.node for edge in whole.downstream(start)} & {
        edge.source.node for edge in whole.upstream(score)
    }
    stages = {whole.nodes[node].kind for node in on_the_way}
    assert stages == {"raw", "staging", "marts", "feature_models", "features", "training_set", "model"}
    assert find(whole, "raw.transactions.sales_value") == start
    assert start in {edge.source for edge in whole.upstream(score)}


def test_a_rankers_lists_are_made_of_baskets_and_of_the_catalogue(whole: Lineage):
    (ranker,) = [spec for spec in MODELS.values() if spec.task == "rank"]
    sources = {edge.source for edge in whole.upstream(ref(f"predictions/{ranker.name}.score"))}
    assert {ref("features/household_baskets.products"), ref("features/product.category")} <= sources
    assert ref("landing/transactions.product_id") in sources
    first = whole.nodes[f"models/{ranker.name}"].columns[0]
    assert (first.importance, whole.nodes[f"predictions/{ranker.name}"].version) == (1.0, 7)


def test_every_node_is_described_owned_and_declared_somewhere(whole: Lineage):
    for node in whole.nodes.values():
        assert node.description and node.checksum, node.id
        assert node.owner or node.id == "raw/loads", node.id
        assert all(column.description or node.kind == "labels" for column in node.columns), node.id
    for place in assets.columns._code().values():
        path, _, line = place.partition(":")
        assert (
            "= ModelSpec(" in (said := (REPOSITORY / path).read_text().splitlines()[int(line) - 1]) or "Table(" in said
        )


def test_every_asset_can_be_filtered_by_owner_tag_and_group_and_opens_what_declares_it():
    from ml_platform.definitions import defs

    graph = defs.resolve_asset_graph()
    for key in graph.materializable_asset_keys:
        asset = graph.get(key)
        assert asset.owners and asset.tags and asset.description and asset.group_name != "default", key
        opened = asset.metadata["dagster/code_references"].code_references  # type: ignore[attr-defined]
        assert opened and all(Path(place.file_path).is_file() for place in opened), key
        if key.path[0] in ("staging", "marts", "feature_models"):
            assert Path(opened[0].file_path).suffix == ".sql", key


def test_units_are_those_that_contracts_state_and_otherwise_what_names_and_types_say(whole: Lineage):
    columns = {str(ColumnRef(node.id, each.name)): each.unit for node in whole.nodes.values() for each in node.columns}
    assert columns["landing/transactions.sales_value"] == "dollars"
    assert columns["features/household.spend_cents_28d"] == columns["marts/line_changes.discount_cents"] == "cents"
    assert columns["marts/basket_changes.lines_delta"] == "count"
    assert columns["landing/campaigns.start_date"] == columns["features/household.as_of"] == "date"
    assert columns[f"labels/{CLASSIFIERS[0]}.label"] == "flag"
    assert sum(not unit for unit in columns.values()) / len(columns) < 0.03


def test_no_model_learns_from_personal_data(whole: Lineage):
    assert {spec.name: forbidden_inputs(whole, spec) for spec in MODELS.values()} == {name: [] for name in MODELS}


@pytest.fixture
def with_ages(declared: Declared) -> Declared:
    """The same deployment, had somebody made a feature of what households told about themselves."""
    told = FeatureTable(
        name="told",
        entity=("household_id",),
        columns=(
            Column("household_id", "int64", "Household", "id"),
            AS_OF,
            Column("age", "string", "Innocently described", "name"),
        ),
        description="Of demographics.",
        owner="team:x",
        relation="staging.stg_demographics",
        audit_sql=Path(),
    )
    spec = replace(MODELS[CLASSIFIERS[-1]], features=(*MODELS[CLASSIFIERS[-1]].features, "told:age"))
    return replace(declared, features={**declared.features, "told": told}, models={spec.name: spec})


def test_an_input_made_of_what_the_spec_does_not_allow_is_refused_with_the_way_it_came(with_ages: Declared):
    (spec,) = with_ages.models.values()
    graph = build_lineage(with_ages)
    verdict = assets.columns.pii_result(dg.AssetKey("x"), spec, graph)
    assert not verdict.passed
    way = [
        *("landing/demographics.age", "raw/demographics.age", "staging/stg_demographics.age", "features/told.age"),
        *(f"models/{spec.name}/training_set.told__age", f"models/{spec.name}.told__age"),
    ]
    assert verdict.description == f"1 inputs hold more than none: personal: {' → '.join(way)}"
    allowed = replace(spec, allowed_pii=("none", "personal"))
    assert assets.columns.pii_result(dg.AssetKey("x"), allowed, graph).passed
    assert allowed.digest() == spec.digest()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: Lineage) -> Path:
    """A fresh home, and the lineage at hand without dbt."""
    monkeypatch.setenv("ML_PLATFORM_HOME", str(tmp_path))
    for module in (assets.columns, assets.catalog):
        monkeypatch.setattr(module, "lineage_now", lambda *_, **__: whole)
    return tmp_path


def test_the_catalogue_is_published_and_every_asset_gets_its_picture_and_its_users(home: Path, whole: Lineage):
    with dg.DagsterInstance.ephemeral() as instance:
        done = dg.materialize([*assets.catalog.CATALOG_ASSETS], instance=instance, resources={"lake": LakeResource()})
    (check,) = done.get_asset_check_evaluations()
    assert check.passed and (home / "lake" / "catalog" / "lineage.duckdb").exists()
    seen = [each.asset_observation_data.asset_observation for each in done.all_events if _is_observation(each)]
    shown = {each.asset_key.to_user_string(): each.metadata for each in seen}
    assert {f"models/{name}/champion" for name in MODELS} | {"raw/transactions", "features/household"} <= shown.keys()
    said = shown["raw/transactions"]
    picture, users = said["column_picture"], said["used_by"]
    assert isinstance(picture, dg.MarkdownMetadataValue) and isinstance(users, dg.TableMetadataValue)
    assert picture.md_str and "data:image/svg+xml;base64," in picture.md_str
    used_by = {record.data["used_by"]: record.data["champion"] for record in users.records}
    assert {used_by[f"predictions/{name}"] for name in MODELS} == {"v7"}


def _is_observation(event: dg.DagsterEvent) -> bool:
    return event.event_type == dg.DagsterEventType.ASSET_OBSERVATION


def test_columns_are_shown_on_the_newest_partition_of_a_run_and_on_no_other(home: Path, whole: Lineage):
    days = dg.DailyPartitionsDefinition("2017-01-01", end_date="2017-01-04")

    @dg.asset(key=["features", "household"], partitions_def=days, backfill_policy=dg.BackfillPolicy.single_run())
    def household(context: dg.AssetExecutionContext) -> None:
        assets.columns.show_columns(context, whole, context.asset_key)

    with dg.DagsterInstance.ephemeral() as instance:
        tags = {"dagster/asset_partition_range_start": "2017-01-01", "dagster/asset_partition_range_end": "2017-01-03"}
        done = dg.materialize([household], instance=instance, tags=tags)
    made = {each.partition: each.metadata for each in done.asset_materializations_for_node("features__household")}
    assert len(made) == 3 and not any("dagster/column_lineage" in made[day] for day in ("2017-01-01", "2017-01-02"))
    newest = made["2017-01-03"]
    lineage, schema = newest["dagster/column_lineage"].value, newest["dagster/column_schema"].schema  # type: ignore[attr-defined]
    (dep,) = lineage.deps_by_column["spend_cents_28d"]
    assert (dep.asset_key, dep.column_name) == (
        dg.AssetKey(["feature_models", "household_features"]),
        "spend_cents_28d",
    )
    shown = {column.name: column for column in schema.columns}
    assert shown["household_id"].tags == {"pii": "pseudonymous", "unit": "id"}
    assert shown["spend_cents_28d"].description.endswith("[cents] ← feature_models/household_features.spend_cents_28d")


def test_dagsters_lineage_looks_through_what_is_no_asset(whole: Lineage):
    node = whole.nodes[f"models/{CLASSIFIERS[0]}/training_set"]
    deps = assets.columns._column_lineage(whole, node).deps_by_column["label"]
    assert {dep.asset_key.path[0] for dep in deps} == {"marts"}


def mlp(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["lineage", *arguments])
    assert not done.exception or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.stdout + done.stderr


def test_mlp_lineage_answers_in_words_json_and_graphviz(home: Path):
    code, said = mlp("predictions/" + CLASSIFIERS[0], "--up")
    assert code == 0 and "champion v7" in said and "never made" in said and "(100.0%)" in said
    code, said = mlp("raw.transactions.retail_disc", "--down", "--json")
    told: dict[str, Any] = json.loads(said)
    assert code == 0 and told["what"] == "landing/transactions.retail_disc" and "up" not in told
    assert told["states"]["raw/transactions"]["made"] is None and told["followed"]["share"] == 1
    code, said = mlp("household:spend_cents_28d", "--dot", "--up")
    assert code == 0 and '"landing/transactions.sales_value" -> "raw/transactions.sales_cents";' in said
    code, said = mlp("household:spend_28d")
    assert code == 1 and "spend_cents_28d" in said
    code, said = mlp("[bold]x[/]<b>")
    assert code == 1 and "[bold]x[/]<b>" in said


def test_mlp_lineage_names_the_columns_that_could_not_be_followed(
    home: Path, declared: Declared, monkeypatch: pytest.MonkeyPatch
):
    manifest = json.loads(json.dumps(declared.project.manifest))
    (key,) = [key for key in manifest["nodes"] if key.endswith(".stg_products")]
    manifest["nodes"][key]["compiled_code"] = "select product_id from where"
    broken = build_lineage(replace(declared, project=Project(manifest, lambda: manifest)))
    monkeypatch.setattr(assets.columns, "lineage_now", lambda *_, **__: broken)
    code, said = mlp("staging/stg_products.product_type", "--up")
    assert code == 0 and "raw/products.*" in said and "suspected: its SQL cannot be followed" in said
    assert "(100.0%)" not in said and "not followed: staging/stg_products.*" in said


def test_mlp_catalog_writes_a_page_of_a_home_in_which_nothing_was_made_yet(home: Path, whole: Lineage):
    out = home / "pages" / "catalog.html"
    done = CliRunner().invoke(app, ["catalog", "--out", str(out)])
    assert done.exit_code == 0 and f"{len(whole.nodes)} nodes" in " ".join(done.stdout.split()), done.output
    assert all(node in out.read_text() for node in whole.nodes)
    refused = CliRunner().invoke(app, ["catalog", "--out", str(out / "below.html")])
    assert refused.exit_code == 1 and isinstance(refused.exception, SystemExit)


def test_unknown_columns_that_were_renamed_since_the_last_run_are_told_by_their_new_name(home: Path, whole: Lineage):
    from ml_platform.catalog.table import publish

    old = "features/household.spend"
    before = {
        **whole.nodes,
        "features/household": replace(
            whole.nodes["features/household"],
            columns=tuple(
                replace(each, name="spend") if each.name == "spend_cents_28d" else each
                for each in whole.nodes["features/household"].columns
            ),
        ),
    }

    def then(end: ColumnRef) -> ColumnRef:
        return ref(old) if str(end) == "features/household.spend_cents_28d" else end

    edges = tuple(sorted(replace(edge, source=then(edge.source), target=then(edge.target)) for edge in whole.edges))
    publish(Lineage(before, edges), home / "lake")
    for name in ("features.household.spend", "household:spend"):
        code, said = mlp(name)
        assert code == 1 and "was renamed to spend_cents_28d" in " ".join(said.split())
    for thing in ((), ("models/" + CLASSIFIERS[0], "--up")):
        assert "features/household.spend was renamed to spend_cents_28d" in mlp(*thing)[1]
