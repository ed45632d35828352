"""Snowflake's protocol on 127.0.0.1 for the tests: `python -m ml_platform_tests.snowflake.emulator`.

fakesnow's server speaks to the real connector and the real dbt-snowflake over HTTP and executes on DuckDB. It takes a
free port, says which on the first line of its output, and ends with whoever holds the other end of its standard input.
Each function below cures one fault of exactly the pinned version, by private names; the reason stands beside it.
"""

import logging
import os
import socket
import sys
import threading
import warnings
from collections.abc import Callable
from typing import Any

import snowflake.connector.errors as errors
import uvicorn
from fakesnow import transforms
from fakesnow.cursor import FakeSnowflakeCursor
from fakesnow.server import app, shared_fs
from sqlglot import Expr, exp

from ml_platform_tests.snowflake.answers import cure_answers

HOST = "127.0.0.1"
UNEMULATED = 9999
"""The error number, which Snowflake does not use, of what the emulator itself cannot do."""

IGNORED = [
    r"\s*(create|alter|drop|use)\s+warehouse\b",  # there is nothing to size or suspend
    r"\s*use\s+(role|secondary)\b",  # nor are there roles
    r"\s*(grant|revoke)\b",
    r"\s*alter\s+session\s+(?!set\s+autocommit)",  # a query tag, a timeout: what fakesnow does not know, it refuses
]


def qualified_temporary_tables_are_tables(
    transform: Callable[..., Expr],
) -> Callable[..., Expr]:
    """DuckDB keeps temporary tables in a database of their own, and refuses `create temporary table db.schema.name`,
    which dbt sends from the second incremental run on. Here it is a table like others, and not gone with its session.
    """

    def transformed(cursor: FakeSnowflakeCursor, expression: Expr, params: Any) -> Expr:
        done = transform(cursor, expression, params)
        if isinstance(done, exp.Create) and (table := done.find(exp.Table)) and table.db:
            properties = done.args.get("properties")
            for each in properties.expressions if properties else ():
                if isinstance(each, exp.TemporaryProperty):
                    each.pop()
        return done

    return transformed


def array_functions_take_arrays(
    transform: Callable[..., Expr],
) -> Callable[..., Expr]:
    """fakesnow keeps arrays as JSON, and leaves ARRAY_FLATTEN and ARRAY_DISTINCT to DuckDB's functions of lists."""

    def transformed(cursor: FakeSnowflakeCursor, expression: Expr, params: Any) -> Expr:
        done = transform(cursor, expression, params)
        for function, sql_type in ((exp.Flatten, "JSON[][]"), (exp.ArrayDistinct, "JSON[]")):
            for call in list(done.find_all(function)):
                call.set("this", exp.cast(call.this, exp.DataType.build(sql_type, dialect="duckdb")))
                call.replace(exp.func("TO_JSON", call.copy()))
        return done

    return transformed


def merge_is_one_statement(execute: Callable[..., None]) -> Callable[..., None]:
    """fakesnow makes several statements of a MERGE, by names that it loses where, as in dbt's, the target is aliased.
    DuckDB has MERGE INTO, and says how many rows it changed; told to the client as if all had been inserted."""

    def executed(cursor: FakeSnowflakeCursor, expression: Expr, params: Any = None) -> None:
        execute(cursor, expression, params)
        if isinstance(expression, exp.Merge):
            assert cursor._arrow_table is not None
            changed = cursor._arrow_table.column(0)[0].as_py()
            execute(cursor, exp.select(exp.alias_(exp.Literal.number(changed), "number of rows inserted", quoted=True)))
            cursor._rowcount = changed

    return executed


def every_error_is_an_sql_error(method: Callable[..., Any]) -> Callable[..., Any]:
    """An error that fakesnow does not foresee, or of a kind it does not pass on, becomes HTTP 500; the connector tries
    that again for minutes, so a typing error looks like a hang."""

    def answered(*args: Any, **kwargs: Any) -> Any:
        try:
            return method(*args, **kwargs)
        except (errors.ProgrammingError, errors.OperationalError):
            raise
        except errors.DatabaseError as error:
            raise errors.ProgrammingError(msg=error.msg, errno=error.errno, sqlstate=error.sqlstate) from error
        except Exception as error:
            message = f"{type(error).__name__}: {error}"
            raise errors.ProgrammingError(msg=message, errno=UNEMULATED, sqlstate="0A000") from error

    return answered


def cure() -> None:
    cursor = FakeSnowflakeCursor
    cursor._transform = array_functions_take_arrays(cursor._transform)
    cursor._transform = qualified_temporary_tables_are_tables(cursor._transform)
    transforms.merge = lambda expression: [expression]
    cursor._execute = merge_is_one_statement(cursor._execute)
    cursor.execute = every_error_is_an_sql_error(cursor.execute)
    cursor._describe_last_sql = every_error_is_an_sql_error(cursor._describe_last_sql)
    shared_fs.nop_regexes = IGNORED


def end_with_the_parent() -> None:
    sys.stdin.read()
    os._exit(0)


def main() -> None:
    warnings.simplefilter("ignore")
    logging.disable()  # the client gets every error, and raises it
    cure()
    listening = socket.create_server((HOST, 0))
    port = listening.getsockname()[1]
    cure_answers(f"http://{HOST}:{port}")
    print(port, flush=True)
    threading.Thread(target=end_with_the_parent, daemon=True).start()
    uvicorn.Server(uvicorn.Config(app)).run(sockets=[listening])


if __name__ == "__main__":
    main()
