"""Will a household redeem any coupon in the next four weeks?"""

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

COLUMNS = (
    "active_campaigns", "active_campaigns_type_a", "active_campaigns_type_b", "active_campaigns_type_c",
    "days_since_campaign_start", "days_to_campaign_end", "campaigns_84d", "redemptions_28d", "redemptions_84d",
    "redemptions_ever", "days_since_redemption", "campaign_redemption_share_84d", "spend_cents_84d", "categories_84d",
    "coupon_lines_share_84d", "trips_28d",
)  # fmt: skip
RESPONSE = (
    "household:redemptions_ever", "household:redemptions_84d", "household:active_campaigns",
    "household:days_since_campaign_start", "household:coupon_lines_share_84d",
    "household:campaign_redemption_share_84d", "household:spend_cents_84d",
)  # fmt: skip

SPEC = ModelSpec(
    name="coupon_redemption",
    description="Probability that the household redeems any coupon in the next 28 days.",
    owner="team:campaigns",
    entity=("household_id",),
    cluster="household_id",
    label=Label(sql=Path(__file__).parent / "labels" / "coupon_redemption.sql", reads=("redemption_day_deltas",)),
    features=tuple(f"household:{column}" for column in COLUMNS),
    # As compact as the intervals allow: a wave is over in seven weeks, and what is judged on older ones comes too late.
    split=TemporalSplit(
        first=date(2017, 1, 30),
        train_mondays=None,
        calibrate_mondays=3,
        evaluate_mondays=2,
        evaluate_every_weeks=1,
    ),
    # Against fewer Mondays than these, all of them with short windows, every quiet week looks drifted.
    retraining=Retraining(first_train_mondays=6),
    # A few hundred positives of a few hundred households: shallow trees that each see little, and few of them.
    trainer=Trainer(
        kind="xgboost",
        rounds=80,
        early_stopping_rounds=20,
        params={
            "max_depth": 3,
            "eta": 0.1,
            "min_child_weight": 10,
            "lambda": 10,
            "subsample": 0.5,
            "colsample_bytree": 0.25,
        },
    ),
    baselines=(
        Baseline("redeemed_before", "rate_table", ("household:redemptions_84d", "household:active_campaigns")),
        Baseline("logistic", "logistic", RESPONSE),
    ),
    slices=(Slice("household:active_campaigns", (1,)),),
    gates=(
        BeatsBaseline("redeemed_before", "auc"),
        # A few hundred positives cannot tell a model from one two weeks older: not much worse is enough for a trial,
        # where it has to be better.
        BeatsChampion(tolerance=0.01, margin=-0.005),
        Calibrated(max_ece=0.02),
        NoSliceWorse("redeemed_before", tolerance=0.001),
        Reproducible(),
    ),
)
