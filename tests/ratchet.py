"""Judges violations against a list of allowed ones that may only shrink.

Never looks at a source itself; what it is given is all it knows.
"""

from collections.abc import Mapping, Sequence

from tests.tidy import Violation

Allowed = dict[tuple[str, str, str], int]


def judge(
    found: Sequence[Violation], allowed: Mapping[tuple[str, str, str], int]
) -> list[str]:
    """What to complain about: new violations, grown ones, and exceptions too wide."""
    seen = {(item.rule, item.path, item.subject): item for item in found}
    complaints = [
        str(item)
        for item in found
        if item.size > allowed.get((item.rule, item.path, item.subject), -1)
    ]
    for key, size in allowed.items():
        item = seen.get(key)
        if item is None:
            complaints.append(f"{key}: the exception is no longer needed: remove it")
        elif item.size < size:
            complaints.append(f"{key}: shrink the exception from {size} to {item.size}")
    return complaints
