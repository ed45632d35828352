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
LONGEST_KEY = 200  # PagerDuty takes 255 bytes, and the source stands before the key
_ELLIPSIS = "…"
_TERMINAL_SEQUENCES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\^_])")
_LINE_BREAKS = {"Zl", "Zp", "Zs"}
_INVISIBLE = {"Cc", "Cf", "Cs", "Co", "Cn"}  # control, direction marks and zero-width, surrogates, unassigned


def clean(text: str, longest: int = LONGEST_TEXT, environ: Mapping[str, str] = os.environ) -> str:
    """One line of at most `longest` characters.

    Secrets are hidden before the characters go (a key of several lines is whole only then), again after (a secret
    with a control character inside is whole only now), and before the cut (a part of a secret is one too).
    """
    line = redact_text(_one_line(redact_text(text, environ)), environ)
    return line if len(line) <= longest else line[: longest - 1] + _ELLIPSIS


def clean_key(key: str) -> str:
    """A key as it is kept: a longer one ends in its digest, so that two long keys never become one."""
    line = clean(key, longest=max(len(key), 1) + LONGEST_TEXT)
    if len(line) <= LONGEST_KEY:
        return line
    digest = hashlib.sha256(line.encode()).hexdigest()[:16]
    return f"{line[: LONGEST_KEY - len(digest) - 1]}~{digest}"


def _one_line(text: str) -> str:
    visible = (_visible(character) for character in _TERMINAL_SEQUENCES.sub("", text))
    return " ".join("".join(visible).split())


def _visible(character: str) -> str:
    if character.isspace() or unicodedata.category(character) in _LINE_BREAKS:
        return " "
    return "" if unicodedata.category(character) in _INVISIBLE else character
