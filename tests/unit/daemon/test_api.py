"""The API on its real socket: who asks, what a body may hold, how errors answer."""

import http.client
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from dorabatch import errors
from dorabatch.clock import FakeClock, SystemClock
from dorabatch.config import Settings
from dorabatch.daemon.api import unix_accounts
from dorabatch.daemon.api.app import openapi_document
from dorabatch.daemon.api.http import BodyTooLarge, Route, error_answer
from dorabatch.daemon.api.server import ApiServer
from dorabatch.daemon.api.unix_accounts import UnixAccounts
from dorabatch.queue.records import Submitter
from dorabatch.resources.manifest import parse_json_document
from tests.every_route import ROUTES
from tests.makers import BOB, START, ZONE, node_settings
from tests.unit.daemon.conftest import SECONDS, Parts, caller

LIMIT = 20_000
OPTIONS = {"image": "alpine:3", "cmd": ["true"], "gpus": "1"}
ADMIN = caller(Submitter(user="root", uid=0, gid=0), is_admin=True)
IDENTITY = ("uid", "user", "gid", "submitter", "caller", "groups", "is_admin")
OWN_USER = UnixAccounts(SystemClock()).submitter_of(os.getuid(), os.getgid()).user


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    """Settings with a socket whose path is short, a low bound and no admin."""
    with TemporaryDirectory(prefix="dora-") as place:
        yield Settings(
            state_dir=tmp_path,
            socket=Path(place) / "s",
            admins=("somebody-else",),
            limits={"body_bytes_max": LIMIT},  # type: ignore[arg-type]
        )


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=SECONDS)
        self._path = path

    def connect(self) -> None:
        """Connect to the path."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(SECONDS)
        self.sock.connect(str(self._path))


class Api:
    """Asks the server."""

    def __init__(self, parts: Parts, path: Path) -> None:
        self.parts = parts
        self._path = path

    def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        headers: dict[str, str] | None = None,
    ) -> tuple[int, bytes]:
        """(status, body) of one request."""
        connection = UnixConnection(self._path)
        sent = body if isinstance(body, bytes) else orjson.dumps(body or {})
        try:
            # An answer may be sent before all was read.
            with suppress(BrokenPipeError):
                connection.request(
                    method, path, sent if method == "POST" else None, headers or {}
                )
            reply = connection.getresponse()
            return reply.status, reply.read()
        finally:
            connection.close()

    def error(self, method: str, path: str, body: object = None) -> tuple[int, str]:
        """(status, sentence) of a refusal."""
        status, reply = self.ask(method, path, body)
        found: dict[str, Any] = orjson.loads(reply)["error"]
        assert set(found) == {"code", "message", "exit_status"}
        return status, found["message"]


@pytest.fixture
def api(parts: Parts) -> Iterator[Api]:
    """A server on a socket."""
    settings = parts.books.settings
    server = ApiServer(parts.app(), settings)
    server.start()
    yield Api(parts, settings.socket)
    server.stop()


def grant_all(api: Api) -> None:
    """Give whoever runs the test every right, by a User document as an admin would."""
    everything = {"kind": "All", "zone": "All", "workspace": "All", "role": "admin"}
    head = {"apiVersion": "v1", "kind": "User", "metadata": {"name": OWN_USER}}
    spec = {"spec": {"resources": [everything]}}
    api.parts.apply(ADMIN, parse_json_document({**head, **spec}))


def label(route: Route) -> str:
    """How a route is called in a report."""
    return f"{route.method} {route.path}"


def concrete(route: Route) -> str:
    """A path that the route serves."""
    return (
        route.path.replace("{ref:path}", "1")
        .replace("{kind}", "Workload")
        .replace("{what}", "balance")
        .replace("{name}", "w1")
        .replace("{verb}", "cordon")
    ) + ("?seconds=0" if route.path.endswith("/wait") else "")


@pytest.mark.mission("M13")
def test_the_caller_is_who_connected(api: Api) -> None:
    status, reply = api.ask("POST", "/v1/workloads", {"options": OPTIONS})
    assert status == 201, reply
    stored = api.parts.books.board.workloads[1]
    assert (stored.submitter.uid, stored.submitter.user) == (os.getuid(), OWN_USER)
    assert orjson.loads(reply)["workspace"] == OWN_USER


def test_no_header_or_query_names_the_caller(api: Api) -> None:
    headers = {
        "X-Forwarded-User": "bob", "Authorization": "Basic Ym9iOmJvYg==",
        "X-Dora-User": "bob", "Remote-User": "bob",
    }  # fmt: skip
    status, reply = api.ask("GET", "/v1/status?user=bob&uid=0", headers=headers)
    assert (status, orjson.loads(reply)["user"]) == (200, OWN_USER)


@pytest.mark.parametrize("route", [r for r in ROUTES if r.body], ids=label)
def test_no_body_names_the_caller_or_holds_unknown_fields(
    api: Api, route: Route
) -> None:
    grant_all(api)
    for field in (*IDENTITY, "nosuch"):
        if field in route.body:
            continue
        status, message = api.error(route.method, concrete(route), {field: 0})
        assert status == 400
        assert f"unknown field {field!r}" in message
    assert api.parts.books.board.workloads == {}


@pytest.mark.mission("M18")
@pytest.mark.parametrize("route", ROUTES, ids=label)
def test_every_route_answers_strangers_in_the_same_form(api: Api, route: Route) -> None:
    api.parts.submit("b", submitter=BOB, workspace="bob")
    status, reply = api.ask(route.method, concrete(route))
    assert status < 500
    if status >= 400:
        assert orjson.loads(reply)["error"]["message"]
    for method in {"GET", "POST", "DELETE", "PUT"}:
        known = {r.method for r in ROUTES if r.path == route.path}
        if method not in known and method == "PUT":
            assert api.ask(method, concrete(route))[0] == 405


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/v1/nodes", {"host": "h"}),
        ("POST", "/v1/nodes/scan", {"host": "h"}),
        ("POST", "/v1/nodes/n1/rekey", {}),
        ("POST", "/v1/nodes/n1/cordon", {}),
        ("POST", "/v1/nodes/n1/probe", {}),
        ("DELETE", "/v1/kinds/Node/n1", None),
        ("DELETE", "/v1/kinds/Zone/z1", None),
        ("DELETE", "/v1/kinds/Workload/1", None),
        ("GET", "/v1/credits/check", None),
        ("POST", "/v1/cancel", {"refs": ["1"]}),
        ("POST", "/v1/cancel", {"user": "bob"}),
    ],
)
def test_what_only_an_admin_or_the_owner_may(
    api: Api, method: str, path: str, body: object
) -> None:
    api.parts.submit("b", submitter=BOB, workspace="bob")
    status, message = api.error(method, path, body)
    assert status == 403, message
    assert api.parts.books.board.workloads[1].ended_at is None


def test_openapi_lists_every_route(api: Api) -> None:
    document = openapi_document(ROUTES[:-1])
    listed = {
        (method.upper(), path)
        for path, methods in document["paths"].items()  # type: ignore[attr-defined]
        for method in methods
    }
    assert listed == {(r.method, r.path.replace(":path}", "}")) for r in ROUTES[:-1]}
    status, reply = api.ask("GET", "/openapi.json")
    assert (status, orjson.loads(reply)) == (200, document)


@pytest.mark.mission("M18")
@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.UserError("x"), 400),
        (errors.Refused("x"), 400),
        (errors.ManifestError("x"), 400),
        (errors.NotAllowed("x"), 403),
        (errors.NotFound("x"), 404),
        (errors.ConflictError("x"), 409),
        (errors.LeaseLost("x"), 409),
        (errors.AlreadyFinished("x"), 409),
        (BodyTooLarge("x"), 413),
        (errors.NodeUnreachable("x"), 502),
        (errors.HostKeyChanged("x"), 502),
        (errors.InvariantError("x"), 500),
        (errors.ConfigError("x"), 500),
    ],
)
def test_errors_become_statuses(error: errors.DorabatchError, status: int) -> None:
    reply = error_answer(error)
    found = orjson.loads(reply.body)["error"]
    assert reply.status_code == status
    assert found == {
        "code": error.code, "message": "x", "exit_status": error.exit_status
    }  # fmt: skip


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"{", 400, "not JSON"),
        (b"[]", 400, "must be a JSON object"),
        (b"\xff", 400, "not JSON"),
        (b"{}", 400, "either a manifest or options"),
        (b'{"options": 1}', 400, "options must be"),
        (b'{"options": {}, "manifest": ""}', 400, "either a manifest or options"),
        (b'{"options": {"imgae": "x"}}', 400, "imgae"),
        (b'{"manifest": "kind: Nosuch"}', 400, "apiVersion"),
        (b'{"manifest": 3}', 400, "allowed: text"),
        (b" " * (LIMIT + 1), 413, f"allowed: {LIMIT}"),
    ],
)
def test_bad_submissions(api: Api, body: bytes, status: int, words: str) -> None:
    found, message = api.error("POST", "/v1/workloads", body)
    assert found == status, message
    assert words in message


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/workloads/77", 404),
        ("/v1/workloads/bob/nosuch", 404),
        ("/v1/workloads/%C2%B2", 404),
        ("/v1/workloads/" + "9" * 40, 404),
        ("/v1/workloads?limit=%C2%B2", 400),
        ("/v1/kinds/Nosuch", 400),
        ("/v1/kinds/Node/n9", 404),
        ("/v1/kinds/Container/1", 400),
    ],
)
def test_what_is_not_there(api: Api, path: str, status: int) -> None:
    assert api.error("GET", path)[0] == status


def test_a_check_of_the_ledger_ends_with_its_result(api: Api) -> None:
    grant_all(api)
    status, reply = api.ask("GET", "/v1/credits/check")
    (found,) = [orjson.loads(line) for line in reply.splitlines()]
    assert (status, found["result"]) == (200, {"entries": 0, "faults": []})


def test_a_workspace_of_another_is_refused(api: Api) -> None:
    for workspace in ("bob", f"{OWN_USER}-a", f"{OWN_USER}a"):
        body = {"options": {**OPTIONS, "workspace": workspace}}
        assert api.error("POST", "/v1/workloads", body)[0] == 403


def test_the_socket_is_gone_after_the_end(parts: Parts) -> None:
    settings = parts.books.settings
    server = ApiServer(parts.app(), settings)
    server.start()
    connection = UnixConnection(settings.socket)
    connection.request("GET", "/v1/status")
    assert connection.getresponse().status == 200
    with pytest.raises(errors.ConfigError, match="another dorad answers there"):
        ApiServer(parts.app(), settings)
    connection.close()
    server.stop()
    assert not settings.socket.exists()


@pytest.mark.parametrize(
    ("kind", "name"),
    [("Workload", "b"), ("Container", "b.1"), ("Node", "n2")],
)
def test_a_list_by_name_holds_the_one(api: Api, kind: str, name: str) -> None:
    me = UnixAccounts(SystemClock()).submitter_of(os.getuid(), os.getgid())
    for one in ("a", "b"):
        api.parts.submit(one, submitter=me, workspace=OWN_USER)
    for one in ("n1", "n2"):
        api.parts.books.fleet.put(node_settings(one))
    path = f"/v1/kinds/{kind}"
    whole, one = (
        api.ask("GET", at)[1].splitlines() for at in (path, f"{path}?name={name}")
    )
    assert len(whole) == 3
    assert [one[0].split(), one[1].split()] == [whole[0].split(), whole[2].split()]
    assert len(one) == 2
    assert api.ask("GET", f"{path}?render=json")[1].endswith(b"]\n")
    assert api.error("GET", f"{path}?name=nosuch.1")[0] == 404
    status, message = api.error("GET", f"{path}?zone=mars")
    assert status == 400
    assert message == f"zone: 'mars' is not served here (served: {ZONE})"


def test_health_is_200_or_503(api: Api) -> None:
    status, reply = api.ask("GET", "/v1/health")
    well = {
        "ok": True,
        "threads_dead": [],
        "threads_failing": {},
        "database": "ok",
        "nodes_refusing": [],
        "clock_steps": 0,
        "clock_ahead_seconds": 0.0,
    }
    assert (status, orjson.loads(reply)) == (200, well)
    assert orjson.loads(api.ask("GET", "/v1/status")[1])["health"] == "ok"
    ended = threading.Thread(target=lambda: None, name="listen-n1")
    ended.start()
    ended.join(SECONDS)
    api.parts.effects.threads.watch(ended, threading.Event())
    status, reply = api.ask("GET", "/v1/health")
    ill = {**well, "ok": False, "threads_dead": ["listen-n1"]}
    assert (status, orjson.loads(reply)) == (503, ill)
    said = orjson.loads(api.ask("GET", "/v1/status")[1])["health"]
    assert said == "thread listen-n1 has ended"
    api.parts.effects.writer.stop()
    found = orjson.loads(api.ask("GET", "/v1/health")[1])
    assert found["database"] == "the daemon is stopping; try again later"


def test_facts_about_people_age(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, names = FakeClock(START), {7: "old"}
    looked_up: list[int] = []

    def found(uid: int) -> object:
        looked_up.append(uid)
        return SimpleNamespace(pw_name=names[uid])

    groups = {"old": [1], "new": [70, 1]}
    monkeypatch.setattr(unix_accounts.pwd, "getpwuid", found)
    monkeypatch.setattr(unix_accounts.os, "getgrouplist", lambda who, _: groups[who])
    accounts = UnixAccounts(clock)
    assert accounts.submitter_of(7, 1) == Submitter(user="old", uid=7, gid=1)
    names[7] = "new"
    clock.advance(unix_accounts.ACCOUNT_SECONDS - 1)
    assert accounts.submitter_of(7, 1).user == "old"
    assert looked_up == [7]
    clock.advance(1)
    new = Submitter(user="new", uid=7, gid=1, groups=(70,))
    assert accounts.submitter_of(7, 1) == new


def test_a_failed_look_up_is_not_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    names: dict[int, str] = {}
    monkeypatch.setattr(
        unix_accounts.pwd, "getpwuid", lambda uid: SimpleNamespace(pw_name=names[uid])
    )
    monkeypatch.setattr(unix_accounts.os, "getgrouplist", lambda *_: [1])
    accounts = UnixAccounts(FakeClock(START))
    assert accounts.submitter_of(8, 1).user == "uid-8"
    names[8] = "carol"
    assert accounts.submitter_of(8, 1).user == "carol"


def test_who_had_a_name_keeps_it_while_the_directory_is_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, names = FakeClock(START), {8: "carol"}
    monkeypatch.setattr(
        unix_accounts.pwd, "getpwuid", lambda uid: SimpleNamespace(pw_name=names[uid])
    )
    monkeypatch.setattr(unix_accounts.os, "getgrouplist", lambda *_: [1])
    accounts = UnixAccounts(clock)
    assert accounts.submitter_of(8, 1).user == "carol"
    del names[8]
    clock.advance(unix_accounts.LAST_KNOWN_SECONDS - 1)
    assert accounts.submitter_of(8, 1).user == "carol"
    clock.advance(1)
    assert accounts.submitter_of(8, 1).user == "uid-8"
