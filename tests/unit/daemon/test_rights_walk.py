"""Every route, verb, kind, workspace and role through the API, against the model.

A real application answers; who asks is the uid that the socket would carry. Only the
answer "not allowed" counts: what else a route says of an odd request is not the matter.
"""

import asyncio
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson
import pytest
from starlette.types import ASGIApp

from dorabatch.daemon.api.crowd import Allowances
from dorabatch.daemon.api.http import IN_BODY, IN_PATH, Call, Route, check_route
from dorabatch.daemon.api.server import Gate
from dorabatch.errors import InvariantError
from dorabatch.queue.records import Submitter
from dorabatch.resources.manifest import parse_json_document
from dorabatch.resources.verbs import VERBS, Verb
from tests.every_route import ROUTES
from tests.makers import ZONE
from tests.oracles import rights_model as model
from tests.unit.daemon.conftest import Parts, caller

ADMIN = caller(Submitter(user="root", uid=0, gid=0), is_admin=True)
UID = 4_000_001
ME = f"uid-{UID}"
OTHER = Submitter(user="uid-4000002", uid=4_000_002, gid=1)
ROLES: dict[str, dict[str, list[str]]] = {
    "watcher": {"Workload": ["Get", "Describe"], "Container": ["Log"]},
    "keeper": {"Node": ["All"], "Zone": ["Get"]},
    "banker": {"Usercredit": ["All"], "Report": ["All"], "Resourcecredit": ["All"]},
    "runner": {"Workload": ["Apply", "Delete", "GetOne"], "Policy": ["Get"]},
    "everything": {"All": ["All"]},
    "nothing": {},
}
PLACES: list[dict[str, str]] = [
    {"workspace": ME},
    {"workspace": OTHER.user},
    {"workspace": "All"},
    {"workspace": "All", "zone": "elsewhere"},
    {"workspace": "All", "kind": "Workload"},
]


@dataclass(frozen=True)
class Target:
    """What a request is about: the kind it names and the object behind it."""

    route: Route
    kind: str
    path: str
    workspace: str | None
    owner: str | None
    body: dict[str, Any]


def send(app: ASGIApp, target: Target) -> tuple[int, bytes]:
    """(status, body) of a request by ME."""
    path, _, query = target.path.partition("?")
    scope = {
        "type": "http", "http_version": "1.1", "scheme": "http",
        "method": target.route.method, "path": path, "raw_path": path.encode(),
        "query_string": query.encode(), "headers": [], "root_path": "",
        "server": None, "client": None, "state": {"uid": UID, "gid": UID},
    }  # fmt: skip
    sent: list[dict[str, Any]] = []
    body = orjson.dumps(target.body)

    asked: list[bool] = []

    async def receive() -> dict[str, Any]:
        if asked:
            # The asker stays until the answer is there.
            await asyncio.Event().wait()
        asked.append(True)
        return {"type": "http.request", "body": body, "more_body": False}

    async def collect(message: Any) -> None:
        sent.append(dict(message))

    asyncio.run(app(scope, receive, collect))
    said = b"".join(one.get("body", b"") for one in sent[1:])
    return sent[0]["status"], said


def targets() -> Iterator[Target]:
    """Requests on each route: mine and somebody else's, of each kind."""
    for route in ROUTES:
        if route.kind == IN_PATH:
            for kind, (name, owner) in itertools.product(
                ("Workload", "Container", "Node", "User", "Usercredit", "Role"),
                (("1", ME), ("2", OTHER.user)),
            ):
                yield _of_kind(route, kind, name, owner)
        elif route.kind == IN_BODY:
            yield from _documents(route)
        else:
            for name, owner in (("1", ME), ("2", OTHER.user)):
                yield _plain(route, name, owner)


def _of_kind(route: Route, kind: str, number: str, owner: str) -> Target:
    name = {"Workload": number, "Container": f"{number}.1", "Node": "n1"}.get(kind)
    name = name or {"Role": "user"}.get(kind, owner)
    path = route.path.replace("{kind}", kind).replace("{name:path}", name)
    is_list = "{name" not in route.path
    if kind == "Container" and route.method == "DELETE":
        # Nobody may: the answer says that before it asks who.
        kind, path = "Workload", path.replace("Container", "Workload")[: -len(".1")]
    workspace = owner if kind in model.IN_WORKSPACES else None
    somebody = owner if kind in (*model.IN_WORKSPACES, *model.SOMEBODYS) else None
    if is_list:
        return Target(route, kind, path, None, None, {})
    return Target(route, kind, path, workspace, somebody, {})


def _documents(route: Route) -> Iterator[Target]:
    head = "apiVersion: v1\nkind: {kind}\nmetadata:\n  name: {name}\n"
    for kind, name, spec in (
        ("Zone", "z9", "spec:\n  endpoint: https://z9.example\n"),
        ("Node", "n9", "spec:\n  endpoint: ssh://root@192.0.2.1\n"),
        ("Role", "r9", "spec:\n  permission: {}\n"),
        ("User", "u9", ""),
    ):
        manifest = head.format(kind=kind, name=name) + spec
        owner = name if kind == "User" else None
        yield Target(route, kind, route.path, None, owner, {"manifest": manifest})


def _plain(route: Route, number: str, owner: str) -> Target:
    path = (
        route.path.replace("{ref:path}", number)
        .replace("{verb}", "probe" if "nodes" in route.path else "grant")
        .replace("{what}", "balance")
        .replace("{name}", "usage" if "reports" in route.path else "n1")
    )
    kind, body = route.kind, dict[str, Any]()
    workspace = owner if kind in model.IN_WORKSPACES else None
    somebody = owner if kind in (*model.IN_WORKSPACES, *model.SOMEBODYS) else None
    if path.endswith("/wait"):
        path += "?seconds=0"
    if kind in ("Usercredit", "Report") and route.method == "GET":
        path += f"?account={owner}"
    if kind == "Usercredit" and route.method == "POST":
        body = {"account": owner, "amount": "1", "reason": "test"}
    if path in ("/v1/hold", "/v1/release"):
        body = {"refs": [number]}
    if path == "/v1/cancel":
        body = {"refs": [number], "dry_run": True}
    if path in ("/v1/workloads", "/v1/quote") and route.method == "POST":
        body = {"options": {"image": "a", "cmd": ["b"], "workspace": owner}}
        somebody = None
    is_list = route.path in ("/v1/workloads", "/v1/priorities", "/v1/credits/check")
    if is_list and route.method == "GET":
        workspace = somebody = None
    if kind == "Report" and route.method == "POST":
        somebody = None
    return Target(route, kind, path, workspace, somebody, body)


def is_allowed(target: Target, entry: model.Entry, made: frozenset[str]) -> bool:
    """What the model says of a request; for a list: of anything in the zone."""
    named = {kind: tuple(map(str, verbs)) for kind, verbs in VERBS.items()}
    verb, verbs = str(target.route.verb), named[target.kind]
    written = model.verbs_of(entry, target.kind, verbs)
    if target.workspace is None and target.owner is None:
        asked = {"Get", "GetOne"} if verb == "Get" else {verb}
        return (
            bool(asked & written)
            and entry.kind in ("All", target.kind)
            and entry.zone in ("All", ZONE)
        )
    thing = model.Thing(target.kind, ZONE, target.workspace, target.owner)
    return verb in written and model.reaches(ME, entry, thing, named, made)


def gated(site: Parts) -> Gate:
    """The application as the server serves it."""
    return Gate(site.app(), Allowances(site.books.settings.api, frozenset()))


@pytest.fixture
def site(parts: Parts) -> Parts:
    """A zone with a workload of mine and one of somebody else's, and roles."""
    me = Submitter(user=ME, uid=UID, gid=UID)
    parts.submit("mine", submitter=me, workspace=ME)
    parts.submit("theirs", submitter=OTHER, workspace=OTHER.user)
    for name, permission in ROLES.items():
        head = {"apiVersion": "v1", "kind": "Role", "metadata": {"name": name}}
        spec = {"spec": {"permission": permission}}
        parts.apply(ADMIN, parse_json_document({**head, **spec}))
    declare(parts, OTHER.user, {"resources": []})
    return parts


def declare(parts: Parts, user: str, spec: dict[str, Any]) -> None:
    """Declare a user as an admin would."""
    head = {"apiVersion": "v1", "kind": "User", "metadata": {"name": user}}
    parts.apply(ADMIN, parse_json_document({**head, "spec": spec}))


@pytest.mark.mission("M55", "M57", "M58", "M63", "M79")
@pytest.mark.parametrize("role", ROLES)
def test_every_route_says_what_the_model_says(site: Parts, role: str) -> None:
    app = gated(site)
    wrong = []
    for place in PLACES:
        grant = {"kind": "All", "zone": "All", "role": role, **place}
        declare(site, ME, {"resources": [grant]})
        permission = tuple((kind, tuple(v)) for kind, v in ROLES[role].items())
        entry = model.Entry(permission, **{k: grant[k] for k in ("kind", "zone")},
                            workspace=place["workspace"])  # fmt: skip
        for target in targets():
            status, said = send(app, target)
            # Nobody grants above their own rights: not a verb's rule, shown elsewhere.
            is_granting = b"may do there themselves" in said
            is_refused = not is_granting and (status == 403 or b"may not" in said)
            if is_refused is is_allowed(target, entry, frozenset()):
                wrong.append((place, target, status, said[:160]))
            if site.books.users.spec(ME) is None:
                # Who may delete Users has just deleted their own.
                declare(site, ME, {"resources": [grant]})
    assert not wrong, "\n".join(map(str, wrong))


def test_who_is_deleted_is_out_at_once(site: Parts) -> None:
    app = gated(site)
    grant = {"kind": "All", "zone": "All", "workspace": "All", "role": "everything"}
    declare(site, ME, {"resources": [grant]})
    theirs = next(t for t in targets() if t.path.endswith("/workloads/2"))
    assert send(app, theirs)[0] == 200
    site.delete(ADMIN, "User", ME)
    assert send(app, theirs)[0] == 403


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"kind": "Nosuch"}, "no kind 'Nosuch'"),
        ({"kind": ""}, "no kind ''"),
        ({"kind": "Node", "verb": Verb.SHELL}, "is no verb of Node"),
    ],
)
def test_a_route_without_kind_or_verb_does_not_start(
    change: dict[str, Any], said: str
) -> None:
    async def nothing(_call: Call) -> Any:
        return None

    whole: dict[str, Any] = {
        "method": "GET", "path": "/x", "kind": "Node", "verb": Verb.GET,
        "handler": nothing, "summary": "x",
    }  # fmt: skip
    check_route(Route(**whole))
    with pytest.raises(InvariantError, match=said):
        check_route(Route(**{**whole, **change}))
    for name in ("kind", "verb"):
        with pytest.raises(TypeError, match=name):
            Route(**{key: value for key, value in whole.items() if key != name})
