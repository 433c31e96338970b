"""The rule of rights written a second time, as sets: what a caller may do at all.

Enumerates every object of a small world and every verb, and collects what each role
adds; never asks the rule that it is compared with.
"""

from collections.abc import Iterator
from dataclasses import dataclass

ZONES = ("z1", "z2")
USERS = ("ana", "bob", "eva")
WORKSPACES = ("ana", "ana.paper", "bob", "datasets")
MEMBERS = {"lab1": {"ana", "bob"}, "lab2": {"eva"}}
IN_WORKSPACES = {"Container", "Volume", "Workload", "Workspace"}
SOMEBODYS = {"Report", "User", "Usercredit"}
RUNS = {"Container", "Workload"}


@dataclass(frozen=True)
class Thing:
    """One object of the world."""

    kind: str
    zone: str
    workspace: str | None
    owner: str | None


@dataclass(frozen=True)
class Entry:
    """One role somewhere: permission maps kinds (or All) to verbs (or All)."""

    permission: tuple[tuple[str, tuple[str, ...]], ...]
    kind: str = "All"
    zone: str = "All"
    workspace: str | None = None
    account: str | None = None


def things(kinds: tuple[str, ...]) -> Iterator[Thing]:
    """Every object of the world."""
    for kind in kinds:
        for zone in ZONES:
            if kind in IN_WORKSPACES:
                for workspace in WORKSPACES:
                    for owner in USERS:
                        yield Thing(kind, zone, workspace, owner)
            elif kind in SOMEBODYS:
                for owner in (*USERS, *MEMBERS):
                    yield Thing(kind, zone, None, owner)
            else:
                yield Thing(kind, zone, None, None)


def allowed(
    user: str,
    entries: tuple[Entry, ...],
    verbs: dict[str, tuple[str, ...]],
    made: frozenset[str],
) -> set[tuple[str, Thing]]:
    """Every (verb, object) that a user with these roles may do.

    `made` are the workspaces that the user made.
    """
    found: set[tuple[str, Thing]] = set()
    for entry in entries:
        for thing in things(tuple(verbs)):
            for verb in verbs_of(entry, thing.kind, verbs[thing.kind]):
                if reaches(user, entry, thing, verbs, made):
                    found.add((verb, thing))
    return found


def verbs_of(entry: Entry, kind: str, every: tuple[str, ...]) -> set[str]:
    """The verbs that an entry writes down for a kind."""
    written: set[str] = set()
    for name, verbs in entry.permission:
        if name in (kind, "All"):
            written |= set(every) if "All" in verbs else set(verbs) & set(every)
    if "Get" in written and "GetOne" in every:
        written.add("GetOne")
    return written


def reaches(
    user: str,
    entry: Entry,
    thing: Thing,
    verbs: dict[str, tuple[str, ...]],
    made: frozenset[str],
) -> bool:
    """Whether an entry is about an object at all."""
    if entry.kind != "All" and entry.kind != thing.kind:
        return False
    if entry.zone != "All" and entry.zone != thing.zone:
        return False
    if entry.account is not None:
        circle = MEMBERS.get(entry.account, set()) | {entry.account}
        return thing.owner in circle
    if thing.kind in RUNS and thing.owner == user:
        return True
    if thing.kind in SOMEBODYS:
        if "Get" in verbs_of(entry, thing.kind, verbs[thing.kind]):
            return True
        above = {account for account, people in MEMBERS.items() if user in people}
        mine = {user} | (above if thing.kind == "Usercredit" else set())
        return thing.owner in mine
    if thing.workspace is None or entry.workspace == "All":
        return True
    below = {name for name in made if name.startswith(f"{entry.workspace}.")}
    return thing.workspace in {entry.workspace} | below
