"""A contract is the one statement of a published table: its columns, their units, bounds, and who answers for it.

Invariants: a contract is frozen and validated where it is written; its columns and their order are exactly those of
every published partition; a row is identified by `key` (the entity and, where there is one, `as_of`). Whatever else
says something about the columns (the check before publishing, the table schema in the UI, the docs) derives from it.
Declaring costs nothing: polars and pandera are imported only when a frame is at hand.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ml_platform.contracts.pii import Pii
from ml_platform.errors import ConfigurationError, PlatformError
from ml_platform.monitoring.promises import Promise, Terms

if TYPE_CHECKING:
    import polars as pl

Dtype = Literal["int8", "int32", "int64", "float32", "float64", "bool", "string", "date", "list[int32]", "list[int64]"]
Unit = Literal["id", "name", "date", "cents", "days", "weeks", "count", "ratio", "flag", "probability"]

_POLARS_NAMES: Mapping[str, str] = {
    "int8": "Int8",
    "int32": "Int32",
    "int64": "Int64",
    "float32": "Float32",
    "float64": "Float64",
    "bool": "Boolean",
    "string": "String",
    "date": "Date",
}
_IDENTIFIER = re.compile(r"[a-z][a-z0-9_]{0,62}")
MAX_FAILURE_CASES = 100
"""How many failing values a check hands on to be shown; all are counted."""


class ContractViolation(PlatformError):
    """A frame does not have the columns, types or values that its contract promises."""


@dataclass(frozen=True)
class Column:
    """One promise: dtype, unit and inclusive bounds of the values. A null is refused unless `nullable`.

    Unit and bounds of a list are those of each of its elements; an element is never null, and a list may be empty.
    Floats are always finite: a ratio without a denominator is null, never NaN or infinity. `grows`: the value grows
    with the history that has been observed, so it drifts by construction: drift of it is shown, not counted.
    """

    name: str
    dtype: Dtype
    description: str
    unit: Unit
    lower: float | None = None
    upper: float | None = None
    nullable: bool = False
    pii: Pii = "none"
    grows: bool = False

    def __post_init__(self) -> None:
        if not _IDENTIFIER.fullmatch(self.name):
            raise ConfigurationError(f"{self.name!r} is not a lower-case identifier", where=f"Column {self.name}")
        if not self.description:
            raise ConfigurationError("it has no description", where=f"Column {self.name}")
        if self.lower is not None and self.upper is not None and self.lower > self.upper:
            raise ConfigurationError("its lower bound is above its upper bound", where=f"Column {self.name}")

    @property
    def is_list(self) -> bool:
        """Whether a value is a list of numbers: for trainers that read sequences, and no column of a matrix."""
        return self.dtype.startswith("list[")

    @property
    def bounds(self) -> tuple[str, ...]:
        """The bounds as words."""
        of = "each " if self.is_list else ""
        lower = (f"{of}>= {self.lower:g}",) if self.lower is not None else ()
        return (*lower, f"{of}<= {self.upper:g}") if self.upper is not None else lower


AS_OF = Column("as_of", "date", "Monday the row is known at: built only from what had landed before it.", "date")


@dataclass(frozen=True)
class CheckOutcome:
    """What the check of a frame found. `failure_cases` [<= 100 rows]: column, check, value, row (all text; `row` is
    the key of the failing row and null where the whole column fails); `failures` counts every failing value,
    `failed_rows` the distinct rows they stand in."""

    passed: bool
    rows: int
    failures: int
    failed_rows: int
    failure_cases: "pl.DataFrame"

    def explain(self) -> str:
        """One sentence for a log or an error."""
        if self.passed:
            return f"all {self.rows} rows keep the contract"
        broken = self.failure_cases.select("column", "check").unique(maintain_order=True).head(5)
        checks = ", ".join(f"{column}: {check}" for column, check in broken.iter_rows())
        return f"{self.failures} values in {self.failed_rows} of {self.rows} rows break the contract ({checks})"


@dataclass(frozen=True)
class Contract:
    """What a table promises. `entity`: the columns that say what a row is about; with `as_of` they are its key."""

    name: str
    description: str
    owner: str
    entity: tuple[str, ...]
    columns: tuple[Column, ...]

    def __post_init__(self) -> None:
        names = [column.name for column in self.columns]
        if not _IDENTIFIER.fullmatch(self.name):
            raise self._wrong(f"the name {self.name!r} is not a lower-case identifier")
        if len(set(names)) != len(names):
            raise self._wrong(f"columns named twice: {sorted({n for n in names if names.count(n) > 1})}")
        if not self.entity or not set(self.entity) <= set(names):
            raise self._wrong(f"the entity {self.entity} is not among its columns")

    def _wrong(self, what: str) -> ConfigurationError:
        return ConfigurationError(what, where=f"contract {self.name}", next_step="correct the declaration")

    @property
    def key(self) -> tuple[str, ...]:
        """The columns that identify a row."""
        return (*self.entity, "as_of") if any(c.name == "as_of" for c in self.columns) else self.entity

    @property
    def values(self) -> tuple[Column, ...]:
        """The columns that are not part of the key: what the table says of its entity."""
        return tuple(column for column in self.columns if column.name not in self.key)

    def column(self, name: str) -> Column:
        """The declared column of that name. Raises KeyError."""
        return {column.name: column for column in self.columns}[name]

    def schema(self) -> "dict[str, pl.DataType]":
        """Column name -> polars dtype, in the order of the published files."""
        import polars as pl

        def of(dtype: str) -> "pl.DataType":
            name, _, inner = dtype.partition("[")
            return pl.List(of(inner.rstrip("]"))) if inner else getattr(pl, _POLARS_NAMES[name])()

        return {column.name: of(column.dtype) for column in self.columns}

    def conform(self, frame: "pl.DataFrame") -> "pl.DataFrame":
        """The frame with the declared columns, order and dtypes, sorted by key. Raises ContractViolation when a
        column is missing or unexpected, or when a value does not survive the cast."""
        import polars as pl

        schema = self.schema()
        missing, extra = [n for n in schema if n not in frame.columns], [n for n in frame.columns if n not in schema]
        if missing or extra:
            raise ContractViolation(
                f"columns missing: {missing}; columns nobody declared: {extra}",
                where=self.name,
                next_step="bring the query and the declaration together",
            )
        try:
            cast = frame.select(pl.col(name).cast(dtype, strict=True) for name, dtype in schema.items())
        except pl.exceptions.InvalidOperationError as error:
            raise ContractViolation(
                f"a value does not fit its declared type: {str(error).splitlines()[0]}",
                where=self.name,
                next_step="correct the query, or declare the wider type",
            ) from error
        return cast.sort(self.key[-1], *self.key[:-1])

    def pandera_schema(self) -> Any:
        """The same promises as a `pandera.polars.DataFrameSchema`."""
        import pandera.polars as pa
        import polars as pl

        def finite(data: Any) -> Any:
            return data.lazyframe.select(pl.col(data.key).is_finite())

        def complete(data: Any) -> Any:
            values = pl.col(data.key).list
            return data.lazyframe.select(values.drop_nulls().list.len() == values.len())

        def least(data: Any, bound: float) -> Any:
            return data.lazyframe.select((pl.col(data.key).list.min() >= bound).fill_null(True))

        def greatest(data: Any, bound: float) -> Any:
            return data.lazyframe.select((pl.col(data.key).list.max() <= bound).fill_null(True))

        def list_checks(column: Column) -> list[Any]:
            found = [pa.Check(complete, name="elements_not_null")]
            for check, name, bound in ((least, ">=", column.lower), (greatest, "<=", column.upper)):
                if bound is not None:
                    limit = _bound(column, bound)
                    found.append(pa.Check(check, name=f"elements {name} {limit}", bound=limit))
            return found

        def checks(column: Column) -> list[Any]:
            if column.is_list:
                return list_checks(column)
            found = [pa.Check(finite, name="finite")] if column.dtype.startswith("float") else []
            if column.lower is not None:
                found.append(pa.Check.ge(_bound(column, column.lower)))
            if column.upper is not None:
                found.append(pa.Check.le(_bound(column, column.upper)))
            return found

        schema = self.schema()
        columns = {c.name: pa.Column(schema[c.name], checks(c), nullable=c.nullable) for c in self.columns}
        return pa.DataFrameSchema(columns, strict=True, ordered=True, unique=list(self.key), name=self.name)

    def check(self, frame: "pl.DataFrame") -> CheckOutcome:
        """Validates every row; never raises for what it finds in the data."""
        import polars as pl
        from pandera.errors import SchemaErrors

        try:
            self.pandera_schema().validate(frame, lazy=True)
        except SchemaErrors as errors:
            found: pl.DataFrame = errors.failure_cases  # type: ignore[assignment]
        else:
            nothing = pl.DataFrame(schema=dict.fromkeys(("column", "check", "value", "row"), pl.String()))
            return CheckOutcome(True, frame.height, 0, 0, nothing)
        shown = found.head(MAX_FAILURE_CASES)
        whole_table = pl.col("check") == "multiple_fields_uniqueness"
        cases = shown.select(
            pl.when(whole_table).then(pl.lit("+".join(self.key))).otherwise(pl.col("column")).alias("column"),
            pl.when(whole_table).then(pl.lit("unique")).otherwise(pl.col("check")).alias("check"),
            pl.when(whole_table).then(None).otherwise(pl.col("failure_case").cast(pl.String)).alias("value"),
            pl.Series("row", [self._row_key(frame, index) for index in shown["index"]], dtype=pl.String),
        )
        return CheckOutcome(False, frame.height, found.height, found["index"].drop_nulls().n_unique(), cases)

    def _row_key(self, frame: "pl.DataFrame", index: int | None) -> str | None:
        if index is None:
            return None
        return ", ".join(f"{name}={frame[name][index]}" for name in self.key if name in frame.columns)


@dataclass(frozen=True)
class FeatureTable(Contract):
    """The contract of a weekly feature table, and where its rows come from.

    `relation`: the warehouse relation that holds exactly these columns. `audit_sql`: a query that computes some of the
    columns anew from raw lines alone (see `ml_platform.features.audit`). `ttl_days`: how old a row may be and still be
    joined to a label. `promised` are the terms of its freshness.
    """

    relation: str
    audit_sql: Path
    ttl_days: int = 7
    promised: tuple[Terms, ...] = (Terms("as_of", within_days=1),)

    def __post_init__(self) -> None:
        super().__post_init__()
        if AS_OF not in self.columns:
            raise self._wrong("a feature table has the column AS_OF")
        if not re.fullmatch(r"[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*", self.relation):
            raise self._wrong(f"the relation {self.relation!r} is not of the form schema.table")

    @property
    def promises(self) -> tuple[Promise, ...]:
        """What the owner promises of the asset `features/<name>`."""
        return tuple(terms.of(f"features/{self.name}", self.owner) for terms in self.promised)


def _bound(column: Column, bound: float) -> float | int:
    """Whole bounds of whole columns as int: an int64 compared to a float loses its last digits."""
    return int(bound) if "int" in column.dtype and math.isfinite(bound) else bound
