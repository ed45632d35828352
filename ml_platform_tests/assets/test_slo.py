"""The asset that shows every promise, and where Dagster's own freshness stands."""

import sqlite3
from contextlib import closing
from datetime import date
from pathlib import Path

import dagster as dg
import pytest

from assets.freshness import BY_CHAMPION, BY_DAY, BY_WEEK, UNLESS_SAID, with_default_freshness
from assets.slo import CHECK, KEY, PROMISES, SLO_ASSETS, asset_key
from ml_platform.clock import Clock
from ml_platform.definitions import defs

TODAY = date(2017, 6, 8)


def stub(key: dg.AssetKey) -> dg.AssetsDefinition:
    """An asset of that key that does nothing."""

    @dg.asset(key=key)
    def nothing() -> None: ...

    return nothing


def test_every_asset_has_a_freshness_policy_and_what_was_declared_is_not_overwritten() -> None:
    graph = defs.resolve_asset_graph()
    policies = {key: graph.get(key).freshness_policy for key in graph.materializable_asset_keys}
    assert None not in policies.values()
    expected = {"raw": BY_DAY, "staging": BY_DAY, "marts": BY_DAY, "feature_models": BY_WEEK, "features": BY_WEEK}
    for key, policy in policies.items():
        first, last = key.path[0], key.path[-1]
        if first == "predictions" or last in ("drift", "performance", "embeddings"):
            assert policy == BY_WEEK
        elif first == "models":
            assert policy == (BY_CHAMPION if last == "champion" else UNLESS_SAID)
        elif first in expected:
            assert policy == expected[first], key
    assert policies[KEY] == UNLESS_SAID


def test_the_default_is_only_for_who_says_nothing() -> None:
    said, silent = dg.AssetSpec("said", freshness_policy=BY_DAY), dg.AssetSpec("silent")
    defaulted = [spec for spec in with_default_freshness([said, silent]) if isinstance(spec, dg.AssetSpec)]
    assert [spec.freshness_policy for spec in defaulted] == [BY_DAY, UNLESS_SAID]


def test_what_is_promised_is_an_asset_that_the_shown_table_reads() -> None:
    graph = defs.resolve_asset_graph()
    assert {asset_key(promise) for promise in PROMISES} <= set(graph.materializable_asset_keys)
    assert {asset_key(promise) for promise in PROMISES} == set(graph.get(KEY).parent_keys)


def test_it_is_shown_anew_once_after_features_or_predictions_are_and_not_for_every_day_that_lands() -> None:
    graph = defs.resolve_asset_graph()
    upstream = [stub(key) for key in graph.get(KEY).parent_keys]
    small, cursor, asked = dg.Definitions(assets=[*upstream, *SLO_ASSETS]), None, []
    with dg.DagsterInstance.ephemeral() as instance:
        for made in ("", "raw/transactions", "features/household", "", "features/household", "", "raw/transactions"):
            if made:
                instance.report_runless_asset_event(dg.AssetMaterialization(dg.AssetKey(made.split("/"))))
            ticked = dg.evaluate_automation_conditions(small, instance, cursor=cursor)
            cursor, asked = ticked.cursor, [*asked, ticked.total_requested]
    assert asked == [0, 0, 1, 0, 1, 0, 0]


def test_the_asset_shows_every_promise_and_its_check_names_what_is_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ML_PLATFORM_ALERTS_URL", "ML_PLATFORM_LEDGER_URL", "ML_PLATFORM_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ML_PLATFORM_HOME", str(tmp_path))
    Clock(tmp_path).move_to(TODAY)
    note = tmp_path / "lake" / "loaded" / "transactions.json"
    note.parent.mkdir(parents=True)
    note.write_text('{"format_version": 1, "table": "transactions", "landed_on": "2017-06-03", "event": "2017-06-03"}')
    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize(SLO_ASSETS, instance=instance)
    assert result.success
    (made,) = result.asset_materializations_for_node("__".join(KEY.path))
    figures = {name: made.metadata[name].value for name in ("held", "broken", "unknown", "least_budget_left_days")}
    assert figures == {"held": 0, "broken": 2, "unknown": len(PROMISES) - 2, "least_budget_left_days": 3.5}
    (check,) = result.get_asset_check_evaluations()
    assert (check.check_name, check.passed, check.severity) == (CHECK, False, dg.AssetCheckSeverity.WARN)
    broken = check.metadata["broken"]
    assert isinstance(broken, dg.TableMetadataValue)
    assert [record.data["since"] for record in broken.records] == ["2017-06-06", "2017-06-07"]
    with closing(sqlite3.connect(tmp_path / "alerts.db")) as connection:
        assert connection.execute("select count(*) from slo_days").fetchone() == (0,), "showing records nothing"
