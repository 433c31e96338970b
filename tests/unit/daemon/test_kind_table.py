"""The table of kinds: words, what an entry must say; a new kind is one entry."""

from dataclasses import replace

import pytest

from dorabatch.daemon.api.kind_routes import KindRoutes
from dorabatch.daemon.intake.kind_table import (
    Belonging,
    KindEntry,
    KindTable,
    Named,
    Scope,
    nobodys,
)
from dorabatch.errors import InvariantError, NotFound, UserError
from dorabatch.resources.kinds import KINDS
from dorabatch.resources.verbs import PERSONAL, VERBS, WORKSPACED
from tests.unit.daemon.conftest import Parts

ROWS = [{"name": "p1", "owner": "alice"}, {"name": "p2", "owner": "bob"}]


def find(named: Named) -> dict[str, str]:
    """One of the rows."""
    for row in ROWS:
        if row["name"] == named.name:
            return row
    raise NotFound(f"no project {named.name!r}")


PROJECT = KindEntry(
    name="Project",
    words=("projects", "pj"),
    scope=Scope.ZONE,
    cells={"name": ("PROJECT", lambda row: str(row["name"]))},
    columns=("name",),
    rows=lambda: list(ROWS),
    find=find,
    belongs=nobodys,
    text=str,
    kept_by="it is a test",
)


def test_every_word_means_one_kind(parts: Parts) -> None:
    table = parts.daemon.intake.kinds
    for kind in table:
        for word in (kind.name, kind.name.upper(), *kind.words):
            assert table.meant(word) is kind
    with pytest.raises(UserError, match=r"no kind 'zoen' \(did you mean 'zone'\?\)"):
        table.meant("zoen")
    twice = replace(PROJECT, words=("ws",))
    with pytest.raises(InvariantError, match="'ws' is Workspace and Project"):
        KindTable((*table, twice))


def test_every_kind_that_is_served_has_an_entry(parts: Parts) -> None:
    served = {kind.name for kind in parts.daemon.intake.kinds}
    shown_only, to_come = {"Container", "CPU", "GPU"}, {"Storage", "Volume"}
    assert served == (KINDS.keys() | shown_only) - to_come
    with pytest.raises(UserError, match="kind Storage: this daemon serves Workload"):
        parts.daemon.intake.kinds.of("Storage")


def test_the_scope_of_a_kind_is_where_rights_look_for_it(parts: Parts) -> None:
    for kind in parts.daemon.intake.kinds:
        is_workspaced = kind.name in WORKSPACED - {"Workspace"}
        assert (kind.scope is Scope.WORKSPACE) == is_workspaced
    assert {"User", "Usercredit"} <= PERSONAL <= VERBS.keys()


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ({"name": "Nosuch"}, "no verbs are known"),
        ({"rows": None}, "neither rows nor listing"),
        ({"kept_by": ""}, "who applies it"),
        ({"apply": print, "delete": print}, "where does a document put it"),
        ({"delete": None, "kept_by": "", "apply": print}, "who applies it"),
    ],
)
def test_an_entry_that_says_too_little_does_not_start(
    broken: dict[str, object], said: str
) -> None:
    with pytest.raises(InvariantError, match=said):
        KindTable((replace(PROJECT, **broken),))  # type: ignore[arg-type]


def test_a_new_kind_is_one_entry(parts: Parts) -> None:
    table = KindTable((*parts.daemon.intake.kinds, PROJECT))
    assert table.meant("PJ") is table.of("Project")
    assert len(KindRoutes(kinds=table).routes()) == len(
        KindRoutes(kinds=parts.daemon.intake.kinds).routes()
    )
    assert Belonging() == PROJECT.belongs(ROWS[0])
