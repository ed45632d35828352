"""Embeddings of a Monday: one vector a product of the catalogue and one a household, as the champion sees them.

The model's version is part of every row's key: vectors of two trainings live in two spaces, and a distance between
them means nothing.
"""

from datetime import date

import polars as pl

from ml_platform.features.store import FeatureStore
from ml_platform.predictions import catalogue, joined, population_keys
from ml_platform.ranking.baskets import read_catalogues, read_queries
from ml_platform.registry.bundles import Bundle
from ml_platform.training.spec import ModelSpec


def embed(spec: ModelSpec, version: int, bundle: Bundle, store: FeatureStore, as_of: date) -> pl.DataFrame:
    """[kind (`item` or `entity`), id, as_of, model_version, vector list[float32]], items first, each by rising id.

    Raises SnapshotMissing.
    """
    items, keys = catalogue(spec, store, [as_of]), population_keys(spec, store, as_of)
    assert items is not None  # only rankers have embeddings
    (offered,) = read_catalogues(items.to_arrow()).values()
    queries = read_queries(joined(spec, bundle, store, keys).to_arrow())
    vectors = bundle.embeddings(queries, offered)
    parts = zip(("item", "entity"), (offered.products, queries.households), vectors)
    return pl.concat(
        pl.DataFrame(
            {
                "kind": [kind] * len(ids),
                "id": ids,
                "as_of": [as_of] * len(ids),
                "model_version": [version] * len(ids),
                "vector": pl.Series(found).arr.to_list(),
            }
        )
        for kind, ids, found in parts
    )
