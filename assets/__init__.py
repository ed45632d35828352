"""What exists: the graph, one module a stage, in the order data flows."""

from assets.features import FEATURE_ASSETS
from assets.lifecycle import LIFECYCLE_ASSETS
from assets.raw import RAW_ASSETS
from assets.sql import SQL_ASSETS

ASSETS = [*RAW_ASSETS, *SQL_ASSETS, *FEATURE_ASSETS, *LIFECYCLE_ASSETS]
