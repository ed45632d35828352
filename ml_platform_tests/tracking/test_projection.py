import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from ml_platform.registry.ledger import Ledger
from ml_platform.tracking.mlflow import Tracking
from ml_platform.tracking.projection import ALIAS
from ml_platform_tests.registry.conftest import MODEL, Shelf, start_process


def mirrored(tracking: Tracking) -> dict[str, str]:
    """MLflow's version number to the bundle digest it mirrors, by hand-made ones excluded."""
    versions: list[Any] = list(tracking.client.search_model_versions(f"name = '{MODEL}'"))
    return {str(version.version): version.tags.get("bundle_digest", "made by hand") for version in versions}


def champion(tracking: Tracking) -> str:
    """The bundle digest under the alias."""
    return tracking.client.get_model_version_by_alias(MODEL, ALIAS).tags["bundle_digest"]


def test_every_version_is_mirrored_and_the_alias_stands_on_the_champion(tracking: Tracking, shelf: Shelf) -> None:
    shelf.reign("one", "two")
    shelf.version("three")
    change = tracking.project(shelf.ledger, MODEL)
    assert (change.created, change.alias_before, change.alias_after) == ((1, 2, 3), None, "2")
    assert mirrored(tracking) == {"1": "one", "2": "two", "3": "three"}
    assert champion(tracking) == "two"


def test_a_second_projection_changes_nothing(tracking: Tracking, shelf: Shelf) -> None:
    shelf.reign("one")
    assert tracking.project(shelf.ledger, MODEL).changed
    again = tracking.project(shelf.ledger, MODEL)
    assert not again.changed
    assert mirrored(tracking) == {"1": "one"}


def test_a_model_without_versions_leaves_no_trace(tracking: Tracking, shelf: Shelf) -> None:
    assert not tracking.project(shelf.ledger, "nonesuch").changed
    assert list(tracking.client.search_registered_models()) == []


def test_an_alias_moved_or_removed_by_hand_is_put_back(tracking: Tracking, shelf: Shelf) -> None:
    shelf.reign("one", "two")
    tracking.project(shelf.ledger, MODEL)
    tracking.client.set_registered_model_alias(MODEL, ALIAS, "1")
    change = tracking.project(shelf.ledger, MODEL)
    assert (change.created, change.alias_before, change.alias_after) == ((), "1", "2")
    tracking.client.delete_registered_model_alias(MODEL, ALIAS)
    assert tracking.project(shelf.ledger, MODEL).alias_before is None
    assert champion(tracking) == "two"


def test_looking_at_an_alias_says_where_it_stands_and_changes_nothing(tracking: Tracking, shelf: Shelf) -> None:
    assert tracking.alias(MODEL) is None
    assert list(tracking.client.search_registered_models()) == []
    shelf.reign("one", "two")
    tracking.project(shelf.ledger, MODEL)
    tracking.client.set_registered_model_alias(MODEL, ALIAS, "1")
    assert (tracking.alias(MODEL), tracking.alias(MODEL)) == ("1", "1")
    tracking.client.delete_registered_model_alias(MODEL, ALIAS)
    assert tracking.alias(MODEL) is None


def test_an_alias_without_a_champion_in_the_ledger_is_removed(tracking: Tracking, shelf: Shelf) -> None:
    shelf.version("one")
    tracking.project(shelf.ledger, MODEL)
    tracking.client.set_registered_model_alias(MODEL, ALIAS, "1")
    change = tracking.project(shelf.ledger, MODEL)
    assert (change.alias_before, change.alias_after) == ("1", None)
    assert tracking.client.get_registered_model(MODEL).aliases == {}


def test_versions_deleted_or_made_by_hand_do_not_confuse_it(tracking: Tracking, shelf: Shelf) -> None:
    shelf.reign("one", "two")
    tracking.project(shelf.ledger, MODEL)
    tracking.client.create_model_version(MODEL, "somewhere", tags={"ledger_version": "2", "bundle_digest": "forged"})
    tracking.client.delete_model_version(MODEL, "2")
    change = tracking.project(shelf.ledger, MODEL)
    assert (change.created, change.alias_after) == ((2,), "4")
    assert mirrored(tracking) == {"1": "one", "3": "forged", "4": "two"}
    assert not tracking.project(shelf.ledger, MODEL).changed


def test_a_rollback_moves_the_alias_back(tracking: Tracking, shelf: Shelf) -> None:
    shelf.reign("one", "two")
    tracking.project(shelf.ledger, MODEL)
    shelf.rollback()
    assert tracking.project(shelf.ledger, MODEL).alias_after == "1"
    assert champion(tracking) == "one"


def test_a_version_links_to_its_attempt_and_its_bundle(tracking: Tracking, shelf: Shelf) -> None:
    with tracking.attempt(MODEL, dagster_run_id="dagster-1", data_digest="d", params={}) as attempt:
        pass
    first = shelf.version("one")
    shelf.ledger.register(
        MODEL,
        bundle_digest="two",
        bundle_uri="bundles/two",
        cutoff=first.cutoff,
        training_set_digest="t",
        spec_digest="s",
        run_id="dagster-1",
        tracking_run_id=attempt.run_id,
    )
    tracking.project(shelf.ledger, MODEL)
    linked = tracking.client.get_model_version(MODEL, "2")
    assert (linked.run_id, linked.source) == (attempt.run_id, f"runs:/{attempt.run_id}/bundle")
    assert tracking.client.get_model_version(MODEL, "1").source == "bundles/one"


def test_an_mlflow_that_was_lost_is_rebuilt_from_the_ledger(
    tracking: Tracking, shelf: Shelf, made_database: Path, tmp_path: Path
) -> None:
    with tracking.attempt(MODEL, dagster_run_id="dagster-1", data_digest="d", params={}) as attempt:
        pass
    said: dict[str, Any] = {"training_set_digest": "t", "spec_digest": "s", "run_id": "dagster-1"}
    cutoff = shelf.version("one").cutoff
    shelf.ledger.register(
        MODEL, bundle_digest="two", bundle_uri="b", cutoff=cutoff, tracking_run_id=attempt.run_id, **said
    )
    shelf.judge(shelf.version("two"))
    shelf.promote(2)
    shutil.copyfile(made_database, tmp_path / "new.db")
    new = Tracking(f"sqlite:///{tmp_path / 'new.db'}", tmp_path / "artifacts")
    assert new.project(shelf.ledger, MODEL).created == (1, 2)
    assert champion(new) == "two"


def test_killed_between_ledger_and_projection_there_is_one_entry_and_the_alias_is_repaired(
    tracking: Tracking, shelf: Shelf
) -> None:
    shelf.reign("one")
    shelf.judge(shelf.version("two"))

    def promote_and_project() -> None:
        shelf.promote(2)
        tracking.project(shelf.ledger, MODEL)

    killed = start_process(promote_and_project, kill_at="ledger.appended")
    killed.join(60)
    assert killed.exitcode == -signal.SIGKILL
    assert mirrored(tracking) == {}
    promote_and_project()
    assert shelf.champions() == [1, 2]
    assert champion(tracking) == "two"


@pytest.mark.parametrize("versions", [1, 2])
def test_killed_within_the_projection_the_next_one_completes_it_without_doubles(
    tracking: Tracking, shelf: Shelf, versions: int
) -> None:
    names = ["one", "two"][:versions]
    shelf.reign(*names)
    killed = start_process(lambda: tracking.project(Ledger(shelf.url), MODEL), kill_at="projection.created")
    killed.join(60)
    assert killed.exitcode == -signal.SIGKILL
    assert mirrored(tracking) == {"1": "one"}
    tracking.project(shelf.ledger, MODEL)
    assert sorted(mirrored(tracking).values()) == names
    assert champion(tracking) == names[-1]
