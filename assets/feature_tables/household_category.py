"""The contract of `features/household_category`."""

from pathlib import Path

from ml_platform.contracts import AS_OF, Column, FeatureTable

HOUSEHOLD_CATEGORY = FeatureTable(
    name="household_category",
    entity=("household_id", "product_category"),
    columns=(
        Column("household_id", "int64", "Household", "id", lower=1, pii="pseudonymous"),
        Column("product_category", "string", "Product category as known when the line landed", "name"),
        AS_OF,
        Column("days_7d", "int32", "Days on which the category was bought", "days", lower=0, upper=7),
        Column("lines_7d", "int32", "Receipt lines in the last 7 days", "count", lower=0),
        Column("spend_cents_7d", "int64", "What the shop received in the last 7 days", "cents", lower=0),
        Column("days_28d", "int32", "Days with a purchase in the last 28 days", "days", lower=0, upper=28),
        Column("lines_28d", "int32", "Receipt lines in the last 28 days", "count", lower=0),
        Column("spend_cents_28d", "int64", "What the shop received in the last 28 days", "cents", lower=0),
        Column("days_84d", "int32", "Days with a purchase in the last 84 days", "days", lower=1, upper=84),
        Column("lines_84d", "int32", "Receipt lines in the last 84 days", "count", lower=1),
        Column("spend_cents_84d", "int64", "What the shop received in the last 84 days", "cents", lower=0),
        Column("weeks_bought_84d", "int32", "Monday-to-Sunday weeks with a purchase", "weeks", lower=1, upper=12),
        Column("days_ever", "int32", "Days the category was ever bought, as known", "days", lower=1, grows=True),
        Column("bought_28d", "int32", "Bought in the last 28 days", "flag", lower=0, upper=1),
        Column("recency_days", "int32", "Days since last bought", "days", lower=1, upper=84),
        Column(
            "last_gap_days",
            "int32",
            "Gap between the last two days bought; null: days_84d < 2",
            "days",
            lower=1,
            upper=83,
            nullable=True,
        ),
        Column("mean_gap_days", "float64", "Mean gap; null: days_84d < 2", "days", lower=1, upper=83, nullable=True),
        Column(
            "median_gap_days", "float64", "Median gap; null: days_84d < 2", "days", lower=1, upper=83, nullable=True
        ),
        Column(
            "sd_gap_days",
            "float64",
            "Sample standard deviation of the gaps; null: days_84d < 3",
            "days",
            lower=0,
            nullable=True,
        ),
        Column(
            "recency_to_mean_gap_ratio",
            "float64",
            "Recency_days / mean_gap_days; null: days_84d < 2",
            "ratio",
            lower=0,
            upper=84,
            nullable=True,
        ),
        Column(
            "discount_share_84d",
            "float64",
            "Shop's discount / (spend + discount); null: spend + discount = 0",
            "ratio",
            lower=0,
            upper=1,
            nullable=True,
        ),
        Column("coupon_used_84d", "int32", "A manufacturer coupon was used in the category", "flag", lower=0, upper=1),
        Column(
            "household_spend_share_84d",
            "float64",
            "Category spend / household spend; null: household spent nothing",
            "ratio",
            lower=0,
            upper=1,
            nullable=True,
        ),
        Column(
            "category_momentum_28d",
            "float64",
            "All households: (lines 28 d - lines 28 d before) / their sum; null: nobody bought it in 56 days",
            "ratio",
            lower=-1,
            upper=1,
            nullable=True,
        ),
        Column(
            "category_repurchase_rate_28d",
            "float64",
            (
                "Of those who did, share that bought it in the 28 days that followed; null: nobody bought it in the "
                "84 days to as_of - 35"
            ),
            "ratio",
            lower=0,
            upper=1,
            nullable=True,
        ),
        Column(
            "mailer_products",
            "int32",
            (
                "Products of the category in the mailer of the main store in the week that begins on as_of; null: "
                "main store in no file of the coming week"
            ),
            "count",
            lower=0,
            nullable=True,
        ),
        Column(
            "display_products",
            "int32",
            "Products of the category on display in the main store in the coming week; null: as mailer_products",
            "count",
            lower=0,
            nullable=True,
        ),
    ),
    description=(
        "What a household did with a product category it bought in the 84 days before a Monday, the "
        "category's pulse, and next week's promotions in the household's main store."
    ),
    owner="team:customer-analytics",
    relation="feature_models.household_category_features",
    audit_sql=Path(__file__).with_name("audit_household_category.sql"),
)
