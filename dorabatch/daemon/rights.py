"""Who may do what: the one gate every request passes.

Pure: takes the caller as the kernel named them and the object's workspace; anything
not granted here is refused.
"""

from dataclasses import dataclass
from enum import StrEnum

from dorabatch.errors import NotAllowed
from dorabatch.queue.records import Submitter


class Verb(StrEnum):
    """What a request wants to do."""

    APPLY = "apply"
    GET = "get"
    DELETE = "delete"


ADMIN_KINDS = frozenset({"Node", "Zone", "Storage", "Role", "User", "Resourcecredit"})
READABLE_BY_ALL = frozenset(
    {"Node", "Zone", "Workspace", "Workload", "Container", "Resourcecredit", "User"}
)
"""Of users and accounts, everybody sees their own only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who asks, from the socket's peer credentials."""

    submitter: Submitter
    is_admin: bool

    @property
    def user(self) -> str:
        """The caller's user name."""
        return self.submitter.user


def check_workspace(caller: Caller, workspace: str, owner: str | None) -> None:
    """Raise NotAllowed unless the caller may act in this workspace.

    `owner` is the workspace's owner, None when there is no such workspace.
    """
    if caller.is_admin or workspace == caller.user or owner == caller.user:
        return
    known = "it belongs to another user" if owner else "it does not exist"
    raise NotAllowed(
        f"workspace {workspace!r}: {known}; {caller.user} may use {caller.user!r} and "
        "workspaces of their own (an admin makes one with dora apply)"
    )


def check_new_workspace(caller: Caller, workspace: str) -> None:
    """Raise NotAllowed unless the caller may make a workspace of this name.

    Everybody may make their own and those below it; `ana` may make `ana.paper`.
    """
    is_own = workspace == caller.user or workspace.startswith(f"{caller.user}.")
    if caller.is_admin or is_own:
        return
    raise NotAllowed(
        f"workspace {workspace!r}: {caller.user} may make {caller.user!r} and "
        f"'{caller.user}.NAME'; another name needs an admin"
    )


def check_kind(caller: Caller, verb: Verb, kind: str) -> None:
    """Raise NotAllowed unless the caller may do this to objects of a kind."""
    if caller.is_admin or kind not in ADMIN_KINDS:
        return
    if verb is Verb.GET and kind in READABLE_BY_ALL:
        return
    raise NotAllowed(f"{verb} {kind}: only an admin may ({caller.user} is none)")


def check_owner(caller: Caller, workload_user: str, what: str) -> None:
    """Raise NotAllowed unless the workload is the caller's."""
    if caller.is_admin or workload_user == caller.user:
        return
    raise NotAllowed(f"{what} belongs to {workload_user}; {caller.user} may not")


def check_admin(caller: Caller, what: str) -> None:
    """Raise NotAllowed unless the caller is an admin."""
    if not caller.is_admin:
        raise NotAllowed(f"{what}: only an admin may ({caller.user} is none)")
