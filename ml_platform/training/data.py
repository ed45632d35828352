"""Rows as a trainer wants them: float32 matrices, read from a training set's Parquet one role at a time; or queries and
catalogues, for a trainer of rankings.

Invariants: `feature_matrix` is the one conversion from columns to numbers, for training and for prediction alike; a
missing value becomes NaN and stays the trainer's to handle; anything a trainer would silently misread (text, dates,
infinities, labels other than 0 and 1) is refused with the column's name.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import numpy as np

from ml_platform.ranking.baskets import BASKETS, BadBaskets, Catalogue, Queries, read_catalogues, read_queries
from ml_platform.training.job import TrainingFailed, TrainingJob, column_of, file_sha256
from ml_platform.training.ranks import ALONE, Ranks
from ml_platform.training.spec import Role

if TYPE_CHECKING:
    import pyarrow as pa

ROLES: tuple[Role, ...] = get_args(Role)
BASKET_LISTS = ("products", "basket_sizes", "days_ago")


@dataclass(frozen=True)
class Rows:
    """Rows of one role, in the training set's order: features [n_rows, n_features] float32, labels [n_rows] float32."""

    features: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class RoleCount:
    """How many rows a role has, and how many of them are positive."""

    rows: int
    positives: int


def feature_matrix(table: "pa.Table", columns: Sequence[str]) -> np.ndarray:
    """The columns as a float32 matrix [n_rows, n_columns], in the order given; nulls become NaN.

    Raises TrainingFailed for a column that is missing, not numeric or boolean, or infinite (also once in float32).
    """
    matrix = np.empty((table.num_rows, len(columns)), dtype=np.float32)
    for position, name in enumerate(columns):
        matrix[:, position] = feature_values(table, name)
    return matrix


def feature_values(table: "pa.Table | pa.RecordBatch", name: str) -> np.ndarray:
    """One column of such a matrix: [n_rows] float32. Raises as feature_matrix."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if name not in table.schema.names:
        raise TrainingFailed(
            "a feature column is missing", where=name, next_step="rebuild the rows from the model's features"
        )
    column = table.column(name)
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or pa.types.is_boolean(column.type)):
        raise TrainingFailed(
            f"a feature of type {column.type} cannot be used: features are numbers or booleans",
            where=name,
            next_step="encode it as a number in the feature table, or leave it out of the model's features",
        )
    known = pc.fill_null(pc.cast(column, pa.float64()), float("nan"))  # type: ignore[attr-defined]
    with np.errstate(over="ignore"):
        values = known.to_numpy(zero_copy_only=False).astype(np.float32)
    infinite = int(np.isinf(values).sum())
    if infinite:
        raise TrainingFailed(
            f"a feature is infinite in {infinite} of {table.num_rows} rows",
            where=name,
            next_step="mend the feature's SQL: a ratio over zero should be null",
        )
    return values


def verify_data(job: TrainingJob) -> None:
    """Raises TrainingFailed unless the files hold the very bytes that the job was written for."""
    _verify("training set", Path(job.data_path), job.data_sha256)
    if job.catalogue_path is not None:
        _verify("catalogue", Path(job.catalogue_path), job.catalogue_sha256)


def _verify(what: str, path: Path, sha256: str | None) -> None:
    if not path.is_file():
        raise TrainingFailed(f"the {what} is not there", where=path, next_step="materialise the training set again")
    if file_sha256(path) != sha256:
        raise TrainingFailed(
            f"the {what} is not the one the job was written for: its SHA-256 differs",
            where=path,
            next_step="materialise the training set again, then train",
        )


def count_roles(path: Path) -> Mapping[Role, RoleCount]:
    """Rows and positives of every role, from two columns only: what cannot be trained on fails before it costs.

    Raises TrainingFailed for an empty role, a label that is missing or neither 0 nor 1, or a role with a single class.
    """
    table = _read(path, ["role", "label"])
    roles = table.column("role").to_numpy(zero_copy_only=False)
    labels = _labels(table, path)
    counts: dict[Role, RoleCount] = {}
    for role in ROLES:
        mine = labels[roles == role]
        counts[role] = RoleCount(rows=len(mine), positives=int(mine.sum()))
        if not len(mine):
            raise TrainingFailed(
                f"no row has the role {role!r}", where=path, next_step="widen the model's TemporalSplit"
            )
        if counts[role].positives in (0, len(mine)):
            raise TrainingFailed(
                f"all {len(mine)} rows of the role {role!r} have the label {int(mine[0])}: there is nothing to learn",
                where=path,
                next_step="widen that role's Mondays in the model's TemporalSplit, or mend the label's SQL",
            )
    return counts


def read_role(path: Path, role: Role, references: Sequence[str], ranks: Ranks = ALONE) -> Rows:
    """The rows of one role, or one process's share of them; features in the order of the references.

    Raises TrainingFailed (see feature_matrix), also where there are fewer rows than processes.
    """
    columns = [column_of(reference) for reference in references]
    table = _read(path, [*columns, "label"], role)
    if ranks.count > 1:
        if table.num_rows < ranks.count:
            raise TrainingFailed(
                f"the {table.num_rows} rows of the role {role!r} are not enough for {ranks.count} processes",
                where=path,
                next_step="widen the model's TemporalSplit, or train it with fewer (resources)",
            )
        table = table.take(ranks.share_of(table.num_rows))
    return Rows(feature_matrix(table, columns), _labels(table, path).astype(np.float32))


def read_role_queries(path: Path, role: Role) -> Queries:
    """The queries of one role. Raises TrainingFailed for an empty role, or baskets that contradict themselves."""
    columns = ["household_id", "as_of", "label", *(f"{BASKETS}{name}" for name in BASKET_LISTS)]
    table = _read(path, columns, role)
    if not table.num_rows:
        raise TrainingFailed(f"no row has the role {role!r}", where=path, next_step="widen the model's TemporalSplit")
    try:
        return read_queries(table)
    except BadBaskets as error:
        raise TrainingFailed(error.what, where=f"{path} {error.where}", next_step=error.next_step) from error


def read_scalars(path: Path, role: Role, references: Sequence[str]) -> Mapping[str, np.ndarray]:
    """Those of the references that are columns of single numbers in the training set: [n_rows] float32 of the role."""
    import pyarrow.parquet as pq

    schema = pq.read_schema(path)
    columns = {reference: column_of(reference) for reference in references}
    single = {r: c for r, c in columns.items() if c in schema.names and not schema.field(c).type.num_fields}
    table = _read(path, list(single.values()), role)
    return {reference: feature_values(table, column) for reference, column in single.items()}


def read_job_catalogues(path: Path) -> Mapping[int, Catalogue]:
    """The catalogues by Monday. Raises TrainingFailed."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return read_catalogues(pq.read_table(path))
    except (OSError, pa.ArrowInvalid, BadBaskets) as error:
        raise TrainingFailed(f"the catalogue cannot be read: {error}", where=path) from error


def _read(path: Path, columns: list[str], role: Role | None = None) -> "pa.Table":
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        there = pq.read_schema(path).names
        missing = [name for name in columns if name not in there]
        if missing:
            raise TrainingFailed(
                f"the training set has no column {', '.join(missing)}",
                where=path,
                next_step="build it from this model's spec",
            )
        return pq.read_table(path, columns=columns, filters=None if role is None else [("role", "==", role)])
    except (OSError, pa.ArrowInvalid) as error:
        raise TrainingFailed(f"the training set cannot be read: {error}", where=path) from error


def _labels(table: "pa.Table", path: Path) -> np.ndarray:
    import pyarrow as pa
    import pyarrow.compute as pc

    labels = pc.fill_null(pc.cast(table.column("label"), pa.float64()), float("nan")).to_numpy()  # type: ignore[attr-defined]
    if np.isnan(labels).any():
        raise TrainingFailed(
            f"the label is missing in {int(np.isnan(labels).sum())} of {len(labels)} rows",
            where=path,
            next_step="mend the label's SQL: every row it returns has a label of 0 or 1",
        )
    if not np.isin(labels, (0.0, 1.0)).all():
        raise TrainingFailed("a label is neither 0 nor 1", where=path, next_step="mend the label's SQL")
    return labels
