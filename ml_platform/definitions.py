"""The one place where the graph is put together: assets, sensors, resources, and how steps run."""

import dagster as dg

from assets.catalog import CATALOG_ASSETS
from assets.columns import with_declarations
from assets.features import FEATURE_ASSETS
from assets.freshness import with_default_freshness
from assets.lifecycle import LIFECYCLE_ASSETS
from assets.raw import RAW_ASSETS
from assets.slo import SLO_ASSETS
from assets.sql import SQL_ASSETS
from ml_platform.settings import Settings
from resources import build_resources
from resources.steps import build_executor
from sensors import SENSORS

defs = dg.Definitions(
    assets=dg.with_source_code_references(
        with_declarations(
            with_default_freshness(
                [*RAW_ASSETS, *SQL_ASSETS, *FEATURE_ASSETS, *LIFECYCLE_ASSETS, *SLO_ASSETS, *CATALOG_ASSETS]
            )
        )
    ),
    sensors=SENSORS,
    resources=build_resources(),
    executor=build_executor(Settings.from_env().steps),
)
