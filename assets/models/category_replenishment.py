"""Will a household that bought a product category in the last twelve weeks buy it again in the next four?"""

from datetime import date
from pathlib import Path

from ml_platform.training.spec import (
    Baseline,
    BeatsBaseline,
    BeatsChampion,
    Calibrated,
    Label,
    ModelSpec,
    NoSliceWorse,
    Reproducible,
    Retraining,
    Slice,
    TemporalSplit,
    Trainer,
)

CATEGORY = (
    "days_7d", "lines_7d", "spend_cents_7d", "days_28d", "lines_28d", "spend_cents_28d", "days_84d", "lines_84d",
    "spend_cents_84d", "weeks_bought_84d", "days_ever", "bought_28d", "recency_days", "last_gap_days", "mean_gap_days",
    "median_gap_days", "sd_gap_days", "recency_to_mean_gap_ratio", "discount_share_84d", "coupon_used_84d",
    "household_spend_share_84d", "category_momentum_28d", "category_repurchase_rate_28d", "mailer_products",
    "display_products",
)  # fmt: skip
HOUSEHOLD = (
    "days_7d", "trips_7d", "spend_cents_7d", "days_28d", "trips_28d", "lines_28d", "spend_cents_28d", "trips_84d",
    "lines_84d", "spend_cents_84d", "trips_ever", "categories_84d", "stores_84d", "recency_days", "mean_gap_days",
    "sd_gap_days",
    "discount_share_84d", "private_brand_share_84d", "weekend_share_84d", "spend_trend_28d",
)  # fmt: skip
RFM = (
    "household_category:recency_days", "household_category:days_28d", "household_category:days_84d",
    "household_category:days_ever", "household_category:category_repurchase_rate_28d", "household:trips_84d",
    "household:trips_ever",
)  # fmt: skip


SPEC = ModelSpec(
    name="category_replenishment",
    description="Probability that the household buys the category again in the next 28 days.",
    owner="team:personalisation",
    entity=("household_id", "product_category"),
    cluster="household_id",
    label=Label(
        sql=Path(__file__).parent / "labels" / "category_replenishment.sql", reads=("household_category_day_deltas",)
    ),
    features=(
        *(f"household_category:{column}" for column in CATEGORY),
        *(f"household:{column}" for column in HOUSEHOLD),
    ),
    split=TemporalSplit(first=date(2017, 3, 27), train_mondays=7, train_every_weeks=3),
    # Each Monday is a hundred thousand rows: two of them already teach what lasts.
    retraining=Retraining(first_train_mondays=2),
    # Households recur, so the stop Monday flatters a model that learns them by heart: broad leaves and few rounds.
    trainer=Trainer(
        kind="xgboost",
        rounds=120,
        early_stopping_rounds=20,
        params={
            "max_depth": 5,
            "eta": 0.1,
            "min_child_weight": 500,
            "subsample": 0.8,
            "colsample_bytree": 0.5,
            "max_bin": 64,
        },
    ),
    baselines=(
        Baseline("recent", "rate_table", ("household_category:bought_28d",)),
        Baseline("frequency_recency", "rate_table", ("household_category:days_84d", "household_category:recency_days")),
        Baseline("logistic_rfm", "logistic", RFM),
    ),
    slices=(
        Slice("household_category:days_84d", (2, 4, 8)),
        Slice("household:trips_28d", (4, 8, 16)),
    ),
    gates=(
        BeatsBaseline("logistic_rfm", "auc"),
        BeatsChampion(),
        Calibrated(max_ece=0.02),
        NoSliceWorse("logistic_rfm", tolerance=0.001),
        Reproducible(),
    ),
)
