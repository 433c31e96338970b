"""Which known word a mistyped one was probably meant to be.

Decides by letters only; it never replaces the word.
"""

from collections.abc import Iterable
from difflib import get_close_matches

WORD_LENGTH_MAX = 64


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The closest known word, other capitals counting as closest of all."""
    words = list(known)
    folded = {entry.lower(): entry for entry in words}
    short = word[:WORD_LENGTH_MAX].lower()
    found = get_close_matches(short, folded, n=1, cutoff=0.6)
    return folded[found[0]] if found else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """` (did you mean 'cmd'?)`, or nothing."""
    close = nearest(word, known)
    return "" if close is None else f" (did you mean {close!r}?)"
