"""Doors beside the rule: deleting, refusing and listing give nobody more."""

import pytest

from tests.makers import V100
from tests.unit.daemon.test_share_commands import ME
from tests.unit.zone.conftest import Zone, job
from tests.unit.zone.test_roles import OTHER, declare, grant, others_job, plain

__all__ = ["plain"]
DENIED = 2
GPU = {"gpu": {"product_name": V100, "count": 1}}


def show(zone: Zone, others: str, default_role: str = "user") -> None:
    """Start the zone again with other settings of rights."""
    old = zone.world.settings
    wanted = {"see_others": others, "default_role": default_role}
    rights = old.rights.model_copy(update=wanted)
    zone.start_again(old.model_copy(update={"rights": rights}))


def test_nobody_rises_by_deleting_a_role(plain: Zone) -> None:
    declare(plain, "Role", "clerk", {"permission": {"User": ["All"], "Role": ["All"]}})
    declare(plain, "Role", "admin", {"permission": {"Node": ["Get"]}})
    grant(plain, ("clerk", "All"), ("admin", "All"))
    said = plain.refused("dora", "delete", "role", "admin")
    assert "nobody grants above their own rights" in said
    assert "may not" in plain.refused("dnode", "cordon", "n1")


def test_nobody_rises_by_deleting_a_user(plain: Zone) -> None:
    declare(plain, "Role", "clerk", {"permission": {"User": ["All"]}})
    declare(plain, "User", OTHER, {"resources": []})
    grant(plain, ("clerk", "All"))
    for user in (OTHER, ME):
        said = plain.refused("dora", "delete", "user", user)
        assert "nobody grants above their own rights" in said
    assert "may not" in plain.apply(job("mine"), status=DENIED)


def test_the_default_role_stays_while_the_site_gives_it(plain: Zone) -> None:
    declare(plain, "Role", "student", {"permission": {"Workload": ["All"]}})
    declare(plain, "Role", "clerk", {"permission": {"Role": ["All"]}})
    show(plain, "queue", "student")
    grant(plain, ("clerk", "All"))
    said = plain.refused("dora", "delete", "role", "student")
    assert "rights.default_role" in said


@pytest.mark.parametrize("others", ["queue", "nothing"])
def test_no_door_tells_the_names_of_others(plain: Zone, others: str) -> None:
    others_job(plain, "secret.plan", selectors=GPU)
    plain.go()
    show(plain, others)
    plain.go()
    words: tuple[tuple[str, ...], ...] = (
        ("dcancel", "1"),
        ("dhold", "1"),
        ("dlog", "1"),
        ("dstat", "--why", "1"),
        ("dsub", "-c", "1", "-i", "b", "--dependency", "afterok:1", "--", "x"),
        ("dora", "describe", "wk", "1"),
        ("dora", "describe", "ws", "nosuch"),
    )
    for each in words:
        said = plain.refused(*each)
        assert "secret" not in said, each
        assert f"known: {OTHER}" not in said, each
    rows = plain.json("dora", "get", "gpus")
    seen = [holder for row in rows for holder in row["holders"]]
    assert [one["name"] for one in seen] == ([None] if others == "queue" else [])
    assert "secret" not in plain.run("dora", "get", "gpus")


def test_whose_a_run_is_may_end_it_where_the_right_was_taken(plain: Zone) -> None:
    declare(plain, "Workspace", "team", {})
    grant(plain, ("user", ME), ("user", "team"))
    plain.apply(job("mine", metadata={"workspace": "team"}))
    plain.go()
    grant(plain, ("user", ME))
    (row,) = plain.json("dstat")
    assert (row["name"], row["workspace"]) == ("mine", "team")
    plain.apply(job("late", metadata={"workspace": "team"}), status=DENIED)
    plain.run("dcancel", str(row["id"]))
    plain.go()
    assert plain.json("dstat") == []


def test_who_has_no_role_sees_nothing_where_all_is_shown(plain: Zone) -> None:
    others_job(plain, "open")
    plain.go()
    show(plain, "all", "none")
    assert "may not" in plain.refused("dora", "describe", "wk", "1")


@pytest.mark.parametrize("others", ["queue", "nothing"])
def test_a_name_cannot_be_guessed(plain: Zone, others: str) -> None:
    others_job(plain, "secret")
    plain.go()
    show(plain, others)
    after = ("dsub", "-c", "1", "-i", "b", "--dependency")
    words: tuple[tuple[str, ...], ...] = (
        ("dstat", f"{OTHER}/NAME"),
        ("dprio", f"{OTHER}/NAME"),
        ("dcancel", f"{OTHER}/NAME"),
        ("dhold", f"{OTHER}/NAME"),
        ("dlog", f"{OTHER}/NAME"),
        ("dstat", "--why", f"{OTHER}/NAME"),
        (*after, f"afterok:{OTHER}/NAME", "--", "x"),
        ("dora", "describe", "wk", "NAME", "--workspace", OTHER),
        ("dora", "get", "wk", "NAME", "--workspace", OTHER),
        ("dora", "describe", "c", "NAME.1", "--workspace", OTHER),
        ("dora", "delete", "wk", "NAME", "--workspace", OTHER),
    )
    for each in words:
        there, absent = (
            plain.refused(*(word.replace("NAME", name) for word in each))
            for name in ("secret", "nosuch")
        )
        assert there.replace("secret", "nosuch") == absent, each
    assert plain.json("dstat", "--workspace", OTHER) == []
    assert len(plain.json("dstat")) == (1 if others == "queue" else 0)


def test_what_somebody_wrote_is_shown_to_those_who_see_the_job(plain: Zone) -> None:
    others_job(plain, "theirs")
    plain.apply(job("mine"))
    board = plain.world.books.board
    holds = plain.world.parts.intake.holds
    for workload in list(board.workloads.values()):
        holds.hold("ann", workload, "of the merger")
    plain.go()
    rows = {row["user"]: row["reason"] for row in plain.json("dstat")}
    assert rows == {ME: "held by ann: of the merger", OTHER: "held by ann"}
    assert plain.run("dstat").count("merger") == 1


def test_who_is_declared_cannot_be_guessed(plain: Zone) -> None:
    theirs = {"role": "user", "kind": "All", "zone": "All", "workspace": OTHER}
    declare(plain, "User", OTHER, {"resources": [theirs]})
    grant(plain, ("user", ME))
    for verb in ("describe", "get"):
        there, absent = (
            plain.refused("dora", verb, "user", name) for name in (OTHER, "nosuch")
        )
        assert there.replace(OTHER, "nosuch") == absent
    assert plain.json("dora", "describe", "role", "user")["users"] == [ME]
