"""Routes on nodes: look at a host key, add, pin anew, cordon, probe, defragment.

A key is pinned only when the request names exactly that key.
"""

import re
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from dorabatch.daemon.api.http import Call, Route, json_answer, text_answer, text_field
from dorabatch.daemon.intake.lost_nodes import LostNodes
from dorabatch.daemon.intake.node_kind import Nodes, SavedNode
from dorabatch.daemon.views.defrag_advice import DefragAdvice, defrag_text
from dorabatch.errors import HostKeyChanged, ManifestError, UserError
from dorabatch.resources.cluster import NodeSpec
from dorabatch.resources.manifest import parse_json_document
from dorabatch.resources.names import check_host, check_name, host_and_port
from dorabatch.resources.verbs import Verb

_SCAN = ("host", "port", "user", "name", "allow", "zone")
_ADD = (*_SCAN, "fingerprint")
_SSH_PORT = 22
_BRACKETED = re.compile(r"(\[[^\]]*\]):([0-9]{1,5})")


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRoutes:
    """What an admin does to nodes; `ssh_user` is who logs in where none is said."""

    nodes: Nodes
    lost: LostNodes
    advice: DefragAdvice
    ssh_user: str

    def routes(self) -> tuple[Route, ...]:
        """The routes of this file."""
        return (
            Route(
                method="POST", path="/v1/nodes/scan", kind="Node", verb=Verb.APPLY,
                handler=self.scan, summary="The SSH host key a machine presents",
                body=_SCAN,
            ),
            Route(
                method="POST", path="/v1/nodes", kind="Node", verb=Verb.APPLY,
                handler=self.add, summary="Add a node", body=_ADD,
            ),
            Route(
                method="POST", path="/v1/nodes/{name}/rekey", kind="Node",
                verb=Verb.APPLY, handler=self.rekey, body=("fingerprint",),
                summary="Pin another SSH host key",
            ),
            Route(
                method="POST", path="/v1/nodes/{name}/lost", kind="Node",
                verb=Verb.DELETE, handler=self.lose, body=("dry_run",),
                summary="End the runs of a node that never comes back",
            ),
            Route(
                method="POST", path="/v1/nodes/{name}/{verb}", kind="Node",
                verb=Verb.APPLY, handler=self.change,
                summary="cordon, uncordon or probe a node",
            ),
            Route(
                method="GET", path="/v1/defrag", kind="Node", verb=Verb.APPLY,
                handler=self.defrag, query=("render",),
                summary="What moving restartable containers would gain",
            ),
        )  # fmt: skip

    async def scan(self, call: Call) -> Response:
        """POST /v1/nodes/scan: the key a machine (or a known node) presents.

        Of a machine, everything else that adding it would say is checked before.
        """
        body = await call.body(frozenset(_SCAN))
        name, pinned = text_field(body, "name"), None
        if name and "host" not in body:
            spec, pinned = self.nodes.pinned_key(name)
            host, port = spec.ssh_host, spec.ssh_port
        else:
            host, port = _place(body)
            self.nodes.check_new(*self._described(call, body))
        key = await run_in_threadpool(self.nodes.scan, host, port)
        return json_answer(
            {"key_type": key.key_type, "fingerprint": key.fingerprint, "pinned": pinned}
        )

    async def add(self, call: Call) -> Response:
        """POST /v1/nodes: add a node with the key that was shown and agreed to."""
        body = await call.body(frozenset(_ADD))
        host, port = _place(body)
        fingerprint = text_field(body, "fingerprint")
        if not fingerprint:
            raise UserError("fingerprint: missing; scan the host key first (dnode add)")
        name, node_spec = self._described(call, body)
        key = await run_in_threadpool(self.nodes.scan, host, port)
        _same_key(key.fingerprint, fingerprint, host)
        saved, _ = await run_in_threadpool(
            self.nodes.save, call.caller, name, node_spec
        )
        return json_answer(_message(saved), 201)

    async def rekey(self, call: Call) -> Response:
        """POST /v1/nodes/{name}/rekey: pin another key."""
        body = await call.body(frozenset({"fingerprint"}))
        name, fingerprint = call.word("name"), text_field(body, "fingerprint")
        spec, _ = self.nodes.pinned_key(name)
        key = await run_in_threadpool(self.nodes.scan, spec.ssh_host, spec.ssh_port)
        _same_key(key.fingerprint, fingerprint, name)
        saved = await run_in_threadpool(
            lambda: self.nodes.change(call.caller, name, host_key=key.fingerprint)
        )
        return json_answer(
            {**_message(saved), "message": f"{name}: {key.fingerprint} pinned"}
        )

    async def lose(self, call: Call) -> Response:
        """POST /v1/nodes/{name}/lost: end its runs, or only say which they are."""
        body, name = await call.body(frozenset({"dry_run"})), call.word("name")
        if body.get("dry_run"):
            return json_answer(await run_in_threadpool(self.lost.preview, name))
        found = await run_in_threadpool(self.lost.declare, call.caller, name)
        return json_answer(found)

    async def change(self, call: Call) -> Response:
        """POST /v1/nodes/{name}/cordon, uncordon or probe."""
        name, wanted = call.word("name"), call.word("verb")
        if wanted == "probe":
            self.nodes.probe(name)
            return json_answer(
                {"name": name, "message": f"node {name} is being probed"}
            )
        if wanted not in ("cordon", "uncordon"):
            raise UserError(
                f"{wanted!r} (allowed: cordon, uncordon, probe, rekey, lost)"
            )
        if wanted == "cordon":
            await run_in_threadpool(
                lambda: self.nodes.change(call.caller, name, scheduling_disabled=True)
            )
            state = "takes nothing new"
        else:
            await run_in_threadpool(self.nodes.take_back, call.caller, name)
            state = "is in use again"
        return json_answer({"name": name, "message": f"node {name} {state}"})

    async def defrag(self, call: Call) -> Response:
        """GET /v1/defrag: what moving restartable containers would gain; moves none."""
        found = await run_in_threadpool(self.advice.advise)
        if call.query.get("render") == "json":
            return json_answer({"gains": found})
        return text_answer(defrag_text(found))

    def _described(self, call: Call, body: dict[str, Any]) -> tuple[str, NodeSpec]:
        """The node that a request describes; UserError for what cannot be one."""
        call.check_zone(text_field(body, "zone"))
        host, port = _place(body)
        user = text_field(body, "user") or self.ssh_user
        spec: dict[str, Any] = {"endpoint": f"ssh://{user}@{host_and_port(host, port)}"}
        for field, key in (("fingerprint", "hostKey"), ("allow", "allow")):
            if body.get(field):
                spec[key] = body[field]
        name = _name(text_field(body, "name"), host)
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


def _place(body: dict[str, Any]) -> tuple[str, int]:
    """(host, port); an IPv6 address may bring its port: `[fe80::1]:22`."""
    text, port = body.get("host"), _port(body)
    split = _BRACKETED.fullmatch(text) if isinstance(text, str) else None
    if split is not None:
        text, own = split[1], _port({"port": int(split[2])})
        if "port" in body and port not in (own, _SSH_PORT):
            raise UserError(f"port: {port} and the {own} of the host differ; give one")
        port = own
    try:
        return check_host(text), port
    except (ValueError, ValidationError) as error:
        raise UserError(f"host {error}") from error


def _name(name: str, host: str) -> str:
    if not name and ":" in host:
        raise UserError(f"--name: missing; {host} cannot be a node's name")
    try:
        return check_name(name or host)
    except ValueError as error:
        raise UserError(f"--name {error}") from error


def _port(body: dict[str, Any]) -> int:
    port = body.get("port", _SSH_PORT)
    if not isinstance(port, int) or isinstance(port, bool) or not 1 <= port <= 65535:
        raise UserError(f"port: {port!r} (allowed: 1 to 65535)")
    return port
