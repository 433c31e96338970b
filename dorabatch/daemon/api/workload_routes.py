"""Routes that show workloads: list, show, explain, wait.

Each handler reads the request, calls one duty and shapes the answer; none changes
anything.
"""

import asyncio
from contextlib import suppress
from dataclasses import dataclass

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from dorabatch.daemon.api.http import Call, Route, json_answer, text_answer
from dorabatch.daemon.api.waiting import changes_of, while_there
from dorabatch.daemon.views.describe import WorkloadRecords, describe_workload
from dorabatch.daemon.views.listing import WorkloadListing, parse_question
from dorabatch.daemon.views.summary import (
    WorkloadFinder,
    summarize_containers,
)
from dorabatch.daemon.views.why import Why
from dorabatch.errors import UserError
from dorabatch.queue.records import Workload
from dorabatch.resources.verbs import Verb

_WAIT_SECONDS_MAX = 300.0
_WORKLOAD = "/v1/workloads/{ref:path}"
_LIST = (
    "refs", "state", "user", "me", "workspace", "node", "all", "limit", "columns",
    "view", "render", "header",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadRoutes:
    """What people see of workloads."""

    finder: WorkloadFinder
    listing: WorkloadListing
    records: WorkloadRecords
    reasons: Why

    def routes(self) -> tuple[Route, ...]:
        """The routes of this file."""
        return (
            Route(
                method="GET", path="/v1/workloads", kind="Workload", verb=Verb.GET,
                handler=self.list_all, summary="List workloads", query=_LIST,
            ),
            Route(
                method="GET", path=f"{_WORKLOAD}/why", kind="Workload", verb=Verb.GET,
                handler=self.why, summary="Why a workload waits, or is where it is",
                query=("placement", "render"), answer="text/plain",
            ),
            Route(
                method="GET", path=f"{_WORKLOAD}/wait", kind="Workload", verb=Verb.GET,
                handler=self.wait, summary="Wait for a workload's end",
                query=("seconds",),
            ),
            Route(
                method="GET", path=_WORKLOAD, kind="Workload", verb=Verb.DESCRIBE,
                handler=self.show, summary="A workload's whole record",
                query=("render",),
            ),
        )  # fmt: skip

    async def list_all(self, call: Call) -> Response:
        """GET /v1/workloads: the rows that match the query."""
        query, user = call.query, call.caller.user
        if query.get("me") == "1":
            query["user"] = user
        if query.get("header") == "0" and query.get("render", "table") == "table":
            query["render"] = "noheader"
        refs = [ref for ref in query.get("refs", "").split(",") if ref]
        question = parse_question(query, refs, user)
        media, body = await run_in_threadpool(
            self.listing.answer, question, call.caller
        )
        return Response(body, media_type=media)

    async def show(self, call: Call) -> Response:
        """GET /v1/workloads/{ref}: the whole record."""
        record = await run_in_threadpool(self.records.record, self._named(call))
        if call.query.get("render") == "text":
            return text_answer(describe_workload(record))
        return json_answer(record)

    async def why(self, call: Call) -> Response:
        """GET /v1/workloads/{ref}/why: why it waits, or why it is where it is."""
        workload = self._named(call)
        if call.query.get("render") == "json":
            return json_answer(await run_in_threadpool(self.reasons.record, workload))
        has_placement = call.query.get("placement") == "1"
        text = await run_in_threadpool(
            self.reasons.text, workload, has_placement=has_placement
        )
        return text_answer(text)

    async def wait(self, call: Call) -> Response:
        """GET /v1/workloads/{ref}/wait: answer at the end, or after `seconds`."""
        waiting = self._ended(self._named(call), _patience(call.query))
        call.begin_stream()
        workload = await while_there(call.request, waiting)
        summary = summarize_containers(self.finder.containers_of(workload))
        return json_answer(
            {
                "id": workload.workload_id,
                "state": str(summary.state),
                "outcome": str(summary.outcome) if summary.outcome else None,
                "exit_code": summary.exit_code,
                "ended": workload.ended_at is not None,
            }
        )

    async def _ended(self, workload: Workload, seconds: float) -> Workload:
        """The workload once it has ended, or as it is after so long."""
        with (
            changes_of(self.finder.board, workload.workload_id) as changed,
            suppress(TimeoutError),
        ):
            async with asyncio.timeout(seconds):
                while (workload := self.finder.latest(workload)).ended_at is None:
                    await changed.wait()
                    changed.clear()
        return workload

    def _named(self, call: Call) -> Workload:
        """The workload that the path names, if the caller may do this to it."""
        workload = self.finder.find(call.caller, call.word("ref"), call.workspace)
        call.require_run(workload)
        return workload


def _patience(query: dict[str, str]) -> float:
    text = query.get("seconds", str(_WAIT_SECONDS_MAX))
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not seconds >= 0:
        raise UserError(f"seconds: {text!r} (allowed: a number from 0)")
    return min(seconds, _WAIT_SECONDS_MAX)
