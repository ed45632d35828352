"""The one place where the graph is put together: assets, sensors, resources, and how steps run."""

import dagster as dg

from assets import ASSETS
from resources import build_resources

# Steps fork from a server that has the definitions loaded already, so that a step costs milliseconds, not imports.
EXECUTOR = dg.multiprocess_executor.configured(
    {"max_concurrent": 2, "start_method": {"forkserver": {"preload_modules": ["ml_platform.definitions"]}}}
)

defs = dg.Definitions(
    assets=dg.with_source_code_references(ASSETS),
    resources=build_resources(),
    executor=EXECUTOR,
)
