"""What Snowflake says when something is wrong, as the platform's typed errors with a next step.

Invariants: no error carries a secret, neither in its words nor as the cause behind it; whether trying again may help is
said by the type alone (`WarehouseUnavailable`), never guessed from a text later.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import snowflake.connector.errors as engine

from ml_platform.redaction import redact_text
from ml_platform.snowflake_account import SnowflakeAccount
from ml_platform.warehouse.base import WarehouseBusy, WarehouseDenied, WarehouseError, WarehouseUnavailable


@dataclass(frozen=True)
class Rule:
    """What errors of these numbers (Snowflake's, without leading zeros) are, and what mends them."""

    numbers: frozenset[int]
    type: type[WarehouseError]
    next_step: str


LOGIN_FAILED = 250001
RULES = (
    Rule(
        frozenset({390100, 390102, 390144, 390186, 390189, 390303, 390318, 390422, 394300, 394400}),
        WarehouseDenied,
        "check SNOWFLAKE_USER, SNOWFLAKE_ROLE and the key, token or password; docs/snowflake.md says how to make them",
    ),
    Rule(
        frozenset({3001, 3540}),
        WarehouseDenied,
        "grant it to the role of SNOWFLAKE_ROLE; docs/snowflake.md has every grant that is needed",
    ),
    Rule(
        frozenset({606, 90073, 90064}),
        WarehouseError,
        "resume the virtual warehouse of SNOWFLAKE_WAREHOUSE, grant its use to the role, or raise its resource monitor",
    ),
    Rule(
        frozenset({625, 1205}),
        WarehouseBusy,
        "wait for the other run to end, then run again; nothing has to be cleaned up",
    ),
    Rule(
        frozenset({604, 630}),
        WarehouseError,
        "ask for less at once, or take a larger virtual warehouse; nothing of the statement was kept",
    ),
    Rule(
        frozenset({2003, 2043, 3501}),
        WarehouseError,
        "check the name, ML_PLATFORM_SCHEMA_PREFIX and the role's grants: what may not be seen is reported as missing",
    ),
    Rule(
        frozenset({904, 100035, 100038, 100040, 100046, 100071, 100080}),
        WarehouseError,
        "the table has other columns or types than the platform expects: see its declaration, and mend the table",
    ),
    Rule(
        # Expired sessions and tokens, dropped connections, and files or chunks of rows that did not come through.
        frozenset({390108, 390110, 390111, 390112, 390113, 390114, 390115, 390913, 608, 610})
        | {250002, 250003, 250005, 251011, 251012, 252007, 252010, 252013, 253002, 253003},
        WarehouseUnavailable,
        "run again: what was not committed has left nothing behind",
    ),
)
THROTTLED_OR_DROPPED = (
    engine.TooManyRequests,
    engine.ServiceUnavailableError,
    engine.InternalServerError,
    engine.BadGatewayError,
    engine.GatewayTimeoutError,
    engine.RequestTimeoutError,
    engine.OtherHTTPRetryableError,
    engine.RequestExceedMaxRetryError,
    engine.TokenExpiredError,
    engine.RevocationCheckError,
    OSError,
)


@contextmanager
def engine_errors(where: str, secrets: Sequence[str]) -> Iterator[None]:
    """Raises the platform's error for the connector's, and drops that one: a cause is printed with what it caused."""
    try:
        yield
    except (engine.Error, OSError) as error:
        raise typed(error, where, secrets) from None


@contextmanager
def key_errors(account: SnowflakeAccount) -> Iterator[None]:
    """Raises WarehouseDenied for a private key that cannot be read: the connector has no error of its own for it."""
    try:
        yield
    except (ValueError, TypeError) as error:
        if account.private_key_path is None:
            raise
        raise WarehouseDenied(
            f"the private key cannot be read: {_hidden(str(error), account.secrets)}",
            where=account.private_key_path,
            next_step="set SNOWFLAKE_PRIVATE_KEY_PASSPHRASE to the key's own, or make the key anew (docs/snowflake.md)",
        ) from None


def typed(error: Exception, where: str, secrets: Sequence[str]) -> WarehouseError:
    """The platform's error for one of the connector's, at a place that may name what the caller pasted into its SQL."""
    number = getattr(error, "errno", None) or 0
    said = _hidden(_words(error), secrets)
    kind = _kind(error, number, said)
    return kind.type(said, where=_hidden(where, secrets), next_step=kind.next_step)


def _hidden(text: str, secrets: Sequence[str]) -> str:
    """Without the environment's secrets and the account's own, in capitals too: Snowflake turns names into them."""
    own = {f"secret_{place}": each for place, each in enumerate([*secrets, *(each.upper() for each in secrets)])}
    return redact_text(redact_text(text, own))


def _kind(error: Exception, number: int, said: str) -> Rule:
    if (number == LOGIN_FAILED and type(error) is engine.DatabaseError) or isinstance(error, engine.ForbiddenError):
        return RULES[0]
    if "TransactionContext Error: Conflict" in said:
        return next(rule for rule in RULES if rule.type is WarehouseBusy)
    for rule in RULES:
        if number in rule.numbers:
            return rule
    if number == LOGIN_FAILED or isinstance(error, THROTTLED_OR_DROPPED):
        return RULES[-1]
    return Rule(frozenset(), WarehouseError, "correct the statement or the table it reads")


def _words(error: Exception) -> str:
    """Snowflake's message in one line, with its number in front of it when there is one."""
    text = " ".join(str(getattr(error, "msg", None) or error).split())
    return text or type(error).__name__
