"""Which products will the household's next basket hold?"""

from datetime import date
from pathlib import Path

from ml_platform.training.spec import (
    Baseline,
    BeatsBaseline,
    BeatsChampion,
    Label,
    ModelSpec,
    NoSliceWorse,
    Reproducible,
    Slice,
    TemporalSplit,
    Trainer,
)

COLUMNS = (
    "products", "basket_sizes", "days_ago", "baskets", "days_since_basket", "mean_gap_days", "mean_basket_size",
    "distinct_products",
)  # fmt: skip

SPEC = ModelSpec(
    name="next_basket",
    description="The twenty products that the household's next basket most likely holds, of those to come in 14 days.",
    owner="team:personalisation",
    entity=("household_id",),
    cluster="household_id",
    task="rank",
    items="product",
    label=Label(sql=Path(__file__).parent / "labels" / "next_basket.sql", reads=("basket_contents",), horizon_days=14),
    features=tuple(f"household_baskets:{column}" for column in COLUMNS),
    split=TemporalSplit(
        first=date(2017, 3, 27),
        train_mondays=None,
        train_every_weeks=2,
        stop_mondays=2,
        calibrate_mondays=0,
        evaluate_mondays=4,
        evaluate_every_weeks=2,
    ),
    trainer=Trainer(kind="torch", rounds=3, early_stopping_rounds=1),
    baselines=(
        Baseline("global_frequency", "global_frequency"),
        Baseline("personal_frequency", "personal_frequency"),
        Baseline("decayed_frequency", "decayed_frequency"),
        Baseline("tifu_knn", "tifu_knn"),
    ),
    slices=(Slice("household_baskets:baskets", (10,)),),
    gates=(
        BeatsBaseline("decayed_frequency", "recall_at_10"),
        BeatsBaseline("personal_frequency", "recall_at_10", least_gain=0.008),
        # Order counts too: without the statistics of its items a model finds as much, and puts it in no better order.
        BeatsBaseline("tifu_knn", "ndcg_at_10"),
        BeatsChampion("recall_at_10", tolerance=0.002, margin=-0.001),
        NoSliceWorse("decayed_frequency", "recall_at_10", tolerance=0.002),
        Reproducible(rounds=3),
    ),
)
