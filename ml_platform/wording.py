"""How lists and names are put into sentences for people: the first of many, the nearest of many, what can be shown."""

import difflib
from collections.abc import Mapping, Sequence

NEAREST = 3
CUTOFF = 0.4


def listed(names: Sequence[str], most: int) -> str:
    """`a, b and 3 more`: at most so many of the names."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def nearest(said: str, known: Mapping[str, str]) -> list[str]:
    """What somebody may have meant, the nearest first: names by how they are spelt when compared with what was said."""
    return [known[each] for each in difflib.get_close_matches(said, known, n=NEAREST, cutoff=CUTOFF)]


def printable(text: str) -> str:
    """The text without characters that steer a terminal or break a document."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
