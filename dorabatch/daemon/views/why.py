"""`dstat --why`: why a workload waits, or why it is where it is.

Reads the latest plan, what is free now and the history; plans nothing itself.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from dorabatch.daemon.cycle.choice_words import (
    EVENT_KIND,
    choice_sentence,
    choice_table,
    read_choice,
)
from dorabatch.daemon.cycle.lane.picks import LANE
from dorabatch.daemon.cycle.take_snapshot import take_snapshot
from dorabatch.daemon.state.books import LastPlan
from dorabatch.daemon.state.node_view import NodeView
from dorabatch.daemon.state.services import Services
from dorabatch.daemon.views.expected_starts import start_lines
from dorabatch.daemon.views.rows import lay_out
from dorabatch.daemon.views.summary import (
    containers_of,
    summarize_containers,
    trial_words,
    waiting_reason,
    workload_label,
)
from dorabatch.daemon.views.turns import turn_lines
from dorabatch.placer.arrays.feasible import (
    NODE_NOT_READY,
    PORT,
    RESERVED,
    SCHEDULING_DISABLED,
)
from dorabatch.placer.arrays.types import UNKNOWN_US
from dorabatch.placer.arrays.waiting import Waiting
from dorabatch.placer.explain.node_verdicts import (
    NodeVerdict,
    closest,
    missing_amounts,
    node_verdicts,
)
from dorabatch.placer.explain.words import cpu_words
from dorabatch.queue import store
from dorabatch.queue.records import WHOLE_GPU_MILLI, Container, Workload
from dorabatch.queue.states import State

NODES_SHOWN_MAX = 200
Row = dict[str, Any]


def why_record(services: Services, workload: Workload) -> Row:
    """Everything that is known about a workload's place, as data."""
    containers = containers_of(services, workload)
    summary = summarize_containers(containers)
    last = services.last_plan
    waiting = [c for c in containers if c.state is State.QUEUED]
    record: Row = {
        "id": workload.workload_id,
        "name": workload.name,
        "workspace": workload.workspace,
        "state": str(summary.state),
        "waiting": len(waiting),
        "reason": "",
        "sentence": "",
        "remedy": "",
        "counts": {},
        "nodes": [],
        "containers": _containers(services, workload, containers),
    }
    if waiting:
        first = waiting[0]
        record["reason"], record["sentence"] = waiting_reason(last, first)
        record["counts"] = _counts(last, first)
        remedy, record["nodes"] = _masks(services, first)
        if first.container_id not in last.held and record["reason"] != LANE:
            record["remedy"] = remedy
    else:
        reasons = [c.reason or trial_words(c) for c in containers]
        reasons = [reason for reason in reasons if reason]
        record["sentence"] = reasons[0] if reasons else ""
    return record


def why_text(services: Services, workload: Workload, *, has_placement: bool) -> str:
    """A sentence or two and the count of each reason; else each node's."""
    record = why_record(services, workload)
    lines = [_headline(workload, record)]
    if record["waiting"] and not has_placement:
        lines += [
            f"  {reason}: refuses {count} node{'' if count == 1 else 's'}"
            for reason, count in record["counts"].items()
        ]
    text = "\n".join(lines) + "\n"
    if has_placement:
        text += _placed_text(record["containers"]) + _nodes_text(record["nodes"])
    if record["waiting"]:
        turn = turn_lines(services, workload, services.clock.now())
        turn += start_lines(services, workload)
        text += "".join(f"{line}\n" for line in turn)
    return text


def _headline(workload: Workload, record: Row) -> str:
    label, sentence = workload_label(workload), record["sentence"]
    if not record["waiting"]:
        return f"{label} is {record['state']}" + (f": {sentence}" if sentence else "")
    remedy = f". {record['remedy']}" if record["remedy"] else ""
    total = len(record["containers"])
    if total == 1:
        return f"{label} waits: {sentence}{remedy}"
    waits = f"{record['waiting']} of {total} containers wait"
    return f"{label}: {waits}: {sentence}{remedy}"


def _containers(
    services: Services, workload: Workload, containers: Sequence[Container]
) -> list[Row]:
    """Each container's place, with the terms of the choice of its present attempt."""
    with services.engine.connect() as connection:
        events = store.events_of(connection, workload.workload_id)
    chosen = {}
    for event in events:
        if event.kind == EVENT_KIND:
            found = read_choice(event.text)
            chosen[event.replica, found["attempt"]] = found
    return [
        {
            "name": f"{workload.name}.{one.replica}",
            "state": str(one.state),
            "attempt": one.attempt,
            "node": one.hold.node if one.hold else None,
            "gpu_models": list(one.hold.gpu_models) if one.hold else [],
            "gpu_milli": one.hold.gpu_milli if one.hold and one.hold.gpus else None,
            "reason": one.reason,
            "choice": chosen.get((one.replica, one.attempt)) if one.hold else None,
        }
        for one in containers
    ]


def _counts(last: LastPlan, container: Container) -> dict[str, int]:
    index = last.plan.waiting.get(container.container_id) if last.plan else None
    if last.plan is None or index is None:
        return {}
    return last.plan.explanations[index].counts


def _masks(services: Services, container: Container) -> tuple[str, list[Row]]:
    """(what would start it now, each node's answer) as things stand."""
    snapshot = take_snapshot(services.board, services.fleet.views())
    rows = np.flatnonzero(snapshot.pending.key == container.container_id)
    if len(rows) == 0:
        return "", []
    request, cluster = snapshot.requests(rows[:1]), snapshot.cluster
    kept = _kept_from(services.last_plan, container, cluster.names)
    verdicts = node_verdicts(request, cluster, list(kept))
    near = closest(request, cluster, verdicts)
    details = [
        _detail(services, container, one, snapshot.nodes[one.node], kept)
        for one in verdicts
    ]
    remedy = ""
    if near is not None:
        remedy = _remedy(
            near,
            cluster.names[near.node],
            details[near.node],
            is_kept_open=near.node in kept and kept[near.node].is_open,
            is_first=_is_first(services.last_plan, container),
        )
    named = zip(verdicts, details, strict=True)
    return remedy, [_node_row(one, cluster.names, detail) for one, detail in named]


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


def _detail(
    services: Services,
    container: Container,
    one: NodeVerdict,
    view: NodeView,
    kept: Mapping[int, _Kept],
) -> str:
    if one.reason == NODE_NOT_READY:
        return f"{view.state}: {view.reason}" if view.reason else str(view.state)
    if one.reason == SCHEDULING_DISABLED:
        return f"cordoned; dnode uncordon {view.name}"
    if one.reason == PORT:
        return _port_words(services, container, view.name)
    if one.reason == RESERVED:
        return kept[one.node].words
    return ""


def _port_words(services: Services, container: Container, node: str) -> str:
    """`workload 7 publishes port 20001/tcp`: who has what it wants on a node."""
    board = services.board
    workload = board.workloads[container.workload_id]
    wanted = board.demand_of(workload, container.replica).restriction.ports
    for other in board.on_node(node):
        for port in other.hold.ports if other.hold else ():
            if port in wanted:
                protocol, number = port.split("/")
                owner = other.workload_id
                return f"workload {owner} publishes port {number}/{protocol}"
    return ""


def _remedy(
    near: NodeVerdict, name: str, detail: str, *, is_kept_open: bool, is_first: bool
) -> str:
    amounts = _amounts(near)
    if near.reason == NODE_NOT_READY or near.reason == SCHEDULING_DISABLED:
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
    if not amounts:
        return "" if near.reason else f"{name} has the room; the next cycle takes it"
    return f"{starts} {amounts} free on {name}{unless}"


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


def _placed_text(containers: Sequence[Row]) -> str:
    text = ""
    for one in containers:
        if one["node"] is None:
            continue
        milli = one["gpu_milli"] or WHOLE_GPU_MILLI
        part = "" if milli == WHOLE_GPU_MILLI else f"{milli / WHOLE_GPU_MILLI:g} of "
        models = part + (", ".join(one["gpu_models"]) or "no GPU")
        text += f"  {one['name']}: {one['state']} on {one['node']} ({models})\n"
        if one["choice"] is not None:
            text += f"  {choice_sentence(one['choice'])}\n"
            heads, *lines = choice_table(one["choice"])
            text += _indented(lay_out(lines, heads))
    return text


def _nodes_text(nodes: Sequence[Row]) -> str:
    """The nodes as a table."""
    if not nodes:
        return ""
    heads = ("NODE", "REASON", "GPUS", "CPUS", "MEM_MIB", "DETAIL")
    lines: list[tuple[str, ...]] = [
        (
            one["node"],
            one["reason"] or "(fits)",
            f"{one['gpus_free']:g}/{one['gpus_needed']:g}",
            f"{one['cpu_milli_free'] / 1000:g}/{one['cpu_milli_needed'] / 1000:g}",
            f"{one['memory_mib_free']}/{one['memory_mib_needed']}",
            one["detail"],
        )
        for one in nodes[:NODES_SHOWN_MAX]
    ]
    more = len(nodes) - len(lines)
    rest = f"  and {more} more nodes; --json lists them all\n" if more else ""
    return "  free/needed on each node:\n" + _indented(lay_out(lines, heads)) + rest


def _indented(text: str) -> str:
    return "".join(f"    {line.rstrip()}\n" for line in text.splitlines())
