"""The routes, in one table: the application and its OpenAPI document.

Every route passes the same border; what is not in the table does not exist.
"""

from dataclasses import dataclass
from importlib.metadata import version

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route as StarletteRoute

from dorabatch.daemon.api import (
    credit_routes,
    kind_routes,
    log_routes,
    node_routes,
    report_routes,
    share_routes,
    whatif_routes,
    workload_routes,
)
from dorabatch.daemon.api.http import Context, Handler, guarded, json_answer
from dorabatch.daemon.api.server import caller_of
from dorabatch.daemon.state.node_view import NodeState
from dorabatch.queue.states import State


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One method of one path."""

    method: str
    path: str
    handler: Handler
    summary: str
    query: tuple[str, ...] = ()
    body: tuple[str, ...] = ()
    answer: str = "application/json"


async def status(context: Context, request: Request) -> Response:
    """GET /v1/status: the daemon in numbers."""
    services = context.services
    views = services.fleet.views()
    live = [w for w in list(services.board.workloads.values()) if w.ended_at is None]
    held = [c for v in views for c in services.board.on_node(v.name)]
    return json_answer(
        {
            "version": version("dorabatch"),
            "zone": services.settings.zone,
            "cluster_id": services.cluster_id,
            "epoch": services.epoch,
            "user": caller_of(request.state, services.settings).user,
            "live_workloads": len(live),
            "queued": len(services.board.pending),
            "running": sum(c.state is State.RUNNING for c in held),
            "nodes": len(views),
            "nodes_ready": sum(v.state is NodeState.READY for v in views),
            "cycles": services.last_plan.cycles,
            "cycle_ms": round(services.last_plan.seconds * 1000, 1),
        }
    )


async def openapi(context: Context, request: Request) -> Response:
    """GET /openapi.json: this table as OpenAPI."""
    return json_answer(openapi_document())


_LIST = (
    "refs", "state", "user", "me", "workspace", "node", "all", "limit", "columns",
    "view", "render", "header",
)  # fmt: skip
_SCOPE = ("zone", "workspace", "render")
_SHARE_ROW = ("action", "name", "parent", "shares", "reason")
_WORKLOAD = "/v1/workloads/{ref:path}"

ROUTES = (
    Route(
        method="POST", path="/v1/workloads", handler=workload_routes.submit,
        summary="Submit a workload; answered once it is on disk", query=("render",),
        body=("manifest", "path", "options", "submission_key"),
    ),
    Route(
        method="POST", path="/v1/quote", handler=workload_routes.ask_quote,
        summary="Cost, credit and expected start of a workload; stores nothing",
        query=("render",), body=("manifest", "path", "options", "submission_key"),
    ),
    Route(
        method="GET", path="/v1/workloads", handler=workload_routes.list_all,
        summary="List workloads", query=_LIST,
    ),
    Route(
        method="GET", path=f"{_WORKLOAD}/why", handler=workload_routes.why,
        summary="Why a workload waits, or is where it is",
        query=("placement", "render"), answer="text/plain",
    ),
    Route(
        method="GET", path=f"{_WORKLOAD}/wait", handler=workload_routes.wait,
        summary="Wait for a workload's end", query=("seconds",),
    ),
    Route(
        method="GET", path=f"{_WORKLOAD}/log", handler=log_routes.log,
        summary="A container's output",
        query=("replica", "attempt", "tail", "offset", "follow"),
        answer="application/octet-stream",
    ),
    Route(
        method="GET", path=_WORKLOAD, handler=workload_routes.show,
        summary="A workload's whole record", query=("render",),
    ),
    Route(
        method="POST", path="/v1/cancel", handler=workload_routes.cancel_many,
        summary="Cancel workloads", query=("render",),
        body=("refs", "all", "states", "user", "me", "workspace", "dry_run"),
    ),
    Route(
        method="POST", path="/v1/apply", handler=kind_routes.apply,
        summary="Create or change what documents describe",
        body=("manifest", "path", "accept_keys"),
    ),
    Route(
        method="POST", path="/v1/delete", handler=kind_routes.delete_documents,
        summary="Delete what documents name", body=("manifest", "path"),
    ),
    Route(
        method="GET", path="/v1/kinds/{kind}", handler=kind_routes.list_kind,
        summary="List the objects of a kind", query=_SCOPE,
    ),
    Route(
        method="GET", path="/v1/kinds/{kind}/{name:path}", handler=kind_routes.describe,
        summary="One object of a kind", query=_SCOPE,
    ),
    Route(
        method="DELETE", path="/v1/kinds/{kind}/{name:path}",
        handler=kind_routes.delete_one,
        summary="Delete one object", query=("zone", "workspace"),
    ),
    Route(
        method="GET", path="/v1/defrag", handler=node_routes.defrag,
        summary="What moving restartable containers would gain", query=("render",),
    ),
    Route(
        method="POST", path="/v1/nodes/scan", handler=node_routes.scan,
        summary="The SSH host key a machine presents",
        body=("host", "port", "user", "name"),
    ),
    Route(
        method="POST", path="/v1/nodes", handler=node_routes.add, summary="Add a node",
        body=("name", "host", "port", "user", "fingerprint", "allow", "zone"),
    ),
    Route(
        method="POST", path="/v1/nodes/{name}/rekey", handler=node_routes.rekey,
        summary="Pin another SSH host key", body=("fingerprint",),
    ),
    Route(
        method="POST", path="/v1/nodes/{name}/{verb}", handler=node_routes.verb,
        summary="cordon, uncordon or probe a node",
    ),
    Route(
        method="GET", path="/v1/shares", handler=share_routes.tree,
        summary="The share tree", query=("name", "render"),
    ),
    Route(
        method="GET", path="/v1/shares/compare", handler=share_routes.compare,
        summary="Where two of the tree first differ",
        query=("first", "second", "render"),
    ),
    Route(
        method="POST", path="/v1/shares/rebuild", handler=share_routes.rebuild,
        summary="Make the cache of use anew from the runs",
    ),
    Route(
        method="POST", path="/v1/shares/account", handler=share_routes.change_account,
        summary="Add, change or remove an account", body=_SHARE_ROW,
    ),
    Route(
        method="POST", path="/v1/shares/user", handler=share_routes.change_user,
        summary="Put a user into an account, or take them out", body=_SHARE_ROW,
    ),
    Route(
        method="GET", path="/v1/policy", handler=share_routes.settings,
        summary="The policy's settings in force", query=("render",),
    ),
    Route(
        method="POST", path="/v1/policy", handler=share_routes.change_settings,
        summary="Change the policy's settings", body=("set", "unset", "reason"),
    ),
    Route(
        method="POST", path="/v1/whatif", handler=whatif_routes.whatif,
        summary="Play the history under other settings",
        body=("set", "since", "shakes"), answer="application/x-ndjson",
    ),
    Route(
        method="GET", path="/v1/policy/log", handler=share_routes.history,
        summary="Who changed what", query=("limit", "render"),
    ),
    Route(
        method="GET", path="/v1/priorities", handler=share_routes.priorities,
        summary="The terms of every waiting workload's priority",
        query=("refs", "render"),
    ),
    Route(
        method="POST", path="/v1/credits/{verb}", handler=credit_routes.order,
        summary="grant, transfer, refund or expire credit",
        body=credit_routes.ORDER_KEYS,
    ),
    Route(
        method="GET", path="/v1/credits/check", handler=credit_routes.check,
        summary="Whether the ledger is sound", answer="application/x-ndjson",
    ),
    Route(
        method="GET", path="/v1/credits/{what}", handler=credit_routes.ask,
        summary="balance, statement or forecast",
        query=("account", "from", "until", "render"),
    ),
    Route(
        method="GET", path="/v1/reports/{name}", handler=report_routes.report,
        summary="A report of a period", answer="text/plain",
        query=("since", "from", "to", "week", "account", "format"),
    ),
    Route(
        method="POST", path="/v1/reports/{name}/mail", handler=report_routes.mail,
        summary="Mail a report, or each user their own statement",
        body=("since", "from", "to", "week", "account", "to_mail"),
    ),
    Route(
        method="GET", path="/v1/status", handler=status,
        summary="The daemon in numbers",
    ),
    Route(
        method="GET", path="/openapi.json", handler=openapi,
        summary="This description",
    ),
)  # fmt: skip


def make_app(context: Context) -> Starlette:
    """The application the server serves."""
    return Starlette(
        routes=[
            StarletteRoute(
                route.path, guarded(context, route.handler), methods=[route.method]
            )
            for route in ROUTES
        ]
    )


def openapi_document() -> dict[str, object]:
    """The routes as an OpenAPI 3.1 document."""
    paths: dict[str, dict[str, object]] = {}
    for route in ROUTES:
        path = route.path.replace(":path}", "}")
        paths.setdefault(path, {})[route.method.lower()] = _operation(route, path)
    return {
        "openapi": "3.1.0",
        "info": {"title": "dorabatch", "version": version("dorabatch")},
        "paths": paths,
    }


def _operation(route: Route, path: str) -> dict[str, object]:
    in_path = [part[1:-1] for part in path.split("/") if part.startswith("{")]
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in in_path
    ] + [
        {"name": name, "in": "query", "required": False, "schema": {"type": "string"}}
        for name in route.query
    ]
    operation: dict[str, object] = {
        "summary": route.summary,
        "operationId": f"{route.method.lower()}{path.replace('/', '-')}",
        "parameters": parameters,
        "responses": {
            "200": {"description": "Done", "content": {route.answer: {}}},
            "default": {
                "description": "A sentence",
                "content": {"application/json": {"schema": _ERROR}},
            },
        },
    }
    if route.body:
        schema = {
            "type": "object",
            "properties": {name: {} for name in route.body},
            "additionalProperties": False,
        }
        operation["requestBody"] = {"content": {"application/json": {"schema": schema}}}
    return operation


_ERROR = {
    "type": "object",
    "properties": {
        "error": {
            "type": "object",
            "properties": {
                "code": {"type": "string"},
                "message": {"type": "string"},
                "exit_status": {"type": "integer"},
            },
        }
    },
}
