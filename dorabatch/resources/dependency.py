"""What a workload waits for, as text: `afterok:12:13,afterany:train`.

Decides which types there are, how they are written and what can be named: all must hold
with ',' between them, any one is enough with '?'. Never looks whether it exists.
"""

import re
from dataclasses import dataclass
from itertools import groupby

from dorabatch.resources.names import (
    check_name,
    check_text,
    check_workload_name,
    quoted,
)
from dorabatch.resources.nearest import did_you_mean

AFTER, AFTEROK, AFTERNOTOK, AFTERANY = "after", "afterok", "afternotok", "afterany"
TYPES = (AFTER, AFTEROK, AFTERNOTOK, AFTERANY)
CONDITIONS_MAX = 1000
_ID = re.compile(r"[0-9]{1,18}")
_EXAMPLE = "such as afterok:12:13,afterany:train"


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One thing to wait for: an id, a name or WORKSPACE/NAME, and what of it."""

    type: str
    ref: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependency:
    """What must hold before a workload may start: all of it, or any one."""

    conditions: tuple[Condition, ...]
    is_any: bool = False

    def __str__(self) -> str:
        """The text that `parse_dependency` reads."""
        if self.is_any:
            return "?".join(f"{one.type}:{one.ref}" for one in self.conditions)
        runs = groupby(self.conditions, key=lambda one: one.type)
        return ",".join(":".join([t, *(one.ref for one in run)]) for t, run in runs)


def parse_dependency(value: object) -> Dependency:
    """The dependency that a text describes."""
    text = check_text(value)
    is_any = "?" in text
    if is_any and "," in text:
        raise ValueError(
            f"{quoted(text)} has both ',' and '?'; write ',' where all must hold, or "
            "'?' where any one is enough"
        )
    found: dict[Condition, None] = {}
    for part in text.split("?" if is_any else ","):
        found |= dict.fromkeys(_conditions(part.strip(), text))
    if len(found) > CONDITIONS_MAX:
        raise ValueError(f"names {len(found)} workloads; allowed are {CONDITIONS_MAX}")
    return Dependency(conditions=tuple(found), is_any=is_any and len(found) > 1)


def read_dependency(value: object) -> str | None:
    """The same text in its one form; None stays."""
    return None if value is None else str(parse_dependency(value))


def _conditions(part: str, text: str) -> list[Condition]:
    if not part:
        raise ValueError(f"{quoted(text)} has an empty part; write it {_EXAMPLE}")
    kind, divider, refs = part.partition(":")
    if kind not in TYPES:
        hint = did_you_mean(kind, TYPES)
        allowed = ", ".join(TYPES)
        raise ValueError(
            f"{quoted(kind)} is no type of dependency{hint}; allowed are {allowed}, "
            f"{_EXAMPLE}"
        )
    if not divider:
        raise ValueError(f"{kind} names no workload; write it {_EXAMPLE}")
    return [Condition(type=kind, ref=_ref(ref, kind)) for ref in refs.split(":")]


def _ref(ref: str, kind: str) -> str:
    if not ref:
        raise ValueError(f"{kind} has an empty name; write it {_EXAMPLE}")
    if _ID.fullmatch(ref):
        return str(int(ref))
    workspace, divider, name = ref.rpartition("/")
    check_workload_name(name)
    return f"{check_name(workspace)}/{name}" if divider else name
