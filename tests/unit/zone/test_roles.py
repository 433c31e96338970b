"""Roles as users meet them: what commands show, do and refuse, by the roles one holds.

Whoever runs the tests is no admin here; an admin of the zone declares roles and users.
"""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from dorabatch.fairshare.turn.account_tree import Account
from dorabatch.queue.records import Submitter
from dorabatch.resources.manifest import parse_json_document
from tests.makers import V100
from tests.simulation.world import ROOT, World
from tests.unit.daemon.test_share_commands import ME
from tests.unit.zone.conftest import Zone, job, served

OTHER = "bob"


@pytest.fixture
def plain() -> Iterator[Zone]:
    """A zone in which whoever runs the tests is a user like others."""
    with (
        TemporaryDirectory(prefix="dora-") as place,
        served(
            World(1, Path(place), credits="", admins=("an-admin",)),
            Path(place) / "s",
        ) as made,
    ):
        yield made


def declare(zone: Zone, kind: str, name: str, spec: dict[str, Any]) -> None:
    """An admin applies a document."""
    head = {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}}
    document = parse_json_document({**head, "spec": spec})
    apply = zone.world.parts.intake.kinds.of(kind).apply
    assert apply is not None
    apply(zone.world.caller(ROOT), document, None)


def grant(zone: Zone, *roles: tuple[str, str], kind: str = "All") -> None:
    """Give whoever runs the tests roles in workspaces, and no others."""
    entries = [
        {"kind": kind, "zone": "All", "workspace": workspace, "role": role}
        for role, workspace in roles
    ]
    declare(zone, "User", ME, {"resources": entries})


def others_job(zone: Zone, name: str, **spec: Any) -> None:
    """Somebody else's workload, in their own workspace."""
    head = {"apiVersion": "v1", "kind": "Workload"}
    document = parse_json_document({**job(name, **spec), **head})
    parts = zone.world.parts
    bob = Submitter(user=OTHER, uid=4002, gid=4002)
    new, _ = parts.intake.admission.admit(parts.books.rights.caller(bob), document)
    parts.intake.submissions.submit(new).result(20)


@pytest.mark.mission("M63")
def test_of_others_the_list_shows_their_place_and_no_names(plain: Zone) -> None:
    others_job(plain, "secret.plan")
    plain.apply(job("mine"))
    plain.go()
    rows = {row["user"]: row for row in plain.json("dstat")}
    assert (rows[ME]["name"], rows[ME]["workspace"]) == ("mine", ME)
    theirs = rows[OTHER]
    assert (theirs["name"], theirs["workspace"], theirs["image"]) == (None,) * 3
    assert (theirs["state"], theirs["nodes"]) == ("running", rows[OTHER]["nodes"])
    assert "secret" not in plain.run("dstat") + plain.run("dstat", "-c")
    ref = str(theirs["id"])
    for words in (
        ("dora", "describe", "wk", ref),
        ("dstat", "--why", ref),
        ("dlog", ref),
        ("dcancel", ref),
    ):
        said = plain.run(*words, status=2)
        assert f"belongs to {OTHER}: {ME} may not" in said
    grant(plain, ("user", ME), ("user", OTHER))
    assert {row["name"] for row in plain.json("dstat")} == {"mine", "secret.plan"}
    assert "secret.plan" in plain.run("dora", "describe", "wk", ref)


@pytest.mark.mission("M56")
@pytest.mark.parametrize("turn", [1, -1])
def test_the_order_of_roles_does_not_count(plain: Zone, turn: int) -> None:
    declare(plain, "Role", "watcher", {"permission": {"Workload": ["Get"]}})
    declare(plain, "Role", "nothing", {"permission": {}})
    declare(plain, "Workspace", "team", {})
    roles = [("nothing", "team"), ("watcher", "team"), ("user", ME)]
    grant(plain, *roles[::turn])
    plain.apply(job("mine"))
    said = plain.apply(job("b", metadata={"workspace": "team"}), status=2)
    assert "may not Apply Workload there" in said
    grant(plain, *[*roles, ("user", "team")][::turn])
    plain.apply(job("b", metadata={"workspace": "team"}))


@pytest.mark.mission("M58")
def test_who_looks_after_prices_can_do_that_and_nothing_else(plain: Zone) -> None:
    grant(plain, ("admin", "All"), kind="Resourcecredit")
    spec = {"credit": {"per": {"hour": 1}}, "product_name": V100}
    price = {"apiVersion": "v1", "kind": "Resourcecredit", "metadata": {"name": "v"}}
    plain.apply({**price, "spec": spec})
    assert "v" in plain.run("dora", "get", "price")
    for words in (
        ("dnode", "list"),
        ("dstat",),
        ("dora", "get", "users"),
        ("dcredit", "balance"),
        ("dnode", "cordon", "n1"),
        ("dshare", "set", "age_full=1d"),
    ):
        assert f"{ME} may not" in plain.run(*words, status=2)
    assert f"{ME} may not Apply Workload" in plain.apply(job(), status=2)
    said = plain.apply(
        {
            "apiVersion": "v1",
            "kind": "User",
            "metadata": {"name": ME},
            "spec": {"resources": []},
        },
        status=2,
    )
    assert f"{ME} may not Apply User" in said


@pytest.mark.mission("M13")
def test_everybody_has_a_home_that_is_listed_and_theirs_alone(plain: Zone) -> None:
    declare(plain, "User", OTHER, {})
    plain.apply(job("mine"))
    rows = {row["name"]: row["owner"] for row in plain.json("dora", "get", "ws")}
    # Of other workspaces one sees those in which one has a role.
    assert rows == {ME: ME}
    head = {"apiVersion": "v1", "kind": "Workspace"}
    said = plain.apply({**head, "metadata": {"name": OTHER}}, status=2)
    assert f"{ME} may not Apply Workspace there" in said
    plain.apply({**head, "metadata": {"name": f"{ME}.paper"}})
    # A login whose name happens to be below one's own.
    declare(plain, "User", f"{ME}.x", {})
    said = plain.apply({**head, "metadata": {"name": f"{ME}.x"}}, status=2)
    assert f"is the home of the login '{ME}.x' and belongs to it alone" in said
    grant(plain, ("user", "All"))
    rows = {row["name"]: row["owner"] for row in plain.json("dora", "get", "ws")}
    homes = {ME: ME, OTHER: OTHER, f"{ME}.x": f"{ME}.x"}
    assert rows == {**homes, f"{ME}.paper": ME}


@pytest.mark.mission("M75")
def test_a_volume_is_mounted_with_the_right_to_use_it_only(plain: Zone) -> None:
    runner = {"Workload": ["All"], "Container": ["All"]}
    declare(plain, "Role", "runner", {"permission": runner})
    declare(plain, "Role", "reader", {"permission": {"Volume": ["Use"]}})
    declare(plain, "Workspace", "datasets", {})
    grant(plain, ("runner", ME))
    mount = {"name": "images", "workspace": "datasets", "target": "/images"}
    said = plain.apply(job(volumes=[mount]), status=2)
    assert "workspace 'datasets': " in said and "may not Use Volume there" in said
    assert plain.json("dstat", "--all") == []
    grant(plain, ("runner", ME), ("reader", "datasets"))
    plain.apply(job(volumes=[mount]))


@pytest.mark.mission("M55", "M62")
def test_a_role_is_refused_when_senseless_and_gone_when_deleted(plain: Zone) -> None:
    grant(plain, ("admin", "All"))
    head = {"apiVersion": "v1", "kind": "Role", "metadata": {"name": "r"}}
    for permission, said in (
        ({"Workloads": ["Get"]}, "'Workloads' is not a kind (did you mean 'Workload'"),
        ({"Workload": ["Run"]}, "'Run' is not a verb of Workload"),
        ({"Node": ["Shell"]}, "'Shell' is not a verb of Node"),
    ):
        refused = plain.apply({**head, "spec": {"permission": permission}}, status=2)
        assert said in refused
    plain.apply({**head, "spec": {"permission": {"Node": ["Get"]}}})
    assert "r" in [row["name"] for row in plain.json("dora", "get", "roles")]
    grant(plain, ("admin", "All"), ("r", "All"))
    said = plain.run("dora", "delete", "role", "r", status=3)
    assert f"is held by 1 users (such as {ME})" in said
    grant(plain, ("admin", "All"))
    plain.run("dora", "delete", "role", "r")
    assert "r" not in [row["name"] for row in plain.json("dora", "get", "roles")]


def test_nobody_grants_above_their_own_rights(plain: Zone) -> None:
    declare(plain, "Role", "clerk", {"permission": {"User": ["All"], "Role": ["All"]}})
    grant(plain, ("clerk", "All"), ("user", ME))
    user = {"apiVersion": "v1", "kind": "User", "metadata": {"name": OTHER}}
    entry = {"kind": "All", "zone": "All", "workspace": "All", "role": "admin"}
    said = plain.apply({**user, "spec": {"resources": [entry]}}, status=2)
    assert f"is more than {ME} may do there themselves" in said
    mine = {**entry, "workspace": ME, "role": "user"}
    plain.apply({**user, "spec": {"resources": [mine]}})
    role = {"apiVersion": "v1", "kind": "Role", "metadata": {"name": "clerk"}}
    more = {"User": ["All"], "Role": ["All"], "Node": ["All"]}
    said = plain.apply({**role, "spec": {"permission": more}}, status=2)
    assert f"is more than {ME} may do everywhere themselves" in said
    unknown = {**user, "spec": {"resources": [{**mine, "role": "usr"}]}}
    said = plain.apply(unknown, status=2)
    assert "there is no role 'usr' (did you mean 'user'?)" in said
    weekly = {"credits": [{"zone": "dc-rov-01", "weekly": 9}]}
    credit = {**user, "spec": {"resources": [mine], **weekly}}
    assert "spec.credits of user 'bob'" in plain.apply(credit, status=2)
    # To fall back to the site's default role is a raise for who has less.
    assert "role user in bob allows" in plain.apply({**user, "spec": {}}, status=2)


def test_the_head_of_a_lab_looks_at_what_its_members_run(plain: Zone) -> None:
    others_job(plain, "secret.plan")
    plain.go()
    lead = {"kind": "All", "zone": "All", "account": "lab1", "role": "head"}
    home = {"kind": "All", "zone": "All", "workspace": ME, "role": "user"}
    declare(plain, "User", ME, {"resources": [lead, home]})
    (row,) = plain.json("dstat")
    assert row["name"] is None
    policy, writer = plain.world.parts.intake.policy_changes, OTHER
    policy.add("root", "", Account(name="lab1", shares=1), set())
    user = Account(name=writer, parent="lab1", shares=1, is_user=True)
    policy.add("root", "", user, {writer})
    (row,) = plain.json("dstat")
    assert row["name"] == "secret.plan"
    assert "secret.plan" in plain.run("dora", "describe", "wk", str(row["id"]))
    assert OTHER in plain.run("dreport", "fairness")
    assert f"{ME} may not Delete" in plain.run("dcancel", str(row["id"]), status=2)


@pytest.mark.mission("M80")
def test_the_list_of_gpus_says_who_has_each(zone: Zone) -> None:
    gpu = {"gpu": {"product_name": V100, "count": 2}, "node": {"name": "n1"}}
    zone.apply(job("train", selectors=gpu))
    zone.go()
    rows = [row for row in zone.json("dora", "get", "gpu") if row["node"] == "n1"]
    held = [row for row in rows if row["state"] == "held"]
    (one,) = zone.jobs()
    assert {row["uuid"] for row in held} == set(one.there.wish.gpu_uuids)
    assert len(rows) == 4
    table = zone.run("dora", "get", "gpus")
    assert "train.1" in table and V100 in table
    assert "n1" in zone.run("dora", "get", "cpu")
    said = zone.apply(
        {"apiVersion": "v1", "kind": "GPU", "metadata": {"name": "g"}}, status=2
    )
    assert "GPU cannot be applied" in said
    zone.run("dcancel", "train")
    zone.go()
    rows = [row for row in zone.json("dora", "get", "gpu") if row["node"] == "n1"]
    assert {row["state"] for row in rows} == {"free"}


@pytest.mark.mission("M68")
def test_a_container_that_has_ended_says_where_it_was(zone: Zone) -> None:
    gpu = {"gpu": {"product_name": V100, "count": 1}, "node": {"name": "n1"}}
    zone.apply(job("train", selectors=gpu))
    zone.go()
    (one,) = zone.jobs()
    zone.world.nodes["n1"].exit(one.there.facts.name, 3)
    zone.go()
    row = zone.json("dora", "describe", "c", "train.1")
    assert (row["node"], row["exit_code"]) == ("n1", 3)
    assert row["gpu_uuids"] == list(one.there.wish.gpu_uuids)
    assert "n1" in zone.run("dstat", "-c", "--all")
    assert "train.1" in zone.run("dstat", "-c", "--all", "-n", "n1")


def test_what_is_held_waits_until_it_is_released(zone: Zone) -> None:
    words = ("--name", "a", "-c", "1", "-i", "busybox", "--", "sleep", "60")
    zone.run("dsub", "--hold", *words)
    zone.apply(job("b"), job("c"))
    zone.go()
    assert [one.name for one in zone.jobs()] == ["b.1", "c.1"]
    (row,) = zone.json("dstat", "a")
    assert (row["state"], row["reason_code"]) == ("queued", "Held")
    assert f"held by {ME}" in zone.run("dstat", "--why", "a")
    said = zone.run("dhold", "a", "b", "nosuch", "--reason", "mend it", status=1)
    assert "b (id 2) held by" in said and "mend it" in said
    assert "a: workload" in said and "already; release it first" in said
    assert "nosuch: no workload 'nosuch'" in said
    assert "no workload 'zz'" in zone.run("dhold", "zz", status=2)
    assert "which workloads?" in zone.run("drelease", status=2)
    zone.run("drelease", "a", "b")
    zone.go()
    assert [one.name for one in zone.jobs("a")] == ["a.1"]
    assert "is not held" in zone.run("drelease", "a", status=3)


@pytest.mark.parametrize(
    "login", ["CORP\\\\anna", "anna@corp.example.com", "Anna", "svc$", "müller"]
)
def test_logins_as_directories_write_them_have_a_user(zone: Zone, login: str) -> None:
    document = f"""
apiVersion: v1
kind: User
metadata: {{name: "{login}"}}
spec: {{mail: anna@example.org}}
"""
    zone.apply(document)
    plain = login.replace("\\\\", "\\")
    assert plain in zone.run("dora", "get", "user")
    assert plain in zone.run("dora", "describe", "user", plain)
    zone.run("dora", "delete", "user", plain)
    assert plain not in zone.run("dora", "get", "user")


@pytest.mark.parametrize("login", ["a/b", "-a", " a", "a:b", "All", "x" * 129])
def test_what_is_no_login_has_none(zone: Zone, login: str) -> None:
    document = {"apiVersion": "v1", "kind": "User", "metadata": {"name": login}}
    assert "metadata.name" in zone.apply(document, status=2)
