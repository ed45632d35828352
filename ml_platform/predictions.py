"""Batch predictions: the champion scores everyone the newest snapshot knows, and every row says what it rests on.

While a challenger is on trial it scores the same rows; `role` tells whose score a row holds.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Literal

import numpy as np
import polars as pl

from ml_platform.contracts import AS_OF, Column, Contract, FeatureTable
from ml_platform.errors import PlatformError
from ml_platform.features.store import FeatureStore
from ml_platform.registry.bundles import Bundle
from ml_platform.training.data import feature_matrix
from ml_platform.training.spec import ModelSpec

Role = Literal["champion", "challenger"]


@dataclass(frozen=True)
class Scorer:
    """A version of the ledger that scores, with its opened bundle."""

    version: int
    bundle: Bundle


class SnapshotMissing(PlatformError):
    """The feature partition that should be scored is not published."""


def contract(spec: ModelSpec, population: FeatureTable) -> Contract:
    """What a prediction table promises: [entity…, role, as_of, score, model_version, feature_as_of, data_digest]."""
    role = Column("role", "string", "Whether the row is the champion's, or its challenger's on trial", "name")
    stated = (
        Column("score", "float64", f"Calibrated probability: {spec.description}", "probability", lower=0.0, upper=1.0),
        Column("model_version", "int64", "Version in the ledger that scored", "id", lower=1),
        Column("feature_as_of", "date", "Monday of the feature rows that were scored", "date"),
        Column("data_digest", "string", "SHA-256 over the published feature partitions", "id"),
    )
    return Contract(
        name=spec.name,
        description=f"Weekly predictions of {spec.name}",
        owner=spec.owner,
        entity=(*spec.entity, "role"),
        columns=(*(population.column(name) for name in spec.entity), role, AS_OF, *stated),
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


def joined(spec: ModelSpec, bundle: Bundle, store: FeatureStore, keys: pl.DataFrame) -> pl.DataFrame:
    """The rows [entity…, as_of] with the features a bundle was trained with: a champion may be older than the
    declaration."""
    return store.join(keys, bundle.features, timedelta(days=spec.feature_ttl_days))


def score(spec: ModelSpec, bundle: Bundle, store: FeatureStore, keys: pl.DataFrame) -> np.ndarray:
    """Scores of the rows [entity…, as_of] by a bundle: [n_rows] float64."""
    return bundle.predict(feature_matrix(joined(spec, bundle, store, keys).to_arrow(), bundle.columns))


def predict(spec: ModelSpec, scorers: Mapping[Role, Scorer], store: FeatureStore, as_of: date) -> pl.DataFrame:
    """Every entity of the snapshot scored in each role: [n_entities x n_roles, as `contract`], by role, then key.

    Raises SnapshotMissing when a feature table has no partition for `as_of`.
    """
    population = store.table(population_table(spec, store).name)
    if population.published(as_of.isoformat()) is None:
        raise _missing(population.name, as_of)
    keys = population.read(as_of.isoformat()).select(*spec.entity, "as_of").sort(spec.entity)
    scored = [
        keys.select(
            *spec.entity,
            pl.lit(role).alias("role"),
            "as_of",
            pl.Series("score", score(spec, scorer.bundle, store, keys), dtype=pl.Float64),
            pl.lit(scorer.version, dtype=pl.Int64).alias("model_version"),
            pl.lit(as_of).alias("feature_as_of"),
            pl.lit(_data_digest(scorer.bundle, store, as_of)).alias("data_digest"),
        )
        for role, scorer in scorers.items()
    ]
    return pl.concat(scored)


def _data_digest(bundle: Bundle, store: FeatureStore, as_of: date) -> str:
    """SHA-256 over the published partitions of the Monday that the bundle reads. Raises SnapshotMissing."""
    digests = []
    for name in dict.fromkeys(reference.split(":")[0] for reference in bundle.features):
        published = store.table(name).published(as_of.isoformat())
        if published is None:
            raise _missing(name, as_of)
        digests.append(published.digest)
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def _missing(table: str, as_of: date) -> SnapshotMissing:
    return SnapshotMissing(f"features/{table} has no partition {as_of}", next_step=f"mlp run 'key:features/{table}'")


def top_rows(spec: ModelSpec, frame: pl.DataFrame, shown: int = 10) -> list[dict[str, object]]:
    """What the champion's scores say at a glance: groups of the entity's other key columns, or the highest rows."""
    frame = frame.filter(pl.col("role") == "champion")
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
