"""A small world of baskets that can be learnt: households buy their own few products again, in turn."""

from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ml_platform.training.job import TrainingJob, file_sha256
from ml_platform.training.spec import Trainer

PRODUCTS, HOUSEHOLDS = 60, 40
MONDAYS = {"train": 3, "stop": 1, "evaluate": 1}
FIRST = date(2017, 4, 3)
FEATURES = (
    "household_baskets:products",
    "household_baskets:basket_sizes",
    "household_baskets:days_ago",
    "household_baskets:days_since_basket",
    "product:category",
    "product:lines_84d",
    "product:mean_gap_days_84d",
)
SMALL = {"width": 16, "layers": 2, "heads": 2, "repeat_width": 8, "batch_size": 16, "learning_rate": 0.01}


@dataclass(frozen=True)
class World:
    """The two files of a training set."""

    training_set: Path
    catalogue: Path

    def job(self, output: Path, **changes: object) -> TrainingJob:
        """A small job on them; any field can be changed."""
        stated: dict = {
            "model": "next_basket",
            "spec_digest": "digest-of-the-spec",
            "data_digest": "digest-of-the-data",
            "data_path": str(self.training_set),
            "data_sha256": file_sha256(self.training_set),
            "catalogue_path": str(self.catalogue),
            "catalogue_sha256": file_sha256(self.catalogue),
            "output": str(output),
            "features": FEATURES,
            "trainer": Trainer("torch", rounds=2, early_stopping_rounds=2, params=SMALL),
            "seed": 7,
            "threads": 1,
            "device": "cpu",
            "processes": 1,
            "deadline_seconds": 600,
            "checkpoint_seconds": 60,
            "reproducible_rounds": 2,
        }
        return TrainingJob(**{**stated, **changes})


def make_world(folder: Path) -> World:
    """Every household has six products of its own and buys three of them a basket; one is new to it now and then."""
    random = np.random.default_rng(3)
    own = np.array([random.choice(PRODUCTS, 6, replace=False) for _ in range(HOUSEHOLDS)]) + 100
    roles = [role for role, count in MONDAYS.items() for _ in range(count)]
    rows, shelf = [], []
    for week, role in enumerate(roles):
        monday = FIRST + timedelta(weeks=week)
        for household in range(HOUSEHOLDS):
            count = int(random.integers(0 if household == 0 else 1, 8))
            bought = [np.sort(random.choice(own[household], 3, replace=False)) for _ in range(count + 1)]
            bought[-1] = np.sort(np.append(bought[-1][:2], 100 + random.integers(PRODUCTS)))
            days = np.arange(count, 0, -1) * 3
            rows.append((household, monday, role, bought[:-1], days, np.unique(bought[-1])))
        lines = random.integers(10, 200, PRODUCTS)
        shelf += [
            (100 + p, monday, f"aisle {p % 5}", int(lines[p]), None if p % 7 == 0 else p / 2) for p in range(PRODUCTS)
        ]
    table = pa.table(
        {
            "household_id": pa.array([row[0] for row in rows], pa.int64()),
            "as_of": pa.array([row[1] for row in rows], pa.date32()),
            "role": [row[2] for row in rows],
            "label": pa.array([row[5].tolist() for row in rows], pa.list_(pa.int64())),
            "household_baskets__products": pa.array(
                [np.concatenate([[], *row[3]]).astype(int).tolist() for row in rows], pa.list_(pa.int64())
            ),
            "household_baskets__basket_sizes": pa.array([[3] * len(row[3]) for row in rows], pa.list_(pa.int32())),
            "household_baskets__days_ago": pa.array([row[4].tolist() for row in rows], pa.list_(pa.int32())),
            "household_baskets__days_since_basket": pa.array([3 if len(row[3]) else None for row in rows], pa.int32()),
        }
    )
    names = ("product_id", "as_of", "product__category", "product__lines_84d", "product__mean_gap_days_84d")
    kinds = (pa.int64(), pa.date32(), pa.string(), pa.int32(), pa.float64())
    columns = {name: pa.array(values, kind) for name, kind, values in zip(names, kinds, zip(*shelf))}
    world = World(folder / "training_set.parquet", folder / "catalogue.parquet")
    pq.write_table(table, world.training_set)
    pq.write_table(pa.table(columns), world.catalogue)
    return world
