"""Routes that change workloads: submit, quote, cancel.

Each handler reads the request, calls one duty and shapes the answer; none decides.
"""

import asyncio
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from dorabatch.daemon.api.http import (
    Call,
    Route,
    json_answer,
    text_answer,
    text_field,
    text_list,
)
from dorabatch.daemon.intake.admit import Intake
from dorabatch.daemon.intake.cancel import Cancelling, Selection
from dorabatch.daemon.intake.quote import Quotes, quote_text
from dorabatch.daemon.intake.submissions import AUTOMATIC_NAME, Submissions
from dorabatch.daemon.views.summary import WorkloadFinder, summarize_containers
from dorabatch.errors import UserError
from dorabatch.queue.records import StartHold, Workload
from dorabatch.resources.manifest import parse_manifest
from dorabatch.resources.submission import workload_from_options
from dorabatch.resources.verbs import Verb
from dorabatch.resources.workload import WorkloadDocument

_SUBMISSION = ("manifest", "path", "options", "submission_key")
_HELD = (*_SUBMISSION, "hold")
_SELECTION = ("refs", "all", "states", "user", "me", "workspace", "dry_run")
_UNNAMED = "unnamed"


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitRoutes:
    """What people do to workloads."""

    intake: Intake
    submissions: Submissions
    quotes: Quotes
    cancelling: Cancelling
    finder: WorkloadFinder

    def routes(self) -> tuple[Route, ...]:
        """The routes of this file."""
        return (
            Route(
                method="POST", path="/v1/workloads", kind="Workload", verb=Verb.APPLY,
                handler=self.submit, query=("render",), body=_HELD,
                summary="Submit a workload; answered once it is on disk",
            ),
            Route(
                method="POST", path="/v1/quote", kind="Workload", verb=Verb.APPLY,
                handler=self.quote, query=("render",), body=_SUBMISSION,
                summary="Cost, credit and expected start of a workload; stores nothing",
            ),
            Route(
                method="POST", path="/v1/cancel", kind="Workload", verb=Verb.DELETE,
                handler=self.cancel, query=("render",), body=_SELECTION,
                summary="Cancel workloads",
            ),
        )  # fmt: skip

    async def submit(self, call: Call) -> Response:
        """POST /v1/workloads: admit and store; the answer comes after the disk."""
        body = await call.body(frozenset(_HELD))
        document, warnings, is_named = _document(body)
        admit = partial(
            self.intake.admit,
            call.caller,
            document,
            name=None if is_named else AUTOMATIC_NAME,
            submission_key=text_field(body, "submission_key") or None,
        )
        # What it waits for may have to be looked up in the database.
        waits = document.spec.dependency is not None
        new, more = await run_in_threadpool(admit) if waits else admit()
        if body.get("hold"):
            new = replace(new, start_hold=StartHold(by=call.caller.user, reason=""))
        done = await asyncio.wrap_future(self.submissions.submit(new))
        warnings += more
        if call.query.get("render") == "id":
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

    async def quote(self, call: Call) -> Response:
        """POST /v1/quote: cost, credit and expected start; nothing is stored."""
        body = await call.body(frozenset(_SUBMISSION))
        document, warnings, _ = _document(body)
        record = await run_in_threadpool(self.quotes.quote, call.caller, document)
        warnings += record.pop("warnings")
        if call.query.get("render") == "text":
            return text_answer(quote_text(record), warnings)
        return json_answer({**record, "warnings": warnings})

    async def cancel(self, call: Call) -> Response:
        """POST /v1/cancel: end what the selection means, or only say what it means."""
        body = await call.body(frozenset(_SELECTION))
        wanted = _selection(body, call.caller.user)
        chosen = await run_in_threadpool(self.cancelling.selected, call.caller, wanted)
        count = 0
        if not body.get("dry_run"):
            count = await run_in_threadpool(self.cancelling.cancel, call.caller, chosen)
        if call.query.get("render") == "text":
            lines = [
                f"cancelled {one.workload_id} {one.workspace}/{one.name}\n"
                for one in chosen
            ]
            return text_answer("".join(lines) or "nothing matched\n")
        matched = [self._matched(one) for one in chosen]
        return json_answer({"matched": matched, "cancelled": count})

    def _matched(self, workload: Workload) -> dict[str, object]:
        summary = summarize_containers(self.finder.containers_of(workload))
        return {
            "id": workload.workload_id,
            "name": workload.name,
            "workspace": workload.workspace,
            "state": str(summary.state),
        }


def _document(body: dict[str, Any]) -> tuple[WorkloadDocument, list[str], bool]:
    """(the workload, warnings, whether it was given a name)."""
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


def _selection(body: dict[str, Any], user: str) -> Selection:
    return Selection(
        refs=text_list(body, "refs"),
        is_all=bool(body.get("all")),
        states=text_list(body, "states"),
        user=text_field(body, "user") or (user if body.get("me") else None),
        workspace=text_field(body, "workspace") or None,
    )
