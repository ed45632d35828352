"""The feature tables of this deployment: one contract a module."""

from assets.feature_tables.household import HOUSEHOLD
from assets.feature_tables.household_baskets import HOUSEHOLD_BASKETS
from assets.feature_tables.household_category import HOUSEHOLD_CATEGORY
from assets.feature_tables.product import PRODUCT

FEATURE_TABLES = {table.name: table for table in (HOUSEHOLD, HOUSEHOLD_CATEGORY, HOUSEHOLD_BASKETS, PRODUCT)}
