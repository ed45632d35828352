"""Keeps secrets out of what is shown: values under secret-looking names, secrets of the environment, URL passwords.

A name looks secret when one of its words is (`db_password`, `apiKey`, but not `max_tokens`). The value of every
secret-looking environment variable is hidden wherever it turns up, whole or inside a longer text; so is what a text
gives as the value of a secret-looking name (`password=…`, `Bearer …`), a webhook's address and an access key's shape.
"""

import os
import re
from collections.abc import Mapping
from functools import cache
from itertools import pairwise

REDACTED = "[redacted]"
SHORTEST_SECRET = 6  # characters: hiding every "1" because some FLAG_TOKEN is 1 would hide everything

_SECRET_WORDS = {"password", "passwd", "pwd", "passphrase", "secret", "secrets", "token", "credential", "credentials"}
_SECRET_WORDS |= {"apikey", "auth", "authorization", "bearer"}
_SECRET_PAIRS = {("api", "key"), ("access", "key"), ("private", "key"), ("account", "key"), ("encryption", "key")}
_SECRET_PAIRS |= {("routing", "key"), ("pagerduty", "key"), ("slack", "url"), ("webhook", "url")}
_URL_PASSWORD = re.compile(r"(?<=://)([^/@\s:]*):[^/@\s]+(?=@)")
_NAMED_VALUE = re.compile(
    r"""(?<!\w)(?P<name>[A-Za-z_][\w-]{0,63}+)(?P<sign>["']?\s*[=:]\s*["']?)(?P<value>[^\s"',;&]+)"""
)
_SHAPES = re.compile(
    r"(?<=\bBearer )[\w.~+/=-]{6,}|(?<=\bBasic )[\w+/=]{6,}|(?<=://hooks\.slack\.com/)\S+"
    r"|\bxox[a-z]-[\w-]+|\bgh[pousr]_\w{20,}|\bAKIA[A-Z0-9]{16}\b|\beyJ[\w-]{9,4096}+\.[\w-]++\.[\w-]++"
)


def redact(name: str, value: object, environ: Mapping[str, str] = os.environ) -> str:
    """The text of a value that may be shown under this name."""
    return REDACTED if looks_secret(name) else redact_text(str(value), environ)


def redact_text(text: str, environ: Mapping[str, str] = os.environ) -> str:
    """A text without the environment's secrets, passwords in URLs, and values that it gives under a secret's name."""
    for name, secret in environ.items():
        if len(secret) >= SHORTEST_SECRET and looks_secret(name):
            text = text.replace(secret, REDACTED)
    text = _URL_PASSWORD.sub(rf"\1:{REDACTED}", text)
    return _NAMED_VALUE.sub(_without_value, _SHAPES.sub(REDACTED, text))


@cache
def looks_secret(name: str) -> bool:
    """Whether the name of a parameter or variable says that its value is secret."""
    words = [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+", name)]
    return any(word in _SECRET_WORDS for word in words) or any(pair in _SECRET_PAIRS for pair in pairwise(words))


def _without_value(found: re.Match[str]) -> str:
    """`name=value` is always a value; after `name: ` stands a word as often (`unexpected token: end`)."""
    value = found["value"]
    hidden = looks_secret(found["name"]) and ("=" in found["sign"] or any(sign.isdigit() for sign in value))
    return f"{found['name']}{found['sign']}{REDACTED}" if hidden else found[0]
