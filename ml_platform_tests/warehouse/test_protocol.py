"""What every warehouse does alike: bound values, typed answers, whole transactions, rows staged and gone again."""

from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest

from ml_platform.warehouse.base import Arrival, Column, Session, Warehouse, WarehouseError, quote, replace_rows

DAY, NEXT_DAY = date(2017, 6, 5), date(2017, 6, 6)
HOSTILE = 'x\'; drop table shop.t; -- "Ünï©ode" $a ? %s'
COLUMNS = (
    Column("id", "bigint", "id"),
    Column("cents", "bigint", "dollars", "cents"),
    Column("event_ts", "timestamp", "instant", "utc"),
    Column("event_date", "date", "instant", "business_date"),
    Column("word", "varchar", "word"),
)
EVENING = datetime(2017, 6, 6, 3, 30, tzinfo=UTC)  # 23:30 of DAY in New York


@pytest.fixture
def session(any_warehouse: Warehouse) -> Iterator[Session]:
    with any_warehouse.session("test") as session:
        session.execute("create schema shop")
        yield session


@pytest.fixture
def landed(session: Session) -> Session:
    """A session with a table for what `arrival` brings, and a day of it there."""
    session.execute(
        "create table shop.t (id bigint, cents bigint, event_ts timestamp, event_date date, word varchar, "
        "landed_on date)"
    )
    load(session, arrival(DAY, 1, 2))
    return session


def arrival(day: date, *ids: int, word: str | None = "w") -> Arrival:
    rows = pl.DataFrame({"id": list(ids), "dollars": [1.15] * len(ids), "instant": [EVENING] * len(ids)})
    return Arrival(rows.with_columns(word=pl.lit(word, pl.String)), {"landed_on": day})


def load(session: Session, *arrivals: Arrival) -> None:
    with session.staged("shop.t", arrivals, COLUMNS) as staged, session.transaction():
        replace_rows(session, staged, "shop.t", "landed_on", [each.constants["landed_on"] for each in arrivals])


def ids_by_day(session: Session) -> dict[date, list[int]]:
    found = session.read("select landed_on, id from shop.t order by landed_on, id")
    return {day: found.filter(landed_on=day)["id"].to_list() for day in found["landed_on"].unique(maintain_order=True)}


def test_a_session_executes_binds_and_reads(session: Session) -> None:
    session.execute("create table shop.t (a bigint, day date, seen_at timestamp, b boolean)")
    last = datetime(2200, 12, 31, 23, 59, 59, 999999)
    session.execute("insert into shop.t values ($a, $day, $last, $b)", {"a": 7, "day": DAY, "last": last, "b": True})
    chosen = "select * from shop.t where day in (select unnest($days))"
    answer = session.read(f"{chosen} and a = $a", {"days": [DAY, NEXT_DAY], "a": 7})
    assert answer.equals(pl.DataFrame({"a": [7], "day": [DAY], "seen_at": [last], "b": [True]}))
    assert session.read(chosen, {"days": [NEXT_DAY]}).is_empty()


def test_a_bound_value_is_never_sql_alone_or_in_a_list(session: Session) -> None:
    session.execute("create table shop.t (a varchar)")
    session.execute("insert into shop.t values ($a)", {"a": HOSTILE})
    found = session.read(
        "select a from shop.t where a = $a and a in (select unnest($all))", {"a": HOSTILE, "all": [HOSTILE]}
    )
    assert found["a"].to_list() == [HOSTILE]


def test_a_name_in_a_string_or_a_comment_is_no_name(session: Session) -> None:
    answer = session.read("select 'shop.t ?' as a /* shop.t $b */ -- $c")
    assert answer["a"].to_list() == ["shop.t ?"]


def test_engine_errors_are_typed_and_say_which_statement(session: Session) -> None:
    with pytest.raises(WarehouseError, match=r"(?i)nowhere") as caught:
        session.execute("select *\n  from shop.nowhere")
    assert caught.value.where == "select * from shop.nowhere"
    assert caught.value.next_step


@pytest.mark.parametrize("sql", ["select 1 +", "select nothing from shop.t", "select cast(word as int) from shop.t"])
def test_a_wrong_statement_or_another_type_is_a_typed_error_and_the_session_goes_on(landed: Session, sql: str) -> None:
    with pytest.raises(WarehouseError):
        landed.read(sql)
    assert ids_by_day(landed) == {DAY: [1, 2]}


def test_a_transaction_rolls_back_on_an_exception_and_the_session_goes_on(session: Session) -> None:
    session.execute("create table shop.t (a int not null)")
    with pytest.raises(RuntimeError), session.transaction():
        session.execute("insert into shop.t values (1)")
        raise RuntimeError
    with pytest.raises(WarehouseError), session.transaction():
        session.execute("insert into shop.t values (2)")
        session.execute("insert into shop.t values (null)")
    with session.transaction():
        session.execute("insert into shop.t values (3)")
    assert session.read("select a from shop.t")["a"].to_list() == [3]


def test_rows_are_staged_converted_with_their_day_beside_them(landed: Session, tmp_path: Path) -> None:
    row = landed.read("select * from shop.t where id = 1").row(0, named=True)
    instant = EVENING.replace(tzinfo=None)
    assert row == {"id": 1, "cents": 115, "event_ts": instant, "event_date": DAY, "word": "w", "landed_on": DAY}
    path = tmp_path / "it's a file.parquet"
    rows = arrival(NEXT_DAY, 3, word=None).rows
    assert isinstance(rows, pl.DataFrame)
    rows.reverse().write_parquet(path)
    load(landed, Arrival(path, {"landed_on": NEXT_DAY}), arrival(date(2017, 6, 7), 4, word=HOSTILE))
    assert landed.read("select word from shop.t where id > 2 order by id")["word"].to_list() == [None, HOSTILE]


def test_an_empty_arrival_takes_the_rows_of_its_day_away(landed: Session) -> None:
    load(landed, arrival(NEXT_DAY, 5), arrival(DAY))
    assert ids_by_day(landed) == {NEXT_DAY: [5]}


def test_a_replacement_that_fails_half_way_leaves_the_old_rows_and_no_stage(landed: Session) -> None:
    before = set(landed.relations())
    with pytest.raises(RuntimeError):
        with landed.staged("shop.t", [arrival(DAY, 8)], COLUMNS) as staged, landed.transaction():
            replace_rows(landed, staged, "shop.t", "landed_on", [DAY])
            raise RuntimeError
    assert ids_by_day(landed) == {DAY: [1, 2]}
    assert set(landed.relations()) == before
    load(landed, arrival(DAY, 9))
    assert ids_by_day(landed) == {DAY: [9]}


def test_a_file_without_a_column_is_refused_and_the_old_rows_stay(landed: Session) -> None:
    rows = arrival(DAY, 8).rows
    assert isinstance(rows, pl.DataFrame)
    with pytest.raises(WarehouseError, match=r"(?i)dollars"):
        load(landed, Arrival(rows.drop("dollars"), {"landed_on": DAY}))
    assert ids_by_day(landed) == {DAY: [1, 2]}


def test_relations_and_columns_have_our_names(landed: Session) -> None:
    columns = landed.relations()["shop", "t"]
    assert list(columns) == ["id", "cents", "event_ts", "event_date", "word", "landed_on"]


def test_nulls_come_last_in_either_order(session: Session) -> None:
    for order in ("asc", "desc"):
        answer = session.read(
            f"select a from (select unnest($a) as a union all select null) as x order by a {order}", {"a": [2, 1]}
        )
        assert answer["a"].to_list() == [*([1, 2] if order == "asc" else [2, 1]), None]


def test_numbers_come_back_exact_at_their_limits(session: Session) -> None:
    session.execute("create table shop.t (a bigint, b decimal(38, 2), c double)")
    session.execute(
        "insert into shop.t values (9223372036854775807, 999999999999999999999999999999999999.99, 0.1), "
        "(-9223372036854775808, -0.01, null)"
    )
    answer = session.read("select * from shop.t order by a")
    assert answer["a"].to_list() == [-(2**63), 2**63 - 1]
    assert answer["b"].to_list() == [Decimal("-0.01"), Decimal("999999999999999999999999999999999999.99")]
    assert answer["c"].to_list() == [None, 0.1]


def test_an_answer_has_the_declared_types_or_is_refused(landed: Session) -> None:
    schema = {"id": pl.Int16(), "cents": pl.Decimal(10, 1)}
    assert landed.read("select id, cents, landed_on from shop.t", schema=schema).schema == {
        **schema,
        "landed_on": pl.Date(),
    }
    with pytest.raises(WarehouseError, match="declared types"):
        landed.read("select 300 as id", schema={"id": pl.Int8()})


def test_lists_come_back_as_lists(session: Session) -> None:
    answer = session.read(
        "select array_agg(a order by a desc) as a from (select unnest($a) as a) as x", {"a": [1, 3, 2]}
    )
    assert answer["a"].to_list() == [[3, 2, 1]]


def test_an_export_streams_every_row_in_order(landed: Session, tmp_path: Path) -> None:
    target, rows = tmp_path / "out" / "rows.parquet", 300_000
    ids = pl.DataFrame({"id": range(rows)})
    with landed.staged("shop.t", [Arrival(ids, {})], [Column("id", "bigint", "id")]) as staged:
        assert landed.export(f"select id from {staged} where id >= $least order by id", target, {"least": 0}) == rows
    assert pl.read_parquet(target).equals(ids)
    assert pq.ParquetFile(target).num_row_groups > 1


def test_an_empty_export_keeps_its_columns(session: Session, tmp_path: Path) -> None:
    assert session.export("select cast(1 as bigint) as a where false", tmp_path / "empty.parquet") == 0
    assert pl.read_parquet(tmp_path / "empty.parquet").schema == {"a": pl.Int64}


def test_an_export_that_fails_leaves_the_old_file(landed: Session, tmp_path: Path) -> None:
    target = tmp_path / "out" / "rows.parquet"
    landed.export("select 1 as a", target)
    with pytest.raises(WarehouseError):
        landed.export("select cast(word as int) as a from shop.t", target)
    assert pl.read_parquet(target)["a"].to_list() == [1]
    assert list(target.parent.iterdir()) == [target]


def test_identifiers_are_quoted_in_parts() -> None:
    assert quote("raw.transactions") == '"raw"."transactions"'


@pytest.mark.parametrize("name", ["", "a b", 'a"b', "a;drop table t", "raw..t", "Raw.t", "1a", "a.", "naïve", "a\n"])
def test_a_hostile_identifier_is_refused(name: str) -> None:
    with pytest.raises(WarehouseError, match="not an identifier"):
        quote(name)
