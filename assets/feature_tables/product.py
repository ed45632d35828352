"""The contract of `features/product`: the catalogue that a Monday's recommendations come from."""

from pathlib import Path

from ml_platform.contracts import AS_OF, Column, FeatureTable

PRODUCT = FeatureTable(
    name="product",
    entity=("product_id",),
    columns=(
        Column("product_id", "int64", "Product", "id", lower=1),
        AS_OF,
        Column("category", "string", "Product category as known on as_of; 'unknown' where it is not", "name"),
        Column("lines_84d", "int32", "Receipt lines in the last 84 days", "count", lower=0),
        Column("buyers_84d", "int32", "Households that bought it in the last 84 days", "count", lower=0),
        Column(
            "repeat_share_84d",
            "float64",
            "Share of these buyers that had it in 2 or more baskets; null: buyers_84d = 0",
            "ratio",
            lower=0,
            upper=1,
            nullable=True,
        ),
        Column(
            "mean_gap_days_84d",
            "float64",
            "Mean over the buyers of 2 or more baskets of their mean gap between baskets; null: no such buyer",
            "days",
            lower=0,
            upper=83,
            nullable=True,
        ),
        Column("lines_28d", "int32", "Receipt lines in the last 28 days", "count", lower=0),
        Column("recency_days", "int32", "Days since last sold", "days", lower=1),
    ),
    description=(
        "The catalogue as of a Monday: every product of merchandise of which at least 10 lines are known, and how "
        "often and by how many it was bought of late."
    ),
    owner="team:customer-analytics",
    relation="feature_models.product_features",
    audit_sql=Path(__file__).with_name("audit_product.sql"),
)
