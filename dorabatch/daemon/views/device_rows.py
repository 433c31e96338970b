"""Devices as rows: every GPU with who has it, every node's CPU with what is left.

Reads the board and what nodes told of themselves; reserves nothing and asks no node.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from dorabatch.daemon.rights import Caller
from dorabatch.daemon.state.fleet import Fleet
from dorabatch.daemon.state.node_view import NodeView
from dorabatch.daemon.views.cell_texts import share_words, text_cell
from dorabatch.daemon.views.node_use import GpuUse, node_use
from dorabatch.daemon.views.sight import Sight, without
from dorabatch.daemon.views.table_layout import Cell, Row
from dorabatch.node.facts import GpuFacts
from dorabatch.queue.board import Board
from dorabatch.queue.records import WHOLE_GPU_MILLI, Container

MILLI = 1000
FREE, HELD, SHARED, USED, LOST = "free", "held", "shared", "used", "lost"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceRows:
    """Rows of all devices in one zone."""

    board: Board
    fleet: Fleet
    see_others: str

    def gpus(self) -> list[Row]:
        """One row a GPU, by node and index.

        A GPU that its node had, or that is held there, and that the node tells of no
        more is lost: it has no index and comes last. One that is used is not held:
        processes are on it that are none of ours.
        """
        return [row for view in self.fleet.views() for row in self._gpus_of(view)]

    def for_caller(self, caller: Caller, row: Row) -> Row:
        """A GPU's row without what the caller does not see of its holders."""
        sight = Sight(caller, self.see_others)
        holders = []
        for one in row["holders"]:
            workload = self.board.workloads.get(one["id"])
            if workload is not None and sight.lists(workload):
                holders.append(without(one, sight.hidden(workload)))
        return {**row, "holders": holders}

    def cpus(self) -> list[Row]:
        """One row a node that has told what it has, with its CPU model."""
        return [row for view in self.fleet.views() for row in self._cpu_of(view)]

    def _gpus_of(self, view: NodeView) -> Iterator[Row]:
        use = node_use(self.board.on_node(view.name))
        here = sorted(view.facts.gpus, key=lambda gpu: gpu.minor) if view.facts else ()
        for gpu in here:
            yield self._gpu(view, gpu.uuid, gpu, use.gpus.get(gpu.uuid), gpu.model)
        known = {gpu.uuid for gpu in here}
        models = {uuid: one.model for uuid, one in use.gpus.items()}
        models |= {
            g.uuid: g.model for g in (view.facts.missing_gpus if view.facts else ())
        }
        for uuid in sorted(models.keys() - known):
            yield self._gpu(view, uuid, None, use.gpus.get(uuid), models[uuid])

    def _gpu(
        self,
        view: NodeView,
        uuid: str,
        gpu: GpuFacts | None,
        use: GpuUse | None,
        model: str,
    ) -> Row:
        held = use.held_milli if use else 0
        is_open = gpu is not None and uuid not in view.kept_out
        return {
            "name": f"{view.name}.{gpu.minor if gpu else uuid}",
            "node": view.name,
            "node_state": str(view.state),
            "index": gpu.minor if gpu else None,
            "uuid": uuid,
            "model": model,
            "memory_mib": gpu.memory_mib if gpu else None,
            "state": _state(gpu, use) if gpu else LOST,
            "held_milli": held,
            "free_milli": max(WHOLE_GPU_MILLI - held, 0) if is_open else 0,
            "process_pids": list(gpu.process_pids) if gpu else [],
            "holders": [self._holder(one) for one in (use.holders if use else ())],
        }

    def _holder(self, container: Container) -> Row:
        workload = self.board.workloads[container.workload_id]
        return {
            "id": workload.workload_id,
            "name": workload.name,
            "workspace": workload.workspace,
            "replica": container.replica,
            "user": workload.submitter.user,
            "milli": container.hold.gpu_milli if container.hold else 0,
        }

    def _cpu_of(self, view: NodeView) -> Iterator[Row]:
        facts = view.facts
        if facts is None:
            return
        use = node_use(self.board.on_node(view.name))
        yield {
            "name": view.name,
            "node": view.name,
            "node_state": str(view.state),
            "model": facts.cpu_model,
            "cores": len(facts.cores),
            "cores_pinned": len(use.pinned),
            "held_milli": use.cpu_milli,
            "free_milli": max(len(facts.cores) * MILLI - use.cpu_milli, 0),
        }


def _state(gpu: GpuFacts, use: GpuUse | None) -> str:
    if use is None:
        return USED if gpu.is_used_by_others else FREE
    holds = (one.hold for one in use.holders)
    is_whole = any(hold and hold.gpu_milli >= WHOLE_GPU_MILLI for hold in holds)
    return HELD if is_whole else SHARED


def _holders(row: Row) -> str:
    return ", ".join(map(_holder_words, row["holders"])) or "-"


def _holder_words(one: Row) -> str:
    named = one["name"] is not None
    who = f"{one['workspace']}/{one['name']}.{one['replica']}" if named else "-"
    return f"{share_words(one['milli'])}{who} (id {one['id']}, {one['user']})"


def _mib(name: str) -> Cell:
    return lambda row: "-" if row[name] is None else f"{row[name] / 1024:.1f}"


def _cores(name: str) -> Cell:
    return lambda row: f"{row[name] / MILLI:g}"


GPU_CELLS: dict[str, tuple[str, Cell]] = {
    "name": ("GPU", text_cell("name")),
    "node": ("NODE", text_cell("node")),
    "node_state": ("NODE_STATE", text_cell("node_state")),
    "index": ("INDEX", text_cell("index")),
    "uuid": ("UUID", text_cell("uuid")),
    "model": ("MODEL", text_cell("model")),
    "memory": ("MEM_GIB", _mib("memory_mib")),
    "state": ("STATE", text_cell("state")),
    "free": ("FREE", lambda row: f"{row['free_milli'] / WHOLE_GPU_MILLI:g}"),
    "held": ("HELD_BY", _holders),
}
GPU_COLUMNS = ("node", "index", "model", "memory", "state", "free", "uuid", "held")
CPU_CELLS: dict[str, tuple[str, Cell]] = {
    "node": ("NODE", text_cell("node")),
    "node_state": ("NODE_STATE", text_cell("node_state")),
    "model": ("MODEL", text_cell("model")),
    "cores": ("CORES", text_cell("cores")),
    "pinned": ("PINNED", text_cell("cores_pinned")),
    "held": ("HELD", _cores("held_milli")),
    "free": ("FREE", _cores("free_milli")),
}
CPU_COLUMNS = ("node", "node_state", "model", "cores", "pinned", "held", "free")
