"""The contract of `features/household_baskets`."""

from pathlib import Path

from ml_platform.contracts import AS_OF, Column, FeatureTable

HOUSEHOLD_BASKETS = FeatureTable(
    name="household_baskets",
    entity=("household_id",),
    columns=(
        Column("household_id", "int64", "Household", "id", lower=1, pii="pseudonymous"),
        AS_OF,
        Column(
            "products",
            "list[int64]",
            "Products of the last 60 baskets: each basket's distinct products by rising id, oldest basket first",
            "id",
            lower=1,
        ),
        Column(
            "basket_sizes",
            "list[int32]",
            "How many of the products are of each of these baskets, oldest first",
            "count",
            lower=1,
        ),
        Column("days_ago", "list[int32]", "Days from each of these baskets to as_of, oldest first", "days", lower=1),
        Column(
            "baskets",
            "int32",
            "How many baskets are listed: the last 60, or all that are known",
            "count",
            lower=1,
            upper=60,
            grows=True,
        ),
        Column("days_since_basket", "int32", "Days since the last basket", "days", lower=1),
        Column(
            "mean_gap_days",
            "float64",
            "Mean gap between consecutive listed baskets; null: baskets < 2",
            "days",
            lower=0,
            nullable=True,
        ),
        Column("mean_basket_size", "float64", "Mean number of products of a listed basket", "count", lower=1),
        Column("distinct_products", "int32", "Distinct products of the listed baskets", "count", lower=1, grows=True),
    ),
    description="What a household's last 60 baskets of merchandise held and when they were, as known on a Monday.",
    owner="team:customer-analytics",
    relation="feature_models.household_baskets",
    audit_sql=Path(__file__).with_name("audit_household_baskets.sql"),
)
