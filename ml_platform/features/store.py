"""The feature store: published feature tables, and labels joined to them by reference (`table:column`).

Invariant: only what is published is read, and only the partitions that some label can meet within the time to live.
"""

import difflib
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path

import polars as pl
from upath import UPath

from ml_platform.contracts import FeatureTable
from ml_platform.errors import PlatformError
from ml_platform.features.pit import AS_OF, label_days, point_in_time
from ml_platform.lake import PartitionedTable


class UnknownFeature(PlatformError):
    """No feature table, or no column of one, has this name."""


class FeatureStore:
    """Reads and joins the feature tables of one lake (a local folder, or any place UPath opens)."""

    def __init__(self, lake: UPath | Path, tables: Mapping[str, FeatureTable]) -> None:
        self._root = lake / "features"
        self._tables = tables

    def contract(self, name: str) -> FeatureTable:
        """The contract of that name. Raises UnknownFeature with the nearest names."""
        if name not in self._tables:
            raise UnknownFeature(f"there is no feature table {name!r}", next_step=_nearest(name, list(self._tables)))
        return self._tables[name]

    def table(self, name: str) -> PartitionedTable:
        """The published partitions of that table, one an as-of Monday. Raises UnknownFeature."""
        self.contract(name)
        return PartitionedTable(self._root, name)

    def join(
        self, labels: pl.DataFrame, references: Sequence[str], ttl: timedelta | None = None, label_time: str = AS_OF
    ) -> pl.DataFrame:
        """Labels with one column `table__column` a reference, and `table__as_of`; row order and number are kept.

        Without `ttl` each table's own holds. Raises UnknownFeature and LabelsUnusable.
        """
        chosen: dict[str, list[str]] = {}
        for reference in dict.fromkeys(references):
            table, column = self.resolve(reference)
            chosen.setdefault(table.name, []).append(column)
        days = label_days(labels, label_time)
        for name, columns in chosen.items():
            table = self._tables[name]
            life = timedelta(days=table.ttl_days) if ttl is None else ttl
            features = self._features(table, columns, days, life)
            labels = point_in_time(labels, features, table.entity, life, label_time, prefix=name)
        return labels

    def resolve(self, reference: str) -> tuple[FeatureTable, str]:
        """The table and column a reference names. Raises UnknownFeature with the nearest names."""
        name, _, column = reference.partition(":")
        table = self.contract(name)
        known = [each.name for each in table.values]
        if column not in known:
            raise UnknownFeature(f"{name} has no column {column!r}", where=reference, next_step=_nearest(column, known))
        return table, column

    def _features(self, table: FeatureTable, columns: list[str], days: pl.Series, ttl: timedelta) -> pl.DataFrame:
        """The published rows that labels of these days can meet: [key…, as_of, column…]."""
        wanted = [*table.entity, AS_OF, *columns]
        partitions = self.table(table.name)
        first, last = days.min(), days.max()
        near = [
            day
            for day in partitions.partitions()
            if isinstance(first, date) and isinstance(last, date) and first - ttl <= date.fromisoformat(day) <= last
        ]
        if not near:
            return pl.DataFrame(schema={name: table.schema()[name] for name in wanted})
        return partitions.scan(near).select(wanted).collect()


def _nearest(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=3)
    return f"did you mean {', '.join(near)}?" if near else f"known are: {', '.join(known)}"
