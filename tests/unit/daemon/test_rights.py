"""Rights: a matrix of callers, kinds and workspaces; everything else is refused."""

import pytest

from dorabatch.daemon.rights import (
    ADMIN_KINDS,
    READABLE_BY_ALL,
    Verb,
    check_admin,
    check_kind,
    check_owner,
    check_workspace,
)
from dorabatch.errors import NotAllowed
from dorabatch.queue.records import Submitter
from tests.makers import ALICE
from tests.unit.daemon.conftest import caller

ADMIN = caller(Submitter(user="root", uid=0, gid=0), is_admin=True)
USER = caller(ALICE)
KINDS = sorted(ADMIN_KINDS | {"Workload", "Container", "Workspace"})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("verb", Verb)
def test_kinds(kind: str, verb: Verb) -> None:
    check_kind(ADMIN, verb, kind)
    is_allowed = kind not in ADMIN_KINDS or (
        verb is Verb.GET and kind in READABLE_BY_ALL
    )
    if is_allowed:
        check_kind(USER, verb, kind)
        return
    with pytest.raises(NotAllowed, match=f"{verb} {kind}: only an admin"):
        check_kind(USER, verb, kind)


@pytest.mark.parametrize(
    ("user", "workspace", "owner", "is_allowed"),
    [
        ("alice", "alice", None, True),
        ("alice", "team", "alice", True),
        ("alice", "team", "bob", False),
        ("alice", "team", None, False),
        ("alice", "bob", None, False),
        ("team", "team-a", None, False),
        ("team", "team-a", "bob", False),
        ("team-a", "team", None, False),
        ("team", "Team", None, False),
        ("team", "team ", None, False),
        ("a", "alice", "alice", False),
        ("alice", "", None, False),
    ],
)
def test_workspaces(
    user: str, workspace: str, owner: str | None, is_allowed: bool
) -> None:
    one = caller(Submitter(user=user, uid=2001, gid=2001))
    check_workspace(ADMIN, workspace, owner)
    if is_allowed:
        check_workspace(one, workspace, owner)
        return
    with pytest.raises(NotAllowed) as caught:
        check_workspace(one, workspace, owner)
    assert repr(workspace) in caught.value.message
    assert user in caught.value.message


@pytest.mark.parametrize("other", ["bob", "alice2", "alic", "ALICE", "", "uid-2001"])
def test_workloads_of_others(other: str) -> None:
    check_owner(USER, "alice", "workload x")
    check_owner(ADMIN, other, "workload x")
    with pytest.raises(NotAllowed, match="workload x belongs to"):
        check_owner(USER, other, "workload x")


def test_admin_duties() -> None:
    check_admin(ADMIN, "adding a node")
    with pytest.raises(NotAllowed, match=r"adding a node: only an admin may \(alice"):
        check_admin(USER, "adding a node")
