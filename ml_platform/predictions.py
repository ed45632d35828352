"""Batch predictions: the champion scores everyone the newest snapshot knows, and every row says what it rests on."""

import hashlib
from datetime import date, timedelta

import numpy as np
import polars as pl

from ml_platform.contracts import AS_OF, Column, Contract, FeatureTable
from ml_platform.errors import PlatformError
from ml_platform.features.store import FeatureStore
from ml_platform.registry.bundles import Bundle
from ml_platform.training.data import feature_matrix
from ml_platform.training.spec import ModelSpec


class SnapshotMissing(PlatformError):
    """The feature partition that should be scored is not published."""


def contract(spec: ModelSpec, population: FeatureTable) -> Contract:
    """What a prediction table promises: [entity…, as_of, score, model_version, feature_as_of, data_digest]."""
    stated = (
        Column("score", "float64", f"Calibrated probability: {spec.description}", "probability", lower=0.0, upper=1.0),
        Column("model_version", "int64", "Version in the ledger of the champion that scored", "id", lower=1),
        Column("feature_as_of", "date", "Monday of the feature rows that were scored", "date"),
        Column("data_digest", "string", "SHA-256 over the published feature partitions", "id"),
    )
    return Contract(
        name=spec.name,
        description=f"Weekly predictions of {spec.name}",
        owner=spec.owner,
        entity=spec.entity,
        columns=(*(population.column(name) for name in spec.entity), AS_OF, *stated),
    )


def population_table(spec: ModelSpec, store: FeatureStore) -> FeatureTable:
    """The feature table whose rows are scored: the one keyed by the model's own entity."""
    for name in spec.tables:
        if store.contract(name).entity == spec.entity:
            return store.contract(name)
    raise PlatformError(
        f"no feature table of {spec.name} has the key {spec.entity}",
        where=f"ModelSpec {spec.name}.entity",
        next_step="name a feature of a table with that key",
    )


def score(spec: ModelSpec, bundle: Bundle, store: FeatureStore, keys: pl.DataFrame) -> np.ndarray:
    """Scores of the rows [entity…, as_of] by a bundle: [n_rows] float64.

    The features are those the bundle was trained with: a champion may be older than the declaration.
    """
    frame = store.join(keys, bundle.features, timedelta(days=spec.feature_ttl_days))
    return bundle.predict(feature_matrix(frame.to_arrow(), bundle.columns))


def predict(spec: ModelSpec, bundle: Bundle, version: int, store: FeatureStore, as_of: date) -> pl.DataFrame:
    """Scores every entity of the snapshot: [n_entities, key + score + origin], sorted by key.

    Raises SnapshotMissing when a feature table has no partition for `as_of`.
    """
    population = population_table(spec, store)
    digests = []
    for name in dict.fromkeys(reference.split(":")[0] for reference in bundle.features):
        published = store.table(name).published(as_of.isoformat())
        if published is None:
            raise SnapshotMissing(
                f"features/{name} has no partition {as_of}", next_step=f"mlp run 'key:features/{name}'"
            )
        digests.append(published.digest)
    keys = store.table(population.name).read(as_of.isoformat()).select(*spec.entity, "as_of").sort(spec.entity)
    return keys.with_columns(
        pl.Series("score", score(spec, bundle, store, keys), dtype=pl.Float64),
        pl.lit(version, dtype=pl.Int64).alias("model_version"),
        pl.lit(as_of).alias("feature_as_of"),
        pl.lit(hashlib.sha256("".join(digests).encode()).hexdigest()).alias("data_digest"),
    )


def top_rows(spec: ModelSpec, frame: pl.DataFrame, shown: int = 10) -> list[dict[str, object]]:
    """What the scores say at a glance: the groups of the entity's last key column, or else the highest rows."""
    group = [name for name in spec.entity if name != spec.cluster]
    if group:
        top = frame.group_by(group).agg(
            expected=pl.col("score").sum().round(1), rows=pl.len(), mean=pl.col("score").mean()
        )
        return top.sort("expected", *group, descending=[True, *([False] * len(group))]).head(shown).to_dicts()
    return (
        frame.sort("score", *spec.entity, descending=[True, *([False] * len(spec.entity))])
        .select(*spec.entity, "score")
        .head(shown)
        .to_dicts()
    )
