"""Routes on holds: keep workloads from starting, and let them start again.

What can be done is done: the answer says of each workload what became of it. Decides
nothing itself.
"""

from collections.abc import Callable
from dataclasses import dataclass

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from dorabatch.daemon.api.http import Call, Route, json_answer, text_field, text_list
from dorabatch.daemon.intake.holds import Holds
from dorabatch.daemon.rights import may_everywhere
from dorabatch.daemon.views.summary import WorkloadFinder, workload_label
from dorabatch.errors import DorabatchError, UserError
from dorabatch.queue.records import Workload
from dorabatch.resources.verbs import Verb

_BODY = ("refs", "workspace", "reason")


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldRoutes:
    """Holding and releasing."""

    holds: Holds
    finder: WorkloadFinder

    def routes(self) -> tuple[Route, ...]:
        """The routes of this file."""
        return (
            Route(
                method="POST", path="/v1/hold", kind="Workload", verb=Verb.PAUSE,
                handler=self.hold, summary="Let workloads wait until released",
                body=_BODY,
            ),
            Route(
                method="POST", path="/v1/release", kind="Workload", verb=Verb.RESUME,
                handler=self.release, summary="Let held workloads start again",
                body=_BODY,
            ),
        )  # fmt: skip

    async def hold(self, call: Call) -> Response:
        """POST /v1/hold: nothing of these starts until they are released."""
        body = await call.body(frozenset(_BODY))
        reason, user = text_field(body, "reason"), call.caller.user
        return await self._each(
            call, body, lambda one: self.holds.hold(user, one, reason)
        )

    async def release(self, call: Call) -> Response:
        """POST /v1/release: these may start again."""
        body = await call.body(frozenset(_BODY))
        caller = call.caller
        of_all = may_everywhere(caller, call.verb, call.kind, call.zone)
        return await self._each(
            call,
            body,
            lambda one: self.holds.release(caller.user, one, of_all=of_all),
        )

    async def _each(
        self, call: Call, body: dict[str, object], do: Callable[[Workload], Workload]
    ) -> Response:
        refs = text_list(body, "refs")
        if not refs:
            raise UserError("which workloads? Name ids or workloads")
        workspace = text_field(body, "workspace") or call.home
        results = [
            await run_in_threadpool(self._one, call, ref, workspace, do) for ref in refs
        ]
        return json_answer({"results": results})

    def _one(
        self, call: Call, ref: str, workspace: str, do: Callable[[Workload], Workload]
    ) -> dict[str, object]:
        try:
            workload = self.finder.find(call.caller, ref, workspace)
            label = workload_label(workload)
            call.require_run(workload)
            after = do(workload)
        except DorabatchError as error:
            status = error.exit_status
            return {"ref": ref, "error": error.message, "exit_status": status}
        hold = after.start_hold
        said = hold.words if hold else "may start"
        return {"ref": ref, "id": after.workload_id, "message": f"{label} {said}"}
