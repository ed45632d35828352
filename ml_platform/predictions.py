"""Batch predictions: the champion answers for everyone the newest snapshot knows, and every row says what it rests on.

What an answer is, a probability or a ranked list, is the task's (see `tasks`). While a challenger is on trial it
answers for the same entities; `role` tells whose answer a row holds.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Literal

import numpy as np
import polars as pl

from ml_platform.contracts import AS_OF, Column, Contract, FeatureTable
from ml_platform.errors import PlatformError
from ml_platform.features.store import FeatureStore
from ml_platform.registry.bundles import Bundle
from ml_platform.tasks import task_of
from ml_platform.training.spec import ModelSpec

Role = Literal["champion", "challenger"]


@dataclass(frozen=True)
class Scorer:
    """A version of the ledger that scores, with its opened bundle."""

    version: int
    bundle: Bundle


class SnapshotMissing(PlatformError):
    """The feature partition that should be scored is not published."""


def contract(spec: ModelSpec, store: FeatureStore) -> Contract:
    """What a prediction table promises: [entity…, role, as_of, the answer, model_version, feature_as_of, data_digest].

    A ranked list stands in as many rows as it has places, and its place joins the key.
    """
    population, items = population_table(spec, store), store.contract(spec.items) if spec.items else None
    key, answer = task_of(spec).columns(spec, items)
    role = Column("role", "string", "Whether the row is the champion's, or its challenger's on trial", "name")
    stated = (
        Column("model_version", "int64", "Version in the ledger that scored", "id", lower=1),
        Column("feature_as_of", "date", "Monday of the feature rows that were scored", "date"),
        Column("data_digest", "string", "SHA-256 over the published feature partitions", "id"),
    )
    return Contract(
        name=spec.name,
        description=f"Weekly predictions of {spec.name}",
        owner=spec.owner,
        entity=(*spec.entity, "role", *key),
        columns=(*(population.column(name) for name in spec.entity), role, AS_OF, *answer, *stated),
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


def catalogue(spec: ModelSpec, store: FeatureStore, as_ofs: Sequence[date]) -> pl.DataFrame | None:
    """What a ranker may list on each of these Mondays: [item…, as_of, `table__column`…], sorted by as_of and item; None
    for a classifier. Raises SnapshotMissing."""
    if spec.items is None:
        return None
    table, promised = store.table(spec.items), store.contract(spec.items)
    for as_of in as_ofs:
        if table.published(as_of.isoformat()) is None:
            raise _missing(spec.items, as_of)
    values = [pl.col(column.name).alias(f"{spec.items}__{column.name}") for column in promised.values]
    rows = pl.concat([table.read(as_of.isoformat()) for as_of in sorted(as_ofs)])
    return rows.select(*promised.entity, "as_of", *values).sort("as_of", *promised.entity)


def answer(spec: ModelSpec, bundle: Bundle, store: FeatureStore, keys: pl.DataFrame) -> np.ndarray:
    """Answers to the rows [entity…, as_of] by a bundle: [n_rows, …] as its task gives them."""
    items = catalogue(spec, store, keys["as_of"].unique().to_list())
    return task_of(spec).answers(bundle, joined(spec, bundle, store, keys), items)


def population_keys(spec: ModelSpec, store: FeatureStore, as_of: date) -> pl.DataFrame:
    """Who is answered for: [entity…, as_of] of the snapshot, sorted. Raises SnapshotMissing."""
    population = store.table(population_table(spec, store).name)
    if population.published(as_of.isoformat()) is None:
        raise _missing(population.name, as_of)
    return population.read(as_of.isoformat()).select(*spec.entity, "as_of").sort(spec.entity)


def predict(spec: ModelSpec, scorers: Mapping[Role, Scorer], store: FeatureStore, as_of: date) -> pl.DataFrame:
    """An answer for every entity of the snapshot in each role: rows as `contract`, by role, then key.

    Raises SnapshotMissing when a feature table has no partition for `as_of`.
    """
    keys = population_keys(spec, store, as_of)
    items, columns = catalogue(spec, store, [as_of]), contract(spec, store).schema()
    answered = [
        task_of(spec)
        .tabulate(scorer.bundle, joined(spec, scorer.bundle, store, keys), items, [*spec.entity, "as_of"])
        .with_columns(
            pl.lit(role).alias("role"),
            pl.lit(scorer.version, dtype=pl.Int64).alias("model_version"),
            pl.lit(as_of).alias("feature_as_of"),
            pl.lit(data_digest(spec, scorer.bundle, store, as_of)).alias("data_digest"),
        )
        .select(list(columns))
        for role, scorer in scorers.items()
    ]
    return pl.concat(answered)


def data_digest(spec: ModelSpec, bundle: Bundle, store: FeatureStore, as_of: date) -> str:
    """SHA-256 over the published partitions of the Monday that the bundle reads. Raises SnapshotMissing."""
    digests, items = [], [spec.items] if spec.items else []
    for name in dict.fromkeys([*(reference.split(":")[0] for reference in bundle.features), *items]):
        published = store.table(name).published(as_of.isoformat())
        if published is None:
            raise _missing(name, as_of)
        digests.append(published.digest)
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def _missing(table: str, as_of: date) -> SnapshotMissing:
    return SnapshotMissing(f"features/{table} has no partition {as_of}", next_step=f"mlp run 'key:features/{table}'")
