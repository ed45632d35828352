"""Feast's side of the point-in-time join; runs in Feast's own environment, so it imports nothing of the platform.

`python feast_peer.py FOLDER STORE FEATURE…`: FOLDER holds features.parquet and labels.parquet. Prints one JSON line.
"""

import json
import sys
import time
from datetime import timedelta
from pathlib import Path

import feast  # pyright: ignore[reportMissingImports]
import pandas as pd
from feast import Entity, FeatureStore, FeatureView, Field, FileSource  # pyright: ignore[reportMissingImports]
from feast.types import Float64  # pyright: ignore[reportMissingImports]
from feast.value_type import ValueType  # pyright: ignore[reportMissingImports]

CONFIG = """
project: bench
registry: {folder}/{store}-registry.db
provider: local
online_store: null
offline_store: {{type: {store}}}
entity_key_serialization_version: 3
"""


def main(folder: Path, store: str, features: list[str]) -> None:
    repository = folder / store
    repository.mkdir()
    (repository / "feature_store.yaml").write_text(CONFIG.format(folder=folder, store=store))
    place = FeatureStore(repo_path=str(repository))
    household = Entity(name="household", join_keys=["household_id"], value_type=ValueType.INT64)
    view = FeatureView(
        name="household",
        entities=[household],
        ttl=timedelta(days=14),
        schema=[Field(name=name, dtype=Float64) for name in features],
        source=FileSource(path=str(folder / "features.parquet"), timestamp_field="event_timestamp"),
        online=False,
    )
    place.apply([household, view])
    labels = pd.read_parquet(folder / "labels.parquet")
    began = time.perf_counter()
    joined = place.get_historical_features(labels, [f"household:{name}" for name in features]).to_df()
    seconds = time.perf_counter() - began
    sums = [len(joined), *(float(joined[name].sum()) for name in features)]
    print(json.dumps({"version": feast.__version__, "seconds": seconds, "sums": sums}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])
