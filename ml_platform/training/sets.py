"""A training set: mature labels joined point-in-time to features, the same bytes from the same inputs.

Invariants: keyed by its cutoff, and nothing in it was learnt on or after the cutoff: every label has matured, and every
row's features are as of a Monday no later than the label's (`<table>__as_of` says which). Rows are unique and sorted by
(as_of, entity), so neither row order nor threads decide the file. Where a table does not know a row's entity, its
columns stay null, and the summary counts it.
"""

import hashlib
from dataclasses import dataclass, replace
from datetime import date, timedelta

import polars as pl

from ml_platform.errors import PlatformError
from ml_platform.features.pit import AS_OF
from ml_platform.features.store import FeatureStore
from ml_platform.lake import PartitionedTable, Published
from ml_platform.predictions import catalogue
from ml_platform.tasks import task_of
from ml_platform.training.job import column_of
from ml_platform.training.spec import ModelSpec


class TrainingSetUnusable(PlatformError):
    """The labels or the features of a training set cannot be what they should be."""


@dataclass(frozen=True)
class TrainingSet:
    """`digest`: SHA-256 over the digests of its files and the spec's. `items`: a ranker's catalogue of its Mondays.
    `by_monday`: [as_of, role, rows, positive (share; of a ranker, products a label), unmatched, stale]: rows that lack
    some table's features, and rows that got an older Monday's."""

    published: Published
    items: Published | None
    digest: str
    by_monday: pl.DataFrame


def build_training_set(
    spec: ModelSpec,
    cutoff: date,
    labels: pl.DataFrame,
    store: FeatureStore,
    table: PartitionedTable,
    catalogues: PartitionedTable | None = None,
) -> TrainingSet:
    """Joins `labels` [entity…, as_of, label] to the spec's features and publishes the partition of `cutoff`.

    Columns of the file: entity…, as_of, role, label, table__column…, table__as_of…. Of a ranker, what may be listed on
    each of its Mondays is published to `catalogues`, first. Raises TrainingSetUnusable when a Monday has no labels, no
    published features, or is not of the split; when a label is none, or stands there twice; when rows have features
    from after their time, or none at all.
    """
    roles = spec.split.roles(cutoff, spec.label)
    task = task_of(spec)
    _demand_labels(spec, labels, set(roles))
    _demand_features(spec, store, set(roles))
    mondays = pl.DataFrame(
        {AS_OF: list(roles), "role": list(roles.values())}, schema={AS_OF: pl.Date, "role": pl.String}
    )
    rows = labels.select(*spec.entity, AS_OF, pl.col("label").cast(task.LABEL)).join(mondays, on=AS_OF, how="inner")
    joined = store.join(rows.sort(AS_OF, *spec.entity), spec.features, timedelta(days=spec.feature_ttl_days))
    as_ofs = [f"{name}__as_of" for name in spec.tables]
    _demand_no_future(spec, joined, as_ofs)
    columns = [column_of(reference) for reference in spec.features]
    frame = joined.select(*spec.entity, AS_OF, "role", "label", *columns, *as_ofs)
    offered = catalogue(spec, store, list(roles))
    items = None
    if offered is not None:
        assert catalogues is not None  # whoever builds a ranker's training set says where its catalogue goes
        items = catalogues.publish(catalogues.stage(cutoff.isoformat(), offered))
    staged = table.stage(cutoff.isoformat(), frame)
    digest = training_set_digest(staged.digest + (items.digest if items else ""), spec)
    published = table.publish(replace(staged, metadata={"digest": digest, "spec_digest": spec.digest()}))
    summary = frame.group_by(AS_OF, "role").agg(
        rows=pl.len(),
        positive=(pl.col("label").list.len() if isinstance(task.LABEL, pl.List) else pl.col("label")).mean(),
        unmatched=pl.any_horizontal(pl.col(as_ofs).is_null()).sum(),
        stale=pl.any_horizontal(pl.col(as_ofs) < pl.col(AS_OF)).sum(),
    )
    return TrainingSet(published, items, digest, summary.sort(AS_OF))


def training_set_digest(file_digests: str, spec: ModelSpec) -> str:
    """What a training set is, in one word: its bytes and the spec they were made for."""
    return hashlib.sha256(f"{file_digests}{spec.digest()}".encode()).hexdigest()


def summary_rows(built: TrainingSet) -> list[dict]:
    """The training set Monday by Monday, for people."""
    return built.by_monday.with_columns(pl.col(AS_OF).cast(pl.String)).to_dicts()


def _demand_labels(spec: ModelSpec, labels: pl.DataFrame, mondays: set[date]) -> None:
    there = set(labels[AS_OF].unique().to_list())
    odd = task_of(spec).odd_labels(labels["label"])
    twice = labels.height - labels.n_unique([*spec.entity, AS_OF])
    troubles = {
        f"no labels as of {', '.join(map(str, sorted(mondays - there)))}": bool(mondays - there),
        f"labels as of {', '.join(map(str, sorted(there - mondays)))}, which the split does not use": there - mondays,
        odd: odd,
        f"{twice} labels share their entity and as_of with another": twice,
    }
    found = [what for what, is_so in troubles.items() if is_so]
    if found:
        raise TrainingSetUnusable(
            "; ".join(found), where=spec.label.sql.name, next_step="load the earlier landing days, or mend the SQL"
        )


def _demand_features(spec: ModelSpec, store: FeatureStore, mondays: set[date]) -> None:
    """A Monday's own features, always: an older week's may be young enough to live, but no model is served them."""
    missing = {
        name: sorted(mondays - {date.fromisoformat(day) for day in store.table(name).partitions()})
        for name in spec.reads
    }
    for name, days in missing.items():
        if days:
            raise TrainingSetUnusable(
                f"features/{name} is not published as of {', '.join(map(str, days))}",
                where=f"models/{spec.name}/training_set",
                next_step=f"publish them: mlp run 'key:features/{name}'",
            )


def _demand_no_future(spec: ModelSpec, joined: pl.DataFrame, as_ofs: list[str]) -> None:
    late = joined.filter(pl.any_horizontal(pl.col(name) > pl.col(AS_OF) for name in as_ofs)).height
    bare = joined.filter(pl.all_horizontal(pl.col(as_ofs).is_null())).height
    if late or bare:
        raise TrainingSetUnusable(
            f"{late} rows have features from after their label time, {bare} rows have none at all",
            where=f"models/{spec.name}/training_set",
            next_step="materialise the feature partitions of those Mondays",
        )
