"""Node, CPU and GPU in the table of kinds.

Says who answers for them. What nodes have is found on them and never applied.
"""

from dataclasses import dataclass
from functools import partial

from dorabatch.daemon.intake.kind_table import (
    Applied,
    KindEntry,
    Named,
    Scope,
    nobodys,
    row_named,
)
from dorabatch.daemon.intake.node_kind import Nodes
from dorabatch.daemon.rights import Caller
from dorabatch.daemon.state.fleet import Fleet
from dorabatch.daemon.views.describe import describe_object
from dorabatch.daemon.views.device_rows import (
    CPU_CELLS,
    CPU_COLUMNS,
    GPU_CELLS,
    GPU_COLUMNS,
    DeviceRows,
)
from dorabatch.daemon.views.node_rows import NODE_CELLS, NODE_COLUMNS, NodeRows
from dorabatch.daemon.views.table_layout import Row
from dorabatch.errors import NotFound
from dorabatch.node.facts import HostKey
from dorabatch.resources.cluster import Node
from dorabatch.resources.document import Document


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeEntries:
    """Machines, and what was found on them."""

    nodes: Nodes
    fleet: Fleet
    shown: NodeRows
    devices: DeviceRows

    def node(self) -> KindEntry:
        """Node: a machine that runs containers."""
        return KindEntry(
            name="Node",
            words=("nodes",),
            scope=Scope.ZONE,
            cells=NODE_CELLS,
            columns=NODE_COLUMNS,
            rows=lambda: [self.shown.row(view) for view in self.fleet.views()],
            find=self._node,
            belongs=nobodys,
            text=describe_object,
            target=nobodys,
            apply=self._apply,
            delete=self._delete,
        )

    def cpu(self) -> KindEntry:
        """CPU: what a node has of them, and what is left."""
        return KindEntry(
            name="CPU",
            words=("cpus",),
            scope=Scope.ZONE,
            cells=CPU_CELLS,
            columns=CPU_COLUMNS,
            rows=self.devices.cpus,
            find=partial(row_named, "CPU", self.devices.cpus),
            belongs=nobodys,
            text=describe_object,
            kept_by="CPUs are found on the nodes; apply a Node",
        )

    def gpu(self) -> KindEntry:
        """GPU: each one, and who has it."""
        return KindEntry(
            name="GPU",
            words=("gpus",),
            scope=Scope.ZONE,
            cells=GPU_CELLS,
            columns=GPU_COLUMNS,
            rows=self.devices.gpus,
            shown=self.devices.for_caller,
            find=partial(row_named, "GPU", self.devices.gpus),
            belongs=nobodys,
            text=describe_object,
            kept_by="GPUs are found on the nodes; apply a Node",
        )

    def _node(self, _caller: Caller, named: Named) -> Row:
        view = self.fleet.get(named.name)
        if view is None:
            names = ", ".join(one.name for one in self.fleet.views()) or "none"
            raise NotFound(f"no node {named.name!r} (known: {names})")
        return self.shown.row(view)

    def _apply(self, caller: Caller, document: Document, agreed: str | None) -> Applied:
        assert isinstance(document, Node)
        spec = document.spec
        if agreed is not None and spec.host_key is None:
            spec = spec.model_copy(update={"host_key": agreed})
        saved, presented = self.nodes.save(caller, document.name, spec)
        return Applied(
            kind="Node",
            name=saved.name,
            result=saved.result,
            message=saved.message,
            unpinned=_unpinned(document.name, presented) if presented else None,
        )

    def _delete(self, caller: Caller, named: Named) -> tuple[str, str]:
        self.nodes.remove(caller, named.name)
        return "deleted", f"node {named.name} removed"


def _unpinned(node: str, key: HostKey) -> dict[str, str]:
    return {
        "node": node,
        "key_type": key.key_type,
        "fingerprint": key.fingerprint,
    }
