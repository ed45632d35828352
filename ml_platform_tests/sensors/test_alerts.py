"""The sensor `alerts`, tick by tick on a real instance: each thing is told once, and nothing silences the rest."""

from typing import Any

import dagster as dg
import pytest

from ml_platform_tests.sensors.conftest import House

WORLD = {"passes": True, "error": None}


@dg.asset(owners=["team:shops"])
def shelf() -> None:
    if WORLD["error"]:
        raise WORLD["error"]


@dg.asset_check(asset=shelf, description="at least one row")
def rows() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        passed=bool(WORLD["passes"]),
        severity=dg.AssetCheckSeverity.WARN,
        description="no row",
        metadata={"rows": 0, "threshold": 1},
    )


@pytest.fixture
def repository() -> Any:
    WORLD.update(passes=True, error=None)
    return dg.Definitions(assets=[shelf], asset_checks=[rows]).get_repository_def()


def make(house: House, repository: Any, **tags: str) -> str:
    """One run of everything; its id."""
    job = repository.get_job("__ASSET_JOB")
    done = job.execute_in_process(instance=house.instance, tags=tags, raise_on_error=False, asset_selection=[shelf.key])
    return done.run_id


def test_a_failed_check_that_only_warns_is_one_alert_and_a_later_pass_resolves_it(
    house: House, repository: Any
) -> None:
    WORLD["passes"] = False
    make(house, repository)
    house.tick(repository)
    house.tick(repository)
    (alert,) = house.alerts("check")
    assert (alert.severity, alert.owner, alert.asset, alert.promised) == (
        "info",
        "team:shops",
        "shelf",
        "at least one row",
    )
    assert alert.found == "no row; rows 0; threshold 1"
    assert alert.link == "http://127.0.0.1:3000/assets/shelf"
    WORLD["passes"] = True
    make(house, repository)
    house.tick(repository)
    title = "shelf fails its check rows"
    assert house.told() == [("opened", title), ("resolved", title)]
