"""The one place where the graph is put together: assets, sensors, resources, and how steps run."""

import dagster as dg

from assets.features import FEATURE_ASSETS
from assets.freshness import with_default_freshness
from assets.lifecycle import LIFECYCLE_ASSETS
from assets.raw import RAW_ASSETS
from assets.slo import SLO_ASSETS
from assets.sql import SQL_ASSETS
from resources import build_resources

# Steps fork from a server that has loaded the definitions, and what their bodies import, once: a step costs
# milliseconds, not imports.
PRELOADED = ["ml_platform.definitions", "duckdb", "polars", "sqlalchemy", "upath"]
EXECUTOR = dg.multiprocess_executor.configured(
    {"max_concurrent": 2, "start_method": {"forkserver": {"preload_modules": PRELOADED}}}
)

defs = dg.Definitions(
    assets=dg.with_source_code_references(
        with_default_freshness([*RAW_ASSETS, *SQL_ASSETS, *FEATURE_ASSETS, *LIFECYCLE_ASSETS, *SLO_ASSETS])
    ),
    resources=build_resources(),
    executor=EXECUTOR,
)
