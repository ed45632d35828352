from dataclasses import replace
from typing import Any

import polars as pl
import pytest

from assets.feature_tables import FEATURE_TABLES
from ml_platform.contracts import AS_OF, Column, Contract, ContractViolation, FeatureTable
from ml_platform.errors import ConfigurationError
from ml_platform_tests.features.conftest import HOUSEHOLD, MONDAYS, household_rows

GOOD = household_rows(MONDAYS[0])


def test_a_frame_that_keeps_its_contract_passes() -> None:
    outcome = HOUSEHOLD.check(GOOD)
    assert outcome.passed
    assert outcome.failure_cases.is_empty()
    assert "all 4 rows" in outcome.explain()


def test_nulls_pass_only_where_they_are_declared() -> None:
    blank = GOOD.with_columns(recency_days=pl.lit(None, dtype=pl.Int32), weekend_share=pl.lit(None, dtype=pl.Float64))
    assert HOUSEHOLD.check(blank).passed
    assert not HOUSEHOLD.check(GOOD.with_columns(spend_cents_28d=pl.lit(None, dtype=pl.Int64))).passed


@pytest.mark.parametrize(
    ("column", "value", "check"),
    [
        ("spend_cents_28d", -1, "greater_than_or_equal_to(0)"),
        ("spend_cents_28d", None, "not_nullable"),
        ("recency_days", 85, "less_than_or_equal_to(84)"),
        ("recency_days", 0, "greater_than_or_equal_to(1)"),
        ("weekend_share", float("nan"), "finite"),
        ("weekend_share", float("inf"), "finite"),
        ("household_id", 0, "greater_than_or_equal_to(1)"),
    ],
)
def test_a_failing_value_is_shown_with_its_column_check_and_row(column: str, value: Any, check: str) -> None:
    at = pl.int_range(pl.len()) == 2
    broken = GOOD.with_columns(pl.when(at).then(pl.lit(value)).otherwise(column).cast(GOOD[column].dtype).alias(column))
    outcome = HOUSEHOLD.check(broken)
    assert not outcome.passed
    assert outcome.failed_rows == 1
    case = outcome.failure_cases.filter(pl.col("check") == check).row(0, named=True)
    assert case["column"] == column
    assert case["row"] == f"household_id={broken['household_id'][2]}, as_of=2017-06-05"
    assert column in outcome.explain()


def test_a_row_that_is_there_twice_is_shown() -> None:
    outcome = HOUSEHOLD.check(pl.concat([GOOD, GOOD[:1]]))
    case = outcome.failure_cases.row(0, named=True)
    assert (case["column"], case["check"]) == ("household_id+as_of", "unique")
    assert case["row"].startswith("household_id=1")


@pytest.mark.parametrize(
    "broken",
    [
        GOOD.drop("spend_cents_28d"),
        GOOD.with_columns(surprise=1),
        GOOD.with_columns(pl.col("spend_cents_28d").cast(pl.String)),
        GOOD.select(GOOD.columns[::-1]),
    ],
)
def test_columns_that_are_missing_extra_of_another_type_or_in_another_order_fail(broken: pl.DataFrame) -> None:
    assert not HOUSEHOLD.check(broken).passed


LISTS = Contract(
    "lists", "Lists", "team:x", ("household_id",),
    (
        Column("household_id", "int64", "Household", "id", lower=1),
        Column("sizes", "list[int32]", "Sizes", "count", lower=1, upper=9),
        Column("gaps", "list[int64]", "Gaps", "days", nullable=True),
    ),
)  # fmt: skip


def lists(sizes: list[int | None] | None, gaps: list[int | None] | None = None) -> pl.DataFrame:
    schema = {"household_id": pl.Int64(), "sizes": pl.List(pl.Int32()), "gaps": pl.List(pl.Int64())}
    return pl.DataFrame({"household_id": [1, 2], "sizes": [[1, 9], sizes], "gaps": [[-5], gaps]}, schema=schema)


@pytest.mark.parametrize(("sizes", "gaps"), [([9, 1], []), ([], None)])
def test_a_list_whose_elements_keep_the_bounds_passes(sizes: list[int | None], gaps: list[int | None] | None) -> None:
    frame = lists(sizes, gaps)
    assert LISTS.check(frame).passed and LISTS.conform(frame).equals(frame)
    assert LISTS.schema() == dict(frame.schema)


@pytest.mark.parametrize(
    ("frame", "column", "check"),
    [
        (lists([1, 0]), "sizes", "elements >= 1"),
        (lists([10]), "sizes", "elements <= 9"),
        (lists([1, None]), "sizes", "elements_not_null"),
        (lists([2], [1, None]), "gaps", "elements_not_null"),
        (lists(None), "sizes", "not_nullable"),
    ],
)
def test_a_list_with_an_element_that_is_null_or_out_of_bounds_is_shown(
    frame: pl.DataFrame, column: str, check: str
) -> None:
    outcome = LISTS.check(frame)
    assert not outcome.passed
    case = outcome.failure_cases.filter(pl.col("check") == check).row(0, named=True)
    assert (case["column"], case["row"]) == (column, "household_id=2")


def test_a_list_of_wider_numbers_does_not_conform_when_one_is_lost() -> None:
    wide = lists([1]).with_columns(sizes=pl.Series([[1], [2**40]]))
    with pytest.raises(ContractViolation):
        LISTS.conform(wide)


def test_the_words_for_bounds_say_when_they_are_of_each_element() -> None:
    assert LISTS.column("sizes").bounds == ("each >= 1", "each <= 9")
    assert LISTS.column("household_id").bounds == (">= 1",)
    assert LISTS.column("gaps").bounds == ()


def test_many_failures_are_counted_and_few_are_shown() -> None:
    rows = 5000
    frame = pl.DataFrame({"household_id": range(1, rows + 1), "spend_cents_28d": [-1] * rows}).with_columns(
        as_of=MONDAYS[0], recency_days=None, weekend_share=None
    )
    outcome = HOUSEHOLD.check(HOUSEHOLD.conform(frame))
    assert (outcome.failures, outcome.failed_rows, outcome.failure_cases.height) == (rows, rows, 100)


def test_conforming_orders_columns_and_rows_and_casts_without_loss() -> None:
    untidy = GOOD.reverse().select(GOOD.columns[::-1]).with_columns(pl.col("household_id").cast(pl.Int16))
    assert HOUSEHOLD.conform(untidy).equals(GOOD)


@pytest.mark.parametrize(
    "frame",
    [
        GOOD.drop("as_of"),
        GOOD.with_columns(other=1),
        GOOD.with_columns(recency_days=pl.lit(2**40)),
        GOOD.with_columns(recency_days=pl.lit("many")),
    ],
)
def test_what_would_lose_something_does_not_conform(frame: pl.DataFrame) -> None:
    with pytest.raises(ContractViolation):
        HOUSEHOLD.conform(frame)


def test_a_wrong_declaration_fails_where_it_is_written() -> None:
    column = Column("n", "int64", "A number", "count")
    wrong = [
        lambda: Column("N", "int64", "Upper case", "count"),
        lambda: Column("n", "int64", "", "count"),
        lambda: Column("n", "int64", "Bounds", "count", lower=2, upper=1),
        lambda: Contract("t", "Twice", "team:x", ("n",), (column, column)),
        lambda: Contract("t", "No entity", "team:x", ("m",), (column,)),
        lambda: replace(HOUSEHOLD, relation="household; drop table x"),
        lambda: replace(HOUSEHOLD, columns=tuple(c for c in HOUSEHOLD.columns if c != AS_OF)),
    ]
    for declare in wrong:
        with pytest.raises(ConfigurationError):
            declare()


@pytest.mark.parametrize("table", FEATURE_TABLES.values(), ids=FEATURE_TABLES)
def test_every_declared_table_has_an_audit_and_bounds_on_what_it_counts(table: FeatureTable) -> None:
    assert "$as_of" in table.audit_sql.read_text()
    for column in table.values:
        assert column.dtype == "string" or column.lower is not None, column.name


def test_every_household_is_classed_as_personal_information() -> None:
    for table in FEATURE_TABLES.values():
        assert all(column.pii == "pseudonymous" for column in table.columns if column.name == "household_id")
