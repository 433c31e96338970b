"""Routes on nodes: look at a host key, add, pin anew, cordon, probe.

Only admins pass; a key is pinned only when the request names exactly that key.
"""

from typing import Any

from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from dorabatch.daemon.api.http import (
    Context,
    check_zone,
    json_answer,
    known_keys,
    read_body,
    text_answer,
    text_field,
)
from dorabatch.daemon.intake.node_kind import SavedNode
from dorabatch.daemon.rights import check_admin
from dorabatch.daemon.views.defrag_advice import defrag_advice, defrag_text
from dorabatch.errors import HostKeyChanged, ManifestError, UserError
from dorabatch.resources.cluster import NodeSpec
from dorabatch.resources.manifest import parse_json_document
from dorabatch.resources.names import check_host, check_name

_SCAN_KEYS = frozenset({"name", "host", "port", "user", "allow", "zone"})
_ADD_KEYS = _SCAN_KEYS | {"fingerprint"}
_SSH_PORT = 22


async def scan(context: Context, request: Request) -> Response:
    """POST /v1/nodes/scan: the key a machine (or a known node) presents.

    Of a machine, everything else that adding it would say is checked before.
    """
    check_admin(context.caller(request), "looking at a host key")
    body = await read_body(context, request)
    known_keys(body, _SCAN_KEYS)
    name, pinned = text_field(body, "name"), None
    if name and "host" not in body:
        spec, pinned = context.nodes.pinned_key(name)
        host, port = spec.ssh_host, spec.ssh_port
    else:
        host, port = _host(body), _port(body)
        context.nodes.check_new(*_described(context, body))
    key = await run_in_threadpool(context.nodes.scan, host, port)
    return json_answer(
        {"key_type": key.key_type, "fingerprint": key.fingerprint, "pinned": pinned}
    )


async def add(context: Context, request: Request) -> Response:
    """POST /v1/nodes: add a node with the key that was shown and agreed to."""
    caller = context.caller(request)
    check_admin(caller, "adding a node")
    body = await read_body(context, request)
    known_keys(body, _ADD_KEYS)
    host, port = _host(body), _port(body)
    fingerprint = text_field(body, "fingerprint")
    if not fingerprint:
        raise UserError("fingerprint: missing; scan the host key first (dnode add)")
    name, node_spec = _described(context, body)
    key = await run_in_threadpool(context.nodes.scan, host, port)
    _same_key(key.fingerprint, fingerprint, host)
    saved, _ = await run_in_threadpool(context.nodes.save, caller, name, node_spec)
    return json_answer(_message(saved), 201)


async def rekey(context: Context, request: Request) -> Response:
    """POST /v1/nodes/{name}/rekey: pin another key."""
    caller = context.caller(request)
    check_admin(caller, "pinning a host key")
    body = await read_body(context, request)
    known_keys(body, frozenset({"fingerprint"}))
    name = request.path_params["name"]
    fingerprint = text_field(body, "fingerprint")
    spec, _ = context.nodes.pinned_key(name)
    key = await run_in_threadpool(context.nodes.scan, spec.ssh_host, spec.ssh_port)
    _same_key(key.fingerprint, fingerprint, name)
    saved = await run_in_threadpool(
        lambda: context.nodes.change(caller, name, host_key=key.fingerprint)
    )
    return json_answer(
        {**_message(saved), "message": f"{name}: {key.fingerprint} pinned"}
    )


async def defrag(context: Context, request: Request) -> Response:
    """GET /v1/defrag: what moving restartable containers would gain; moves none."""
    check_admin(context.caller(request), "asking for defragmentation advice")
    found = await run_in_threadpool(defrag_advice, context.services)
    if request.query_params.get("render") == "json":
        return json_answer({"gains": found})
    return text_answer(defrag_text(found))


async def verb(context: Context, request: Request) -> Response:
    """POST /v1/nodes/{name}/cordon, uncordon or probe."""
    caller = context.caller(request)
    name, wanted = request.path_params["name"], request.path_params["verb"]
    check_admin(caller, f"{wanted} of a node")
    if wanted == "probe":
        context.nodes.probe(name)
        return json_answer({"name": name, "message": f"node {name} is being probed"})
    if wanted not in ("cordon", "uncordon"):
        raise UserError(f"{wanted!r} (allowed: cordon, uncordon, probe, rekey)")
    is_cordoned = wanted == "cordon"
    await run_in_threadpool(
        lambda: context.nodes.change(caller, name, scheduling_disabled=is_cordoned)
    )
    state = "takes nothing new" if is_cordoned else "is in use again"
    return json_answer({"name": name, "message": f"node {name} {state}"})


def _described(context: Context, body: dict[str, Any]) -> tuple[str, NodeSpec]:
    """The node that a request describes; UserError for what cannot be one."""
    check_zone(context, text_field(body, "zone") or None)
    host, port = _host(body), _port(body)
    user = text_field(body, "user") or context.services.settings.ssh.user
    spec: dict[str, Any] = {"endpoint": f"ssh://{user}@{host}:{port}"}
    for field, key in (("fingerprint", "hostKey"), ("allow", "allow")):
        if body.get(field):
            spec[key] = body[field]
    name = _name(text_field(body, "name") or host)
    head = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}
    try:
        document = parse_json_document({**head, "spec": spec})
    except ManifestError as error:
        # Host and port are right by now: what is left of the address is the user.
        option = "--allow" if error.field.startswith("spec.allow") else "--user"
        raise UserError(f"{option}: {error.problem}") from error
    node_spec: NodeSpec = document.spec  # type: ignore[attr-defined]  # kind is Node
    return name, node_spec


def _same_key(found: str, expected: str, where: str) -> None:
    if found.rstrip("=") != expected.rstrip("="):
        raise HostKeyChanged(
            f"{where} presents {found}, not {expected}; nothing was pinned"
        )


def _message(saved: SavedNode) -> dict[str, object]:
    return {
        "name": saved.name,
        "result": saved.result,
        "message": saved.message,
        "fingerprint": saved.fingerprint,
    }


def _host(body: dict[str, Any]) -> str:
    try:
        return check_host(body.get("host"))
    except (ValueError, ValidationError) as error:
        raise UserError(f"host {error}") from error


def _name(name: str) -> str:
    try:
        return check_name(name)
    except ValueError as error:
        raise UserError(f"--name {error}") from error


def _port(body: dict[str, Any]) -> int:
    port = body.get("port", _SSH_PORT)
    if not isinstance(port, int) or isinstance(port, bool) or not 1 <= port <= 65535:
        raise UserError(f"port: {port!r} (allowed: 1 to 65535)")
    return port
