"""Routes on kinds: apply, list, describe, delete.

One table says what each kind can do; the rules are in the modules it names,
none is here.
"""

from typing import Any

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
from dorabatch.daemon.intake.credit_kinds import KINDS as CREDIT_KINDS
from dorabatch.daemon.intake.credit_kinds import CreditKinds
from dorabatch.daemon.intake.plain_kinds import PlainKinds
from dorabatch.daemon.intake.workload_kind import Applied
from dorabatch.daemon.rights import Caller, Verb, check_kind, check_owner
from dorabatch.daemon.views import rows
from dorabatch.daemon.views.describe import (
    describe_object,
    describe_workload,
    workload_record,
)
from dorabatch.daemon.views.listing import answer, parse_question
from dorabatch.daemon.views.summary import find_workload
from dorabatch.errors import DorabatchError, NotFound, UserError
from dorabatch.resources.cluster import Node, Zone
from dorabatch.resources.document import Document
from dorabatch.resources.manifest import parse_manifest
from dorabatch.resources.people import Workspace
from dorabatch.resources.workload import WorkloadDocument

SERVED = ("Workload", "Container", "Node", "Zone", "Workspace", *CREDIT_KINDS)
_APPLY_KEYS = frozenset({"manifest", "path", "accept_keys"})


async def apply(context: Context, request: Request) -> Response:
    """POST /v1/apply: each document in order; a refusal does not undo others."""
    body = await read_body(context, request)
    known_keys(body, _APPLY_KEYS)
    manifest = parse_manifest(
        text_field(body, "manifest"), path=text_field(body, "path")
    )
    accepted = body.get("accept_keys") or {}
    if not isinstance(accepted, dict):
        raise UserError("accept_keys must be a JSON object")
    caller = context.caller(request)
    run = _Application(context, caller, accepted)
    for document in manifest.documents:
        await run_in_threadpool(run.apply, document)
    return json_answer(
        {
            "results": run.results,
            "warnings": [*manifest.warnings, *run.warnings],
            "unpinned": run.unpinned,
        }
    )


async def delete_documents(context: Context, request: Request) -> Response:
    """POST /v1/delete: delete what the documents name, last applied first."""
    body = await read_body(context, request)
    known_keys(body, _APPLY_KEYS)
    manifest = parse_manifest(
        text_field(body, "manifest"), path=text_field(body, "path")
    )
    caller = context.caller(request)
    results = []
    for document in reversed(manifest.documents):
        place = document.workspace or context.home(caller)
        try:
            result, message = await run_in_threadpool(
                _delete, context, caller, document.kind, document.name, place
            )
        except DorabatchError as error:
            result, message = "refused", error.message
        results.append(_result(document.kind, document.name, result, message))
    return json_answer({"results": results, "warnings": []})


async def list_kind(context: Context, request: Request) -> Response:
    """GET /v1/kinds/{kind}: all of them, or the one of a name."""
    kind, query = _kind(request), dict(request.query_params)
    caller = context.caller(request)
    check_kind(caller, Verb.GET, kind)
    check_zone(context, query.get("zone"))
    name = query.get("name")
    if kind == "Workload" or (kind == "Container" and name is None):
        query["view"] = "containers" if kind == "Container" else ""
        question = parse_question(query, [name] if name else [], caller.user)
        media, body = await run_in_threadpool(
            answer, context.services, context.kept_rows, question
        )
        return Response(body, media_type=media)
    if name is None:
        found = await run_in_threadpool(_records, context, caller, kind)
    else:
        place = query.get("workspace") or context.home(caller)
        found = [await run_in_threadpool(_record, context, caller, kind, name, place)]
    if query.get("render") == "json":
        return json_answer(found)
    return text_answer(_table(context, kind, found))


async def describe(context: Context, request: Request) -> Response:
    """GET /v1/kinds/{kind}/{name}."""
    kind, name = _kind(request), request.path_params["name"]
    caller = context.caller(request)
    check_kind(caller, Verb.GET, kind)
    check_zone(context, request.query_params.get("zone"))
    is_json = request.query_params.get("render") == "json"
    place = request.query_params.get("workspace") or context.home(caller)
    record = await run_in_threadpool(_record, context, caller, kind, name, place)
    if kind in ("Workload", "Container"):
        check_owner(caller, record["user"], f"{kind.lower()} {name}")
    if is_json:
        return json_answer(record)
    return text_answer(
        describe_workload(record) if kind == "Workload" else describe_object(record)
    )


async def delete_one(context: Context, request: Request) -> Response:
    """DELETE /v1/kinds/{kind}/{name}."""
    kind, name = _kind(request), request.path_params["name"]
    caller = context.caller(request)
    check_zone(context, request.query_params.get("zone"))
    place = request.query_params.get("workspace") or context.home(caller)
    result, message = await run_in_threadpool(
        _delete, context, caller, kind, name, place
    )
    return json_answer({"result": result, "message": message})


class _Application:
    """The documents of one request, applied one after the other."""

    def __init__(
        self, context: Context, caller: Caller, accepted: dict[str, Any]
    ) -> None:
        self._context = context
        self._caller = caller
        self._accepted = accepted
        self.results: list[dict[str, str]] = []
        self.warnings: list[str] = []
        self.unpinned: list[dict[str, str]] = []

    def apply(self, document: Document) -> None:
        """Apply one document; a refusal becomes its result."""
        try:
            done = self._apply(document)
        except DorabatchError as error:
            refusal = _result(document.kind, document.name, "refused", error.message)
            self.results.append(refusal)
            return
        self.results.append(_result(done.kind, done.name, done.result, done.message))

    def _apply(self, document: Document) -> Applied:
        check_kind(self._caller, Verb.APPLY, document.kind)
        if isinstance(document, WorkloadDocument):
            done, warnings = self._context.applier.apply(self._caller, document)
            self.warnings += warnings
            return done
        if isinstance(document, Node):
            return self._apply_node(document)
        if document.kind in CREDIT_KINDS:
            done, more = CreditKinds(self._context.services).apply(
                self._caller, document
            )
            self.warnings += more
            return done
        if isinstance(document, Zone | Workspace):
            plain = PlainKinds(self._context.services, self._context.intake)
            return plain.apply(self._caller, document)
        raise UserError(
            f"kind {document.kind}: this daemon does not serve it yet (served: "
            f"{', '.join(SERVED)})"
        )

    def _apply_node(self, document: Node) -> Applied:
        zone = self._context.services.settings.zone
        if document.zone not in (None, zone):
            raise UserError(
                f"metadata.zone: {document.zone!r} is not served here (served: {zone})"
            )
        spec = document.spec
        key = self._accepted.get(document.name)
        if isinstance(key, str) and spec.host_key is None:
            spec = spec.model_copy(update={"host_key": key})
        saved, unpinned = self._context.nodes.save(self._caller, document.name, spec)
        if unpinned is not None:
            self.unpinned.append(
                {
                    "node": document.name,
                    "key_type": unpinned.key_type,
                    "fingerprint": unpinned.fingerprint,
                }
            )
        return Applied(
            kind="Node", name=saved.name, result=saved.result, message=saved.message
        )


def _records(context: Context, caller: Caller, kind: str) -> list[rows.Row]:
    services = context.services
    if kind == "Node":
        return [rows.node_row(services, view) for view in services.fleet.views()]
    if kind in CREDIT_KINDS:
        return CreditKinds(services).records(caller, kind)
    return PlainKinds(services, context.intake).records(kind)


def _table(context: Context, kind: str, found: list[rows.Row]) -> str:
    services = context.services
    if kind == "Node":
        return rows.render_table(found, rows.NODE_CELLS, rows.NODE_COLUMNS)
    if kind == "Container":
        return rows.render_table(found, rows.CONTAINER_CELLS, rows.CONTAINER_COLUMNS)
    if kind in CREDIT_KINDS:
        return CreditKinds(services).table(kind, found)
    return PlainKinds(services, context.intake).table(kind, found)


def _record(
    context: Context, caller: Caller, kind: str, name: str, place: str
) -> rows.Row:
    services = context.services
    if kind in CREDIT_KINDS:
        return CreditKinds(services).record(caller, kind, name)
    if kind == "Workload":
        return workload_record(services, find_workload(services, name, place))
    if kind == "Container":
        return _container_record(context, name, place)
    if kind == "Node":
        view = services.fleet.get(name)
        if view is None:
            names = ", ".join(v.name for v in services.fleet.views()) or "none"
            raise NotFound(f"no node {name!r} (known: {names})")
        return rows.node_row(services, view)
    return PlainKinds(services, context.intake).record(kind, name)


def _container_record(context: Context, name: str, place: str) -> dict[str, Any]:
    ref, _, replica = name.rpartition(".")
    if not ref or not (replica.isdecimal() and len(replica) < 10):
        raise UserError(f"container {name!r}: write WORKLOAD.REPLICA, such as train.1")
    services = context.services
    record = workload_record(services, find_workload(services, ref, place))
    for container in record["containers"]:
        if container["replica"] == int(replica):
            attempts = [a for a in record["attempts"] if a["replica"] == int(replica)]
            return {**container, "attempts": attempts}
    raise NotFound(f"workload {ref!r} has no container {replica}")


def _delete(
    context: Context, caller: Caller, kind: str, name: str, place: str
) -> tuple[str, str]:
    check_kind(caller, Verb.DELETE, kind)
    if kind == "Workload":
        workload = find_workload(context.services, name, place)
        if workload.ended_at is not None:
            raise NotFound(f"workload {name!r} has ended already; nothing to delete")
        return context.applier.delete(caller, workload), f"workload {name}"
    if kind == "Container":
        raise UserError(
            "containers are made and ended by the scheduler: cancel the workload "
            "(dcancel) or change spec.replica.count"
        )
    if kind == "Node":
        context.nodes.remove(caller, name)
        return "deleted", f"node {name} removed"
    if kind in CREDIT_KINDS:
        return CreditKinds(context.services).delete(caller, kind, name)
    return PlainKinds(context.services, context.intake).delete(caller, kind, name)


def _kind(request: Request) -> str:
    kind: str = request.path_params["kind"]
    if kind not in SERVED:
        raise UserError(f"unknown kind {kind!r} (served: {', '.join(SERVED)})")
    return kind


def _result(kind: str, name: str, result: str, message: str) -> dict[str, str]:
    return {"kind": kind, "name": name, "result": result, "message": message}
