"""Laws that hold at every moment, as functions that return what breaks them.

Each looks at records alone and gives one sentence for each violation; an empty list
means the law holds. Reads no database and no node.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from dorabatch.node.facts import NodeFacts
from dorabatch.queue.records import Container, Hold
from dorabatch.queue.states import HOLDING, LEGAL_MOVES, State


def holds_by_node(containers: Iterable[Container]) -> dict[str, list[Hold]]:
    """What is held on each node."""
    found: dict[str, list[Hold]] = {}
    for container in containers:
        if container.hold is not None:
            found.setdefault(container.hold.node, []).append(container.hold)
    return found


def gpus_held_twice(containers: Iterable[Container]) -> list[str]:
    """No GPU of a node is held by two attempts."""
    return [
        f"{node}: GPU {uuid} is held {count} times"
        for node, holds in holds_by_node(containers).items()
        for uuid, count in Counter(u for h in holds for u in h.gpus).items()
        if count > 1
    ]


def cores_pinned_twice(containers: Iterable[Container]) -> list[str]:
    """No core of a node is pinned by two attempts."""
    return [
        f"{node}: core {core} is pinned {count} times"
        for node, holds in holds_by_node(containers).items()
        for core, count in Counter(c for h in holds for c in h.cores).items()
        if count > 1
    ]


def capacity_exceeded(
    containers: Iterable[Container], nodes: Mapping[str, NodeFacts]
) -> list[str]:
    """No node gives more CPU, memory or GPUs than it has, nor what it has not."""
    broken = []
    for node, holds in holds_by_node(containers).items():
        facts = nodes.get(node)
        if facts is None:
            broken.append(f"{node}: something is held on an unknown node")
            continue
        amounts = (
            ("CPU", sum(h.cpu_milli for h in holds), len(facts.cores) * 1000),
            ("memory", sum(h.memory_mib for h in holds), facts.memory_mib),
            ("GPUs", sum(len(h.gpus) for h in holds), len(facts.gpus)),
        )
        broken += [
            f"{node}: {held} {what} held of {total}"
            for what, held, total in amounts
            if held > total
        ]
        models = {gpu.uuid: gpu.model for gpu in facts.gpus}
        for one in holds:
            broken += [
                f"{node}: GPU {uuid} is no {model} of this node"
                for uuid, model in zip(one.gpus, one.gpu_models, strict=False)
                if models.get(uuid) != model
            ]
            if len(one.gpus) != len(one.gpu_models):
                broken.append(f"{node}: {len(one.gpus)} GPUs, other models")
            if not set(one.cores) <= set(facts.cores):
                broken.append(f"{node}: cores {one.cores} are not all its own")
    return broken


def ports_held_twice(containers: Iterable[Container]) -> list[str]:
    """No port of a node is published by two attempts."""
    return [
        f"{node}: port {port} is held {count} times"
        for node, holds in holds_by_node(containers).items()
        for port, count in Counter(p for h in holds for p in h.ports).items()
        if count > 1
    ]


def misplaced_holds(containers: Iterable[Container]) -> list[str]:
    """Something is held in exactly the states that hold."""
    return [
        f"container {one.container_id} is {one.state} and holds {one.hold}"
        for one in containers
        if (one.hold is not None) != (one.state in HOLDING)
    ]


def illegal_moves(histories: Mapping[int, Sequence[State]]) -> list[str]:
    """Each container's states, in order, begin QUEUED and follow the legal moves."""
    broken = []
    for key, states in histories.items():
        if states and states[0] is not State.QUEUED:
            broken.append(f"container {key} began {states[0]}")
        broken += [
            f"container {key}: {before} -> {after}"
            for before, after in pairwise(states)
            if before is not after and after not in LEGAL_MOVES[before]
        ]
    return broken


def broken_laws(
    containers: Sequence[Container], nodes: Mapping[str, NodeFacts]
) -> list[str]:
    """All laws on the present records at once."""
    return [
        *gpus_held_twice(containers),
        *cores_pinned_twice(containers),
        *ports_held_twice(containers),
        *capacity_exceeded(containers, nodes),
        *misplaced_holds(containers),
    ]
