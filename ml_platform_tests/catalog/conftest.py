"""The lineage of the repository itself, made once from the manifest that the tests of dbt compile."""

from typing import Any

import pytest

from assets.feature_tables import FEATURE_TABLES
from assets.models import MODELS
from ml_platform.catalog.build import Declared, build_lineage
from ml_platform.catalog.champions import Champion
from ml_platform.catalog.dbt import Project
from ml_platform.catalog.graph import Lineage
from ml_platform.landing.tables import RAW_TABLES
from ml_platform_tests.dbt.conftest import manifest  # noqa: F401  (a fixture)


@pytest.fixture(scope="session")
def declared(manifest: dict[str, Any]) -> Declared:  # noqa: F811
    return Declared(Project(manifest, lambda: manifest), RAW_TABLES, FEATURE_TABLES, MODELS)


@pytest.fixture(scope="session")
def whole(declared: Declared) -> Lineage:
    """With a champion of every model: version 7, all it has learnt rests on its first feature."""
    champions = {name: Champion(7, {spec.features[0]: 1.0}) for name, spec in MODELS.items()}
    return build_lineage(declared, champions)
