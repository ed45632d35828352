"""Text that is safe to keep and to send on: one line, bounded, without control characters or secrets.

What an alert says comes from anywhere: an exception's message, a file's name, another service's answer. It is cleaned
before anything is stored, so that every reader (a terminal, Slack, a log) gets the same harmless words.
"""

import hashlib
import os
import re
import unicodedata
from collections.abc import Mapping

from ml_platform.redaction import redact_text

LONGEST_TEXT = 600  # characters
LONGEST_READ = 100_000  # characters; what stands behind them could not be shown anyway
LONGEST_SOURCE = 50
LONGEST_KEY = 200  # PagerDuty takes 255, and the source stands before the key
_ELLIPSIS = "…"
_TERMINAL_SEQUENCES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\^_])")


def clean(text: str, longest: int = LONGEST_TEXT, environ: Mapping[str, str] = os.environ) -> str:
    """One line of at most `longest` characters, cut after secrets are hidden: a part of a secret is one too."""
    line = _without_secrets(text[:LONGEST_READ], environ)
    return line if len(line) <= longest else line[: longest - 1] + _ELLIPSIS


def clean_key(key: str, longest: int = LONGEST_KEY, environ: Mapping[str, str] = os.environ) -> str:
    """A key as it is kept: a longer one ends in its digest, so that two long keys never become one."""
    line = _without_secrets(key, environ)
    if len(line) <= longest:
        return line
    digest = hashlib.sha256(line.encode()).hexdigest()[:16]
    return f"{line[: longest - len(digest) - 1]}~{digest}"


def _without_secrets(text: str, environ: Mapping[str, str]) -> str:
    """Hides them before the control characters go (a secret of several lines is whole only then) and after (one with
    a control character inside is whole only then)."""
    hidden = redact_text(text, environ)
    line = _one_line(hidden)
    return line if line == hidden else redact_text(line, environ)


def _one_line(text: str) -> str:
    if not text.isprintable():
        text = "".join(map(_visible, _TERMINAL_SEQUENCES.sub("", text)))
    return " ".join(text.split())


def _visible(character: str) -> str:
    """Nothing for control characters, direction marks, zero-width ones, surrogates and unassigned ones."""
    if character.isspace() or character.isprintable():
        return character
    return " " if unicodedata.category(character).startswith("Z") else ""
