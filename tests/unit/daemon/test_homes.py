"""Where documents belong: what is left out is the user's default, when it can be."""

from datetime import datetime

import pytest

from dorabatch.daemon.state.object_store import StoredObject, save_object
from dorabatch.errors import DorabatchError, NotAllowed, Refused, UserError
from dorabatch.resources.manifest import parse_manifest
from tests.makers import ALICE, BOB, START, ZONE, document
from tests.unit.daemon.conftest import Parts, caller

USER = """
apiVersion: v1
kind: User
metadata: {{name: alice}}
spec:
  default: {{{default}}}
"""


def place(parts: Parts, **options: object) -> tuple[str, str]:
    """Where a document of alice's belongs."""
    alice = parts.books.rights.caller(ALICE)
    return parts.intake.homes.place_of(alice, document(**options))


def stored(parts: Parts, kind: str, name: str, spec: str, owner: str = "root") -> None:
    """An object that was stored some time ago."""
    at: datetime = START
    one = StoredObject(
        kind=kind, zone="", workspace="", name=name, spec=spec, owner=owner,
        created_at=at, changed_at=at,
    )  # fmt: skip
    parts.effects.writer.do(lambda tx: save_object(tx, one))


def test_without_a_word_it_is_the_zone_served_and_the_users_own(parts: Parts) -> None:
    assert place(parts) == (ZONE, "alice")


def test_a_default_zone_that_nobody_knows_is_refused_when_declared(
    parts: Parts,
) -> None:
    text = USER.format(default="zone: dc-rov-02")
    (user,) = parse_manifest(text, path="x.yaml").documents
    with pytest.raises(
        UserError,
        match=rf"^spec.default.zone: there is no zone 'dc-rov-02' \(known: {ZONE}\)",
    ):
        parts.apply(caller(is_admin=True), user)
    assert parts.books.users.names() == []


def test_a_stored_default_zone_is_named_as_the_default_that_it_is(parts: Parts) -> None:
    stored(parts, "User", "alice", '{"default": {"zone": "dc-rov-02"}}')
    with pytest.raises(
        Refused,
        match=r"metadata.zone: none is given, and the default of user 'alice', "
        r"'dc-rov-02', is not served .* an admin set spec.default.zone of user 'alice'",
    ):
        place(parts)
    assert place(parts, zone=ZONE) == (ZONE, "alice")


@pytest.mark.parametrize(
    ("owner", "problem", "words"),
    [
        ("", Refused, "'lab', does not exist; name a workspace"),
        ("bob", NotAllowed, "'lab', is not open to their roles; name a workspace"),
    ],
)
def test_a_stored_default_workspace_is_named_as_the_default_that_it_is(
    parts: Parts, owner: str, problem: type[DorabatchError], words: str
) -> None:
    if owner:
        stored(parts, "Workspace", "lab", "{}", owner)
    stored(parts, "User", "alice", '{"default": {"workspace": "lab"}}')
    with pytest.raises(problem, match=f"the default of user 'alice', {words}"):
        place(parts)
    with pytest.raises(problem, match=r"an admin set spec.default.workspace of user"):
        place(parts)
    assert place(parts, workspace="alice") == (ZONE, "alice")


def test_a_default_workspace_that_is_ones_own_is_meant(parts: Parts) -> None:
    stored(parts, "Workspace", "lab", "{}", "alice")
    stored(parts, "User", "alice", '{"default": {"workspace": "lab"}}')
    assert place(parts) == (ZONE, "lab")


def test_a_workspace_that_is_named_must_be_there_and_ones_own(parts: Parts) -> None:
    stored(parts, "Workspace", "bob.paper", "{}", "bob")
    with pytest.raises(NotAllowed, match="alice may not Apply Workload"):
        place(parts, workspace="bob.paper")
    admin = caller(BOB, is_admin=True)
    with pytest.raises(Refused, match=r"metadata.workspace: no workspace 'lab'; make"):
        parts.intake.homes.place_of(admin, document(workspace="lab"))
