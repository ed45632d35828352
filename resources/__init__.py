"""What is outside: warehouse, landing folder, lake, ledger, tracking, compute. One profile selects them all.

The resources have no configuration of their own: each reads `Settings` when it is used, so that no address or secret
ever becomes run config, and one environment variable (`ML_PLATFORM_HOME`) moves everything at once.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from ml_platform.clock import Clock
from ml_platform.contracts import FeatureTable
from ml_platform.settings import Settings
from resources.compute import build_compute
from resources.dbt import Dbt

if TYPE_CHECKING:  # what a resource opens is imported when it is opened: the graph loads without polars or SQLAlchemy
    from ml_platform.features.store import FeatureStore
    from ml_platform.lake import PartitionedTable
    from ml_platform.landing.files import LandingFolder
    from ml_platform.registry.ledger import Ledger
    from ml_platform.tracking.mlflow import Tracking
    from ml_platform.warehouse.base import Warehouse


LONGEST_TAG = 1000  # characters: Snowflake takes 2,000 for a query's whole tag


class LandingResource(dg.ConfigurableResource):
    """The folder where files land."""

    def folder(self) -> "LandingFolder":
        from ml_platform.landing.files import LandingFolder

        return LandingFolder(Settings.from_env().landing)


class WarehouseResource(dg.ConfigurableResource):
    """The warehouse of the profile. DuckDB is one file and one process at a time: every use takes its lock."""

    def open(self, context: dg.AssetExecutionContext) -> "Warehouse":
        """What is asked of it is told in the engine's history as the run's and its assets'."""
        from ml_platform.warehouse import open_warehouse

        assets = ",".join(sorted(key.to_user_string() for key in context.selected_asset_keys))
        return open_warehouse(Settings.from_env(), {"run": context.run_id, "assets": assets[:LONGEST_TAG]})

    def watched_by(self, sensor: str) -> "Warehouse":
        """The same for a sensor, which has no run."""
        from ml_platform.warehouse import open_warehouse

        return open_warehouse(Settings.from_env(), {"sensor": sensor})


class LakeResource(dg.ConfigurableResource):
    """Published Parquet, readable by anyone at any time: features, training sets, bundles, predictions."""

    def root(self) -> Path:
        """The lake's folder."""
        return Settings.from_env().lake

    def features(self, tables: Mapping[str, FeatureTable]) -> "FeatureStore":
        from ml_platform.features.store import FeatureStore

        return FeatureStore(Settings.from_env().lake, tables)

    def table(self, kind: str, model: str) -> "PartitionedTable":
        """A table of one kind of a model: `training_sets`, `predictions`, …"""
        from ml_platform.lake import PartitionedTable

        return PartitionedTable(Settings.from_env().lake / kind, model)

    def reports(self, model: str) -> Path:
        """The folder of a model's HTML reports."""
        return Settings.from_env().lake / "reports" / model

    def models(self, model: str) -> Path:
        """The folder of a model's job files and bundles."""
        return Settings.from_env().lake / "models" / model


class LedgerResource(dg.ConfigurableResource):
    """The append-only record of versions, verdicts and promotions."""

    def open(self) -> "Ledger":
        from ml_platform.registry.ledger import Ledger

        settings = Settings.from_env()
        return Ledger(settings.ledger_url, Clock(settings.home).now)


class TrackingResource(dg.ConfigurableResource):
    """MLflow: one run per training attempt, and the registry as the ledger's projection."""

    def open(self) -> "Tracking":
        from ml_platform.tracking.mlflow import Tracking

        settings = Settings.from_env()
        return Tracking(settings.tracking_uri, settings.mlflow_artifacts)


def build_resources() -> dict[str, Any]:
    """Every resource the assets name."""
    return {
        "landing": LandingResource(),
        "warehouse": WarehouseResource(),
        "lake": LakeResource(),
        "ledger": LedgerResource(),
        "tracking": TrackingResource(),
        "compute": build_compute(),
        "dbt": Dbt(),
    }
