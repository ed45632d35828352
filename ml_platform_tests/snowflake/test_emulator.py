"""What the launcher cures in the emulator stays cured; each of these failed or hung before."""

import time
from collections.abc import Iterator

import pytest
import snowflake.connector
from snowflake.connector.cursor import SnowflakeCursor

from ml_platform.snowflake_account import SnowflakeAccount

SOON_SECONDS = 10


@pytest.fixture(scope="module")
def cursor(emulator: dict[str, str]) -> Iterator[SnowflakeCursor]:
    with snowflake.connector.connect(**SnowflakeAccount.from_env(emulator).connection()) as connection:
        connection.cursor().execute("create schema if not exists cured")
        yield connection.cursor()


def rows(cursor: SnowflakeCursor, sql: str) -> list:
    cursor.execute(sql)
    return cursor.fetchall()


def test_a_temporary_table_with_a_qualified_name_is_made_and_replaced(cursor: SnowflakeCursor) -> None:
    for number in (1, 2):
        cursor.execute(f"create or replace temporary table ml_platform.cured.passing as select {number} as n")
    assert rows(cursor, "select n from ml_platform.cured.passing") == [(2,)]


def test_a_merge_as_dbt_writes_it_changes_and_counts(cursor: SnowflakeCursor) -> None:
    cursor.execute("create or replace table cured.merged as select 1 as id, 'old' as word")
    cursor.execute(
        """
        merge into cured.merged as dbt_internal_dest
        using (select 1 as id, 'new' as word union all select 2, 'two') as dbt_internal_source
        on dbt_internal_source.id = dbt_internal_dest.id
        when matched then update set word = dbt_internal_source.word
        when not matched then insert (id, word) values (dbt_internal_source.id, dbt_internal_source.word)
        """
    )
    assert cursor.rowcount == 2
    assert rows(cursor, "select * from cured.merged order by id") == [(1, "new"), (2, "two")]


@pytest.mark.parametrize(
    "sql", ["select no_such_function(1)", "create table nowhere.at_all.x (n int)", "select 1 where 'a'"]
)
def test_what_the_emulator_refuses_comes_at_once_as_an_error_of_sql(cursor: SnowflakeCursor, sql: str) -> None:
    since = time.monotonic()
    with pytest.raises(snowflake.connector.errors.ProgrammingError):
        cursor.execute(sql)
    assert time.monotonic() - since < SOON_SECONDS


@pytest.mark.parametrize(
    "sql",
    [
        "create warehouse if not exists big warehouse_size = 'xlarge'",
        "use role somebody",
        "grant usage on warehouse big to role somebody",
        "alter session set query_tag = 'a' statement_timeout_in_seconds = 60",
    ],
)
def test_what_has_no_meaning_here_is_accepted(cursor: SnowflakeCursor, sql: str) -> None:
    cursor.execute(sql)


def test_lists_are_chained_and_their_items_told_apart(cursor: SnowflakeCursor) -> None:
    lists = "(select array_construct(array_construct(3, 1), array_construct(3)) as items)"
    flat = "array_flatten(items)"
    assert rows(
        cursor, f"select {flat}[0]::int, array_size({flat}), array_size(array_distinct({flat})) from {lists}"
    ) == [(3, 3, 2)]
