"""Keeps secrets out of what is shown: values under secret-looking names, secrets of the environment, URL passwords.

A name looks secret when one of its words is (`db_password`, `apiKey`, but not `max_tokens`). The value of every
secret-looking environment variable is hidden wherever it turns up, whole or inside a longer text.
"""

import os
import re
from collections.abc import Mapping
from itertools import pairwise

REDACTED = "[redacted]"
SHORTEST_SECRET = 6  # characters: hiding every "1" because some FLAG_TOKEN is 1 would hide everything

_SECRET_WORDS = {"password", "passwd", "pwd", "passphrase", "secret", "secrets", "token", "credential", "credentials"}
_SECRET_WORDS |= {"apikey", "auth", "authorization", "bearer"}
_SECRET_PAIRS = {("api", "key"), ("access", "key"), ("private", "key"), ("account", "key"), ("encryption", "key")}
_URL_PASSWORD = re.compile(r"(?<=://)([^/@\s:]*):[^/@\s]+(?=@)")


def redact(name: str, value: object, environ: Mapping[str, str] = os.environ) -> str:
    """The text of a value that may be shown under this name."""
    return REDACTED if looks_secret(name) else redact_text(str(value), environ)


def redact_text(text: str, environ: Mapping[str, str] = os.environ) -> str:
    """A text without the environment's secrets and without passwords in URLs."""
    for name, secret in environ.items():
        if len(secret) >= SHORTEST_SECRET and looks_secret(name):
            text = text.replace(secret, REDACTED)
    return _URL_PASSWORD.sub(rf"\1:{REDACTED}", text)


def looks_secret(name: str) -> bool:
    """Whether the name of a parameter or variable says that its value is secret."""
    words = [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+", name)]
    return any(word in _SECRET_WORDS for word in words) or any(pair in _SECRET_PAIRS for pair in pairwise(words))
