"""What each node answers to one waiting container, and what would start it now.

Looks at what is free at this moment and at the latest plan; plans nothing itself.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from dorabatch.daemon.cycle.take_snapshot import take_snapshot
from dorabatch.daemon.state.avoided_nodes import AvoidedNodes
from dorabatch.daemon.state.fleet import Fleet
from dorabatch.daemon.state.last_plan import LastPlan, LatestPlan
from dorabatch.daemon.state.node_view import NodeView
from dorabatch.daemon.views.table_layout import Row
from dorabatch.placer.arrays.feasible import (
    GPUS,
    NODE_NOT_READY,
    PORT,
    RESERVED,
    SCHEDULING_DISABLED,
    START_REFUSED,
)
from dorabatch.placer.arrays.types import UNKNOWN_US, Waiting
from dorabatch.placer.explain.node_verdicts import (
    NodeVerdict,
    closest,
    missing_amounts,
    node_verdicts,
)
from dorabatch.placer.explain.words import cpu_words
from dorabatch.queue.board import Board
from dorabatch.queue.records import Container


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeAnswers:
    """The answers of one zone's nodes."""

    board: Board
    fleet: Fleet
    latest: LatestPlan
    avoided: AvoidedNodes

    def of(self, container: Container) -> tuple[str, list[Row]]:
        """(what would start it now, each node's answer) as things stand."""
        avoided = self.avoided.now
        snapshot = take_snapshot(self.board, self.fleet.views(), avoided=avoided)
        rows = np.flatnonzero(snapshot.pending.key == container.container_id)
        if len(rows) == 0:
            return "", []
        last = self.latest.last
        request, cluster = snapshot.requests(rows[:1]), snapshot.cluster
        kept = _kept_from(last, container, cluster.names)
        verdicts = node_verdicts(request, cluster, list(kept))
        near = closest(request, cluster, verdicts)
        details = [
            self._detail(container, one, snapshot.nodes[one.node], kept)
            for one in verdicts
        ]
        remedy = ""
        if near is not None:
            remedy = _remedy(
                near,
                cluster.names[near.node],
                details[near.node],
                is_kept_open=near.node in kept and kept[near.node].is_open,
                is_first=_is_first(last, container),
            )
        named = zip(verdicts, details, strict=True)
        return remedy, [_node_row(one, cluster.names, detail) for one, detail in named]

    def _detail(
        self,
        container: Container,
        one: NodeVerdict,
        view: NodeView,
        kept: "Mapping[int, _Kept]",
    ) -> str:
        if one.reason == NODE_NOT_READY:
            state, reason = view.told
            return f"{state}: {reason}" if reason else str(state)
        if one.reason == SCHEDULING_DISABLED:
            return f"cordoned; dnode uncordon {view.name}"
        if one.reason == PORT:
            return self._port_words(container, view.name)
        if one.reason == START_REFUSED:
            found = self.avoided.of(container.workload_id, view.name)
            return found.words if found else ""
        if one.reason == RESERVED:
            return kept[one.node].words
        if one.reason == GPUS and view.kept_out:
            return view.reason or _used_words(len(view.kept_out))
        return ""

    def _port_words(self, container: Container, node: str) -> str:
        """`workload 7 publishes port 20001/tcp`: who has what it wants on a node."""
        board = self.board
        workload = board.workloads[container.workload_id]
        wanted = board.demand_of(workload, container.replica).restriction.ports
        for other in board.on_node(node):
            for port in other.hold.ports if other.hold else ():
                if port in wanted:
                    protocol, number = port.split("/")
                    owner = other.workload_id
                    return f"workload {owner} publishes port {number}/{protocol}"
        return ""


_NOT_USED = (NODE_NOT_READY, SCHEDULING_DISABLED, START_REFUSED)


class _Kept(NamedTuple):
    """Why a node is kept from one that waits; `is_open`: nobody knows until when."""

    words: str
    is_open: bool


def _kept_from(
    last: LastPlan, container: Container, names: Sequence[str]
) -> dict[int, _Kept]:
    """Nodes kept for others that this one would delay."""
    plan, snapshot = last.plan, last.snapshot
    index = plan.waiting.get(container.container_id) if plan else None
    if plan is None or snapshot is None or index is None:
        return {}
    row_of = {name: row for row, name in enumerate(names)}
    found = {}
    for one in plan.reservations:
        name = snapshot.cluster.names[one.node]
        if one.key in plan.explanations[index].delays and name in row_of:
            words = f"would delay workload {one.group} ({last.reserved[one.key]})"
            found[row_of[name]] = _Kept(words, one.start_us >= UNKNOWN_US)
    return found


def _is_first(last: LastPlan, container: Container) -> bool:
    """Whether nothing ahead of it in the latest plan waits for room too."""
    if last.plan is None:
        return True
    waiting = Waiting.of(last.plan.waiting)
    (here,) = np.nonzero(waiting.key == container.container_id)
    ahead = waiting.why[: here[0]] if len(here) else waiting.why
    return all(last.plan.explanations[why].never for why in np.unique(ahead))


def _remedy(
    near: NodeVerdict, name: str, detail: str, *, is_kept_open: bool, is_first: bool
) -> str:
    amounts = _amounts(near)
    if near.reason in _NOT_USED:
        room = "" if amounts else ", which has the room,"
        return f"{name}{room} is not used now ({detail})"
    if near.reason == RESERVED and not amounts and is_kept_open:
        return (
            "No time limit would let it start there now: nobody knows when what runs "
            f"on {name} ends (it has no time limit and nothing alike has ended before)"
        )
    if near.reason == RESERVED and not amounts:
        return f"It would start now on {name} with a time limit that ends before that"
    starts = "It starts when" if is_first else "It has room when"
    unless = "" if is_first else ", if nothing ahead of it takes that first"
    if near.reason == PORT:
        free = f"that port and {amounts}" if amounts else "that port is"
        return f"{starts} {free} free on {name} ({detail}){unless}"
    if near.reason == GPUS and detail:
        return f"{starts} {amounts} free on {name} ({detail}){unless}"
    if not amounts:
        return "" if near.reason else f"{name} has the room; the next cycle takes it"
    return f"{starts} {amounts} free on {name}{unless}"


def _used_words(count: int) -> str:
    many = "1 of its GPUs is" if count == 1 else f"{count} of its GPUs are"
    return f"{many} in use by processes that are none of ours; see dnode show"


def _amounts(one: NodeVerdict) -> str:
    """`1 GPU and 0.5 CPUs more are`; empty where nothing is missing."""
    gpus, cpu, memory = missing_amounts(one)
    free, part = one.gpu_milli
    parts = [f"{cpu_words(cpu)}"] * (cpu > 0) + [f"{memory} MiB"] * (memory > 0)
    more = " more"
    if gpus and part:
        parts.insert(0, f"{part / 1000:g} of one GPU (now {free / 1000:g})")
        more = more * (len(parts) > 1)
    elif gpus:
        parts.insert(0, "1 GPU" if gpus == 1 else f"{gpus} GPUs")
    if not parts:
        return ""
    *others, last = parts
    text = f"{', '.join(others)} and {last}" if others else last
    is_one = not others and (gpus == 1 or cpu == 1000)
    return f"{text}{more} {'is' if is_one else 'are'}"


def _node_row(one: NodeVerdict, names: Sequence[str], detail: str) -> Row:
    return {
        "node": names[one.node],
        "reason": one.reason or None,
        "detail": detail,
        "gpus_free": one.gpu_milli[0] / 1000 if one.gpu_milli[1] else one.gpus[0],
        "gpus_needed": one.gpu_milli[1] / 1000 if one.gpu_milli[1] else one.gpus[1],
        "cpu_milli_free": one.cpu_milli[0],
        "cpu_milli_needed": one.cpu_milli[1],
        "memory_mib_free": one.memory_mib[0],
        "memory_mib_needed": one.memory_mib[1],
    }
