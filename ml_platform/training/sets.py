"""A training set: mature labels joined point-in-time to features, the same bytes from the same inputs.

Keyed by its cutoff; rows are sorted by (as_of, entity), so neither row order nor threads decide the file.
"""

import hashlib
from dataclasses import dataclass
from datetime import date, timedelta

import polars as pl

from ml_platform.errors import PlatformError
from ml_platform.features.pit import AS_OF
from ml_platform.features.store import FeatureStore
from ml_platform.lake import PartitionedTable, Published, parquet_bytes
from ml_platform.training.job import column_of
from ml_platform.training.spec import ModelSpec


class TrainingSetUnusable(PlatformError):
    """The labels or the features of a training set cannot be what they should be."""


@dataclass(frozen=True)
class TrainingSet:
    """`digest`: SHA-256 over the file's digest and the spec's. `by_monday`: [as_of, role, rows, positive, unmatched]."""

    published: Published
    digest: str
    by_monday: pl.DataFrame


def build_training_set(
    spec: ModelSpec, cutoff: date, labels: pl.DataFrame, store: FeatureStore, table: PartitionedTable
) -> TrainingSet:
    """Joins `labels` [entity…, as_of, label] to the spec's features and publishes the partition of `cutoff`.

    Raises TrainingSetUnusable when a Monday has no labels, a label is not 0 or 1, or rows lack every feature.
    """
    roles = spec.split.roles(cutoff, spec.label)
    _demand_labels(spec, labels, list(roles))
    mondays = pl.DataFrame({AS_OF: list(roles), "role": list(roles.values())}, schema={AS_OF: pl.Date, "role": pl.String})
    rows = labels.select(*spec.entity, AS_OF, pl.col("label").cast(pl.Int8)).join(mondays, on=AS_OF, how="inner")
    joined = store.join(rows.sort(AS_OF, *spec.entity), spec.features, timedelta(days=spec.feature_ttl_days))
    as_ofs = [f"{name}__as_of" for name in spec.tables]
    _demand_no_future(spec, joined, as_ofs)
    columns = [column_of(reference) for reference in spec.features]
    frame = joined.select(*spec.entity, AS_OF, "role", "label", *columns, *as_ofs)
    digest = hashlib.sha256(f"{hashlib.sha256(parquet_bytes(frame)).hexdigest()}{spec.digest()}".encode()).hexdigest()
    staged = table.stage(cutoff.isoformat(), frame, {"digest": digest, "spec_digest": spec.digest()})
    summary = frame.group_by(AS_OF, "role").agg(
        rows=pl.len(),
        positive=pl.col("label").mean(),
        unmatched=pl.any_horizontal(pl.col(as_ofs).is_null()).sum(),
    )
    return TrainingSet(table.publish(staged), digest, summary.sort(AS_OF))


def summary_rows(built: TrainingSet) -> list[dict]:
    """The training set Monday by Monday, for people."""
    return built.by_monday.with_columns(pl.col(AS_OF).cast(pl.String)).to_dicts()


def _demand_labels(spec: ModelSpec, labels: pl.DataFrame, mondays: list[date]) -> None:
    missing = sorted(set(mondays) - set(labels[AS_OF].unique().to_list()))
    odd = labels.filter(~pl.col("label").is_in([0, 1]) | pl.col("label").is_null()).height
    if missing or odd:
        what = f"no labels as of {missing[0]} and {len(missing) - 1} more" if missing else f"{odd} labels not 0 or 1"
        raise TrainingSetUnusable(what, where=spec.label.sql.name, next_step="run the earlier landing days, or mend the SQL")


def _demand_no_future(spec: ModelSpec, joined: pl.DataFrame, as_ofs: list[str]) -> None:
    late = joined.filter(pl.any_horizontal(pl.col(name) > pl.col(AS_OF) for name in as_ofs)).height
    bare = joined.filter(pl.all_horizontal(pl.col(as_ofs).is_null())).height
    if late or bare:
        raise TrainingSetUnusable(
            f"{late} rows have features from after their label time, {bare} rows have none at all",
            where=f"models/{spec.name}/training_set",
            next_step="materialise the feature partitions of those Mondays",
        )
