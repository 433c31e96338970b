"""Which devices of a node are free when a placement is turned into a hold.

Taken from in memory; writes nothing.
"""

from collections.abc import Sequence

from dorabatch.daemon.state.node_view import NodeView
from dorabatch.queue.records import Hold

MILLI = 1000


class FreeDevices:
    """What holds leave of a node, taken from while a plan is committed.

    `gpus` by model and `cores`, lowest number first; `shared` GPUs with the thousandths
    that are left of each; `ports` that are in use.
    """

    def __init__(self, view: NodeView, holds: Sequence[Hold]) -> None:
        assert view.facts is not None
        self.shared: dict[str, int] = {}
        for hold in holds:
            if hold.gpu_milli < MILLI:
                (uuid,) = hold.gpus
                self.shared[uuid] = self.shared.get(uuid, MILLI) - hold.gpu_milli
        used = {uuid for hold in holds for uuid in hold.gpus}
        self.gpus: dict[str, list[str]] = {}
        for gpu in sorted(view.facts.gpus, key=lambda gpu: gpu.minor):
            if gpu.uuid not in used:
                self.gpus.setdefault(gpu.model, []).append(gpu.uuid)
        pinned = {core for hold in holds for core in hold.cores}
        self.cores = [c for c in sorted(view.facts.cores) if c not in pinned]
        self.ports = {port for hold in holds for port in hold.ports}

    def take_whole(
        self, wanted: Sequence[tuple[str, int]]
    ) -> list[tuple[str, str]] | None:
        """(uuid, model) of whole GPUs; None, and nothing taken, where one lacks."""
        if any(len(self.gpus.get(model, ())) < count for model, count in wanted):
            return None
        taken = []
        for model, count in wanted:
            free = self.gpus[model]
            taken += [(uuid, model) for uuid in free[:count]]
            del free[:count]
        return taken

    def take_share(self, model: str, milli: int, uuid: str | None) -> str | None:
        """A share of the GPU with this uuid, or of one nobody uses; None: not free."""
        free = self.gpus.get(model, [])
        if uuid is None and free:
            uuid = free[0]
        if uuid in free:
            free.remove(uuid)
            self.shared[uuid] = MILLI
        if uuid is None or self.shared.get(uuid, 0) < milli:
            return None
        self.shared[uuid] -= milli
        return uuid
