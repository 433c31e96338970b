"""Routes on the daemon itself: its numbers, and whether it is well.

The numbers are read from memory; changes nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version

from starlette.responses import Response

from dorabatch.daemon.api.health import Health
from dorabatch.daemon.api.http import Call, Route, json_answer
from dorabatch.daemon.state.daemon_identity import DaemonIdentity
from dorabatch.daemon.state.fleet import Fleet
from dorabatch.daemon.state.last_plan import LatestPlan
from dorabatch.daemon.state.node_view import NodeState, NodeView
from dorabatch.queue.board import Board
from dorabatch.queue.states import State
from dorabatch.resources.verbs import Verb


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusRoutes:
    """What the daemon says of itself."""

    board: Board
    fleet: Fleet
    latest: LatestPlan
    identity: DaemonIdentity
    health: Health

    def routes(self) -> tuple[Route, ...]:
        """The routes of this file."""
        return (
            Route(
                method="GET", path="/v1/status", kind="Zone", verb=Verb.GET,
                handler=self.status, summary="The daemon in numbers",
            ),
            Route(
                method="GET", path="/v1/health", kind="Zone", verb=Verb.GET,
                handler=self.tell_health,
                summary="Whether the daemon is well; 503 where it is not",
            ),
        )  # fmt: skip

    async def status(self, call: Call) -> Response:
        """GET /v1/status: the daemon in numbers."""
        views, last = self.fleet.views(), self.latest.last
        workloads = list(self.board.workloads.values())
        health = await self.health.check()
        held = [one for view in views for one in self.board.on_node(view.name)]
        return json_answer(
            {
                "version": version("dorabatch"),
                "zone": self.identity.zone,
                "cluster_id": self.identity.cluster_id,
                "epoch": self.identity.epoch,
                "user": call.caller.user,
                "health": health.sentence,
                "clock_steps": health.clock_steps,
                "clock_ahead_seconds": health.clock_ahead_seconds,
                "live_workloads": sum(one.ended_at is None for one in workloads),
                "queued": len(self.board.pending),
                "running": sum(one.state is State.RUNNING for one in held),
                "nodes": len(views),
                "nodes_ready": sum(view.told[0] is NodeState.READY for view in views),
                "nodes_refusing": len(_refusing(views)),
                "cycles": last.cycles,
                "cycle_ms": round(last.seconds * 1000, 1),
            }
        )

    async def tell_health(self, _call: Call) -> Response:
        """GET /v1/health: 200 where all is well, else 503; the same fields in both."""
        health = await self.health.check()
        found = {
            "ok": health.is_ok,
            "threads_dead": health.threads_dead,
            "threads_failing": health.threads_failing,
            "database": health.database,
            "nodes_refusing": _refusing(self.fleet.views()),
            "clock_steps": health.clock_steps,
            "clock_ahead_seconds": health.clock_ahead_seconds,
        }
        return json_answer(found, 200 if health.is_ok else 503)


def _refusing(views: Sequence[NodeView]) -> list[str]:
    """Nodes that are put aside because they refuse starts; the daemon is well so."""
    return [view.name for view in views if view.refusal is not None]
