"""Which Snowflake account this deployment uses, and how it signs in: read from the environment, checked at once.

Invariants: whatever is missing or contradicts itself is named before anything connects; a secret is never part of a
repr, an error or the arguments of a process. `connection` and `secrets` are the only ways to the secrets.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ml_platform.errors import ConfigurationError

DEMANDED = ("ACCOUNT", "USER", "ROLE", "WAREHOUSE", "DATABASE")
CREDENTIALS = ("PRIVATE_KEY_PATH", "TOKEN", "PASSWORD")
TOKEN_AUTHENTICATORS = ("programmatic_access_token", "oauth")
PREFIX = re.compile(r"([a-z][a-z0-9_]{0,62})?")


@dataclass(frozen=True)
class SnowflakeAccount:
    """Where to connect, as whom, and with which of the three credentials, exactly one of which is there.

    `authenticator` follows from the credential: `snowflake_jwt` for a key pair, `programmatic_access_token` or `oauth`
    for a token, `snowflake` for a password. `schema_prefix` stands before the name of every schema that is written or
    read, so that developers, tests and deployments share a database and never meet. `host`, `port` and `protocol` are
    None unless the account is reached by another address than its own.
    """

    account: str
    user: str
    role: str
    warehouse: str
    database: str
    schema_prefix: str
    authenticator: str
    private_key_path: Path | None = None
    private_key_passphrase: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    host: str | None = None
    port: int | None = None
    protocol: str | None = None

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> "SnowflakeAccount":
        """Raises ConfigurationError with every variable that is missing, or the one that cannot hold."""
        given = {name: environ.get(f"SNOWFLAKE_{name}") or None for name in (*DEMANDED, *CREDENTIALS)}
        missing = [f"SNOWFLAKE_{name}" for name in DEMANDED if given[name] is None]
        credentials = [f"SNOWFLAKE_{name}" for name in CREDENTIALS if given[name] is not None]
        if not credentials:
            missing.append("one of " + ", ".join(f"SNOWFLAKE_{name}" for name in CREDENTIALS))
        if missing:
            raise _wrong(f"the warehouse in Snowflake needs {', '.join(missing)}", "environment", "set them")
        if len(credentials) > 1:
            raise _wrong(f"{' and '.join(credentials)} are both set", "environment", "keep one of them")
        key = Path(given["PRIVATE_KEY_PATH"]).expanduser() if given["PRIVATE_KEY_PATH"] else None
        if key and not key.is_file():
            raise _wrong(f"there is no file {key}", "SNOWFLAKE_PRIVATE_KEY_PATH", "point it at the private key")
        demanded = {name.lower(): str(given[name]) for name in DEMANDED}
        return cls(
            **demanded,
            schema_prefix=_prefix(environ),
            authenticator=_authenticator(environ, credentials[0]),
            private_key_path=key,
            private_key_passphrase=(environ.get("SNOWFLAKE_PRIVATE_KEY_PASSPHRASE") or None) if key else None,
            token=given["TOKEN"],
            password=given["PASSWORD"],
            host=environ.get("SNOWFLAKE_HOST") or None,
            port=_port(environ),
            protocol=environ.get("SNOWFLAKE_PROTOCOL") or None,
        )

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must appear nowhere."""
        return tuple(each for each in (self.private_key_passphrase, self.token, self.password) if each)

    def connection(self) -> dict[str, Any]:
        """The connector's arguments, secrets among them."""
        arguments = {
            "account": self.account,
            "user": self.user,
            "role": self.role,
            "warehouse": self.warehouse,
            "database": self.database,
            "authenticator": self.authenticator,
            "private_key_file": str(self.private_key_path) if self.private_key_path else None,
            "private_key_file_pwd": self.private_key_passphrase,
            "token": self.token,
            "password": self.password,
            "host": self.host,
            "port": self.port,
            "protocol": self.protocol,
        }
        return {name: value for name, value in arguments.items() if value is not None}


def _authenticator(environ: Mapping[str, str], credential: str) -> str:
    if credential != "SNOWFLAKE_TOKEN":
        return "snowflake_jwt" if credential == "SNOWFLAKE_PRIVATE_KEY_PATH" else "snowflake"
    chosen = (environ.get("SNOWFLAKE_AUTHENTICATOR") or TOKEN_AUTHENTICATORS[0]).lower()
    if chosen not in TOKEN_AUTHENTICATORS:
        allowed = " or ".join(TOKEN_AUTHENTICATORS)
        raise _wrong(f"{chosen!r} does not sign in with a token", "SNOWFLAKE_AUTHENTICATOR", f"set it to {allowed}")
    return chosen


def _prefix(environ: Mapping[str, str]) -> str:
    prefix = environ.get("ML_PLATFORM_SCHEMA_PREFIX", "")
    if not PREFIX.fullmatch(prefix):
        wanted = "use lower-case letters, digits and underscores, a letter first, e.g. dev_ana_"
        raise _wrong(f"{prefix!r} cannot begin the name of a schema", "ML_PLATFORM_SCHEMA_PREFIX", wanted)
    return prefix


def _port(environ: Mapping[str, str]) -> int | None:
    text = environ.get("SNOWFLAKE_PORT")
    if text and not (text.isdecimal() and 0 < int(text) < 65536):
        raise _wrong(f"{text!r} is not a port", "SNOWFLAKE_PORT", "unset it, or set e.g. 443")
    return int(text) if text else None


def _wrong(what: str, where: str, mend: str) -> ConfigurationError:
    next_step = f"{mend}; docs/snowflake.md says how. ML_PLATFORM_WAREHOUSE=duckdb works without an account"
    return ConfigurationError(what, where=where, next_step=next_step)
