import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_platform.alerts.text import clean, clean_key

SECRET = {"DB_PASSWORD": "hunter2-hunter2", "TLS_PRIVATE_KEY": "-----BEGIN\nabc\n-----END"}


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("one\r\ntwo\tthree\u2028four  five", "one two three four five"),
        ("\x1b[31mred\x1b[0m \x1b]0;title\x07bell\x07\x08\x7f\x9b", "red bell"),
        ("left\u202eright\u200b\ufeff", "leftright"),
        ("half \ud800 surrogate", "half surrogate"),
        ("café – 31 h ≥ 26 h ✓", "café – 31 h ≥ 26 h ✓"),
        ("with hunter2-hunter2 and -----BEGIN\nabc\n-----END.", "with [redacted] and [redacted]."),
        ("hunter2\x00-hunter2", "[redacted]"),
    ],
)
def test_what_is_kept_is_one_harmless_line(text: str, kept: str) -> None:
    assert clean(text, environ=SECRET) == kept


@pytest.mark.parametrize("longest", range(8, 40))
def test_a_cut_never_leaves_a_part_of_a_secret(longest: int) -> None:
    cut = clean("the password is hunter2-hunter2, really", longest, SECRET)
    assert len(cut) <= longest and "hunter" not in cut


@settings(max_examples=40, deadline=None)
@given(st.text(max_size=300))
def test_any_text_becomes_printable_and_stays_so(text: str) -> None:
    once = clean(text, 100, {})
    assert once.isprintable() and len(once) <= 100
    once.encode()
    assert len(clean_key(text)) <= 200
