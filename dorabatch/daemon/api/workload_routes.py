"""Routes on workloads: submit, list, show, explain, wait, cancel.

Each handler reads the request, calls one duty and shapes the answer; none decides.
"""

import asyncio
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from dorabatch.daemon.api.http import (
    Context,
    json_answer,
    known_keys,
    read_body,
    text_answer,
    text_field,
)
from dorabatch.daemon.intake.cancel import Selection, cancel, selected
from dorabatch.daemon.intake.quote import quote, quote_text
from dorabatch.daemon.intake.submissions import AUTOMATIC_NAME
from dorabatch.daemon.rights import check_owner
from dorabatch.daemon.views.describe import describe_workload, workload_record
from dorabatch.daemon.views.listing import answer, parse_question
from dorabatch.daemon.views.summary import (
    containers_of,
    find_workload,
    summarize_containers,
    workload_label,
)
from dorabatch.daemon.views.why import why_record, why_text
from dorabatch.errors import UserError
from dorabatch.queue.records import Workload
from dorabatch.resources.manifest import parse_manifest
from dorabatch.resources.submission import workload_from_options
from dorabatch.resources.workload import WorkloadDocument

_POLL_SECONDS = 0.05
_WAIT_SECONDS_MAX = 300.0
_UNNAMED = "unnamed"
_SUBMIT_KEYS = frozenset({"manifest", "path", "options", "submission_key"})
_CANCEL_KEYS = frozenset(
    {"refs", "all", "states", "user", "workspace", "dry_run", "me"}
)


async def submit(context: Context, request: Request) -> Response:
    """POST /v1/workloads: admit and store; the answer comes after the disk."""
    body = await read_body(context, request)
    known_keys(body, _SUBMIT_KEYS)
    document, warnings, is_named = _document(body)
    new, more = context.intake.admit(
        context.caller(request),
        document,
        name=None if is_named else AUTOMATIC_NAME,
        submission_key=text_field(body, "submission_key") or None,
    )
    done = await asyncio.wrap_future(context.submissions.submit(new))
    warnings += more
    if request.query_params.get("render") == "id":
        reply = text_answer(f"{done.workload_id}\n", warnings)
        reply.status_code = 201
        return reply
    record = {
        "id": done.workload_id,
        "workspace": done.workspace,
        "name": done.name,
        "containers": done.replicas,
        "warnings": warnings,
    }
    return json_answer(record, 201)


async def ask_quote(context: Context, request: Request) -> Response:
    """POST /v1/quote: cost, credit and expected start; nothing is stored."""
    body = await read_body(context, request)
    known_keys(body, _SUBMIT_KEYS)
    document, warnings, _ = _document(body)
    caller = context.caller(request)
    record = await run_in_threadpool(
        quote, context.services, context.intake, caller, document
    )
    warnings += record.pop("warnings")
    if request.query_params.get("render") == "text":
        return text_answer(quote_text(record), warnings)
    return json_answer({**record, "warnings": warnings})


def _document(body: dict[str, Any]) -> tuple[WorkloadDocument, list[str], bool]:
    if ("manifest" in body) == ("options" in body):
        raise UserError("a submission has either a manifest or options")
    if "options" in body:
        options = body["options"]
        if not isinstance(options, dict):
            raise UserError("options must be a JSON object")
        document = workload_from_options(options, default_name=_UNNAMED)
        return document, [], bool(options.get("name"))
    path = text_field(body, "path")
    manifest = parse_manifest(text_field(body, "manifest"), path=path)
    documents = manifest.documents
    if len(documents) != 1 or not isinstance(documents[0], WorkloadDocument):
        kinds = ", ".join(one.kind for one in documents)
        raise UserError(
            f"{path}: dsub takes one Workload, this holds {kinds}; use dora apply -f"
        )
    return documents[0], list(manifest.warnings), True


async def list_all(context: Context, request: Request) -> Response:
    """GET /v1/workloads: the rows that match the query."""
    query = dict(request.query_params)
    caller = context.caller(request).user
    if query.get("me") == "1":
        query["user"] = caller
    if query.get("header") == "0" and query.get("render", "table") == "table":
        query["render"] = "noheader"
    refs = [ref for ref in query.get("refs", "").split(",") if ref]
    question = parse_question(query, refs, caller)
    media, body = await run_in_threadpool(
        answer, context.services, context.kept_rows, question
    )
    return Response(body, media_type=media)


async def show(context: Context, request: Request) -> Response:
    """GET /v1/workloads/{ref}: the whole record."""
    workload = _find(context, request)
    caller = context.caller(request)
    check_owner(caller, workload.submitter.user, workload_label(workload))
    record = await run_in_threadpool(workload_record, context.services, workload)
    if request.query_params.get("render") == "text":
        return text_answer(describe_workload(record))
    return json_answer(record)


async def why(context: Context, request: Request) -> Response:
    """GET /v1/workloads/{ref}/why: why it waits, or why it is where it is."""
    workload = _find(context, request)
    if request.query_params.get("render") == "json":
        return json_answer(
            await run_in_threadpool(why_record, context.services, workload)
        )
    has_placement = request.query_params.get("placement") == "1"
    text = await run_in_threadpool(
        why_text, context.services, workload, has_placement=has_placement
    )
    return text_answer(text)


async def wait(context: Context, request: Request) -> Response:
    """GET /v1/workloads/{ref}/wait: answer at the end, or after `seconds`."""
    workload = _find(context, request)
    text = request.query_params.get("seconds", str(_WAIT_SECONDS_MAX))
    try:
        patience = min(float(text), _WAIT_SECONDS_MAX)
    except ValueError as error:
        raise UserError(f"seconds: {text!r} (allowed: a number)") from error
    clock = context.services.clock
    until = clock.monotonic() + patience
    board = context.services.board
    while workload.ended_at is None and clock.monotonic() < until:
        await asyncio.sleep(_POLL_SECONDS)
        workload = board.workloads.get(workload.workload_id, workload)
    summary = summarize_containers(containers_of(context.services, workload))
    record = {
        "id": workload.workload_id,
        "state": str(summary.state),
        "outcome": str(summary.outcome) if summary.outcome else None,
        "exit_code": summary.exit_code,
        "ended": workload.ended_at is not None,
    }
    return json_answer(record)


async def cancel_many(context: Context, request: Request) -> Response:
    """POST /v1/cancel: end what the selection means, or only say what it means."""
    body = await read_body(context, request)
    known_keys(body, _CANCEL_KEYS)
    caller = context.caller(request)
    wanted = _selection(body, caller.user)
    services = context.services
    chosen = await run_in_threadpool(selected, services, caller, wanted)
    count = 0
    if not body.get("dry_run"):
        count = await run_in_threadpool(
            cancel, services, context.keepers, caller, chosen
        )
    if request.query_params.get("render") == "text":
        lines = [f"cancelled {w.workload_id} {w.workspace}/{w.name}\n" for w in chosen]
        return text_answer("".join(lines) or "nothing matched\n")
    matched = [
        {
            "id": w.workload_id,
            "name": w.name,
            "workspace": w.workspace,
            "state": str(summarize_containers(containers_of(services, w)).state),
        }
        for w in chosen
    ]
    return json_answer({"matched": matched, "cancelled": count})


def _selection(body: dict[str, Any], user: str) -> Selection:
    return Selection(
        refs=_texts(body, "refs"),
        is_all=bool(body.get("all")),
        states=_texts(body, "states"),
        user=text_field(body, "user") or (user if body.get("me") else None),
        workspace=text_field(body, "workspace") or None,
    )


def _texts(body: dict[str, Any], name: str) -> tuple[str, ...]:
    value = body.get(name) or []
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise UserError(f"{name}: {value!r} (allowed: a list of texts)")
    return tuple(value)


def _find(context: Context, request: Request) -> Workload:
    ref = request.path_params["ref"]
    caller = context.caller(request)
    place = request.query_params.get("workspace") or context.home(caller)
    return find_workload(context.services, ref, place)
