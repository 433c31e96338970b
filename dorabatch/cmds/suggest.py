"""Find what a mistyped word was probably meant to be.

Loaded only when something is wrong. Never corrects anything by itself.
"""

import difflib
from collections.abc import Iterable

from dorabatch.cmds.options import Command


def near(word: str, known: Iterable[str]) -> str:
    """A hint at the known word nearest to one, or an empty text."""
    found = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" (did you mean {found[0]}?)" if found else ""


def near_flag(command: Command, problem: str) -> str:
    """A hint for a problem that ends in the name of an unknown option."""
    if not problem.startswith("no option "):
        return ""
    hint = near(problem.removeprefix("no option "), command.by_flag)
    return hint or f"; see {command.name} --help"
