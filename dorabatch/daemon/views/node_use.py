"""What the attempts on one node hold of it, device by device.

Adds up the holds that the board knows; reserves nothing and decides no place.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from dorabatch.queue.records import Container, Hold


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuUse:
    """One GPU with something on it: whose it is, and the thousandths given away."""

    model: str
    held_milli: int
    holders: tuple[Container, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeUse:
    """All that is held of one node.

    `gpus` by uuid, also those the node has lost since; `pinned` cores are nobody
    else's, `cpu_milli` counts them too.
    """

    containers: int
    gpus: Mapping[str, GpuUse]
    pinned: frozenset[int]
    cpu_milli: int
    memory_mib: int

    def gpus_of(self, model: str) -> dict[str, int]:
        """GPUs of a model with something on them, and thousandths given away."""
        milli = [one.held_milli for one in self.gpus.values() if one.model == model]
        return {"held": len(milli), "held_milli": sum(milli)}


def node_use(containers: Iterable[Container]) -> NodeUse:
    """What these containers, all on one node, hold there."""
    held = list(containers)
    holds = [one.hold for one in held if one.hold is not None]
    return NodeUse(
        containers=len(held),
        gpus=_gpu_uses(held),
        pinned=frozenset(core for hold in holds for core in hold.cores),
        cpu_milli=sum(hold.cpu_milli for hold in holds),
        memory_mib=sum(hold.memory_mib for hold in holds),
    )


def _gpu_uses(containers: list[Container]) -> dict[str, GpuUse]:
    on: dict[str, list[tuple[Container, Hold]]] = {}
    models: dict[str, str] = {}
    for one in containers:
        if one.hold is None:
            continue
        for uuid, model in zip(one.hold.gpus, one.hold.gpu_models, strict=True):
            on.setdefault(uuid, []).append((one, one.hold))
            models[uuid] = model
    return {
        uuid: GpuUse(
            model=models[uuid],
            held_milli=sum(hold.gpu_milli for _, hold in found),
            holders=tuple(one for one, _ in found),
        )
        for uuid, found in on.items()
    }
