"""Nodes as rows for people and programs: what each has and what is held of it.

Reads the board and one node's view; asks no node and changes nothing.
"""

from collections import Counter
from dataclasses import dataclass
from datetime import datetime

from dorabatch.clock import Clock
from dorabatch.daemon.state.node_view import DeclaredNode, NodeView
from dorabatch.daemon.views.cell_texts import duration, moment_field, text_cell
from dorabatch.daemon.views.node_use import node_use
from dorabatch.daemon.views.table_layout import Cell, Row
from dorabatch.node.facts import NodeFacts
from dorabatch.queue.board import Board


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRows:
    """Rows of one zone's nodes."""

    board: Board
    clock: Clock
    zone: str

    def row(self, view: NodeView) -> Row:
        """One node as a flat record: what it has and what is held."""
        use = node_use(self.board.on_node(view.name))
        facts, settings, refusal = view.facts, view.settings, view.refusal
        state, reason = view.told
        total = Counter(gpu.model for gpu in view.all_gpus)
        return {
            "name": view.name,
            "zone": self.zone,
            "state": str(state),
            "scheduling_disabled": settings.scheduling_disabled,
            "allow": _allowed(settings),
            "endpoint": f"ssh://{settings.user}@{settings.place}",
            "host_key": settings.fingerprint,
            "gpus": [
                {"model": model, "total": total[model], **use.gpus_of(model)}
                for model in sorted(total)
            ],
            "gpus_missing": [gpu.uuid for gpu in facts.missing_gpus] if facts else [],
            "gpus_used_by_others": _used_by_others(facts),
            "gpu_error": facts.gpu_error if facts else None,
            "probe": facts.probe if facts else None,
            "cores": len(facts.cores) if facts else None,
            "cpu_model": facts.cpu_model if facts else None,
            "cpu_milli_held": use.cpu_milli,
            "memory_mib": facts.memory_mib if facts else None,
            "memory_mib_held": use.memory_mib,
            "containers": use.containers,
            "docker_version": facts.docker_version if facts else None,
            "driver_version": facts.driver_version if facts else None,
            "clock_offset_seconds": facts.clock_offset_seconds if facts else None,
            "last_seen": moment_field(view.last_seen),
            "last_seen_seconds": _age(view.last_seen, self.clock.now()),
            "refuses_starts_since": moment_field(refusal.since if refusal else None),
            "silent_since": moment_field(view.silent_since),
            "lost_by": view.lost.by if view.lost else None,
            "lost_at": moment_field(view.lost.at) if view.lost else None,
            "reason": reason,
        }


def _used_by_others(facts: NodeFacts | None) -> list[Row]:
    return [
        {"uuid": gpu.uuid, "index": gpu.minor, "pids": list(gpu.process_pids)}
        for gpu in (facts.gpus if facts else ())
        if gpu.is_used_by_others
    ]


def _allowed(settings: DeclaredNode) -> list[str]:
    kinds = (
        ("CPUWorkload", settings.allows_cpu),
        ("GPUWorkload", settings.allows_gpu),
    )
    return [name for name, is_on in kinds if is_on]


def _age(moment: datetime | None, now: datetime) -> int | None:
    return None if moment is None else max(0, int((now - moment).total_seconds()))


NODE_CELLS: dict[str, tuple[str, Cell]] = {
    "name": ("NODE", text_cell("name")),
    "zone": ("ZONE", text_cell("zone")),
    "state": (
        "STATE",
        lambda row: row["state"] + ("+CORDONED" * row["scheduling_disabled"]),
    ),
    "gpus": (
        "GPUS(HELD/TOTAL)",
        lambda row: (
            ", ".join(
                f"{g['model']} {g['held_milli'] / 1000:g}/{g['total']}"
                for g in row["gpus"]
            )
            or "-"
        ),
    ),
    "cpus": (
        "CPUS",
        lambda row: f"{row['cpu_milli_held'] / 1000:g}/{row['cores'] or 0}",
    ),
    "memory": (
        "MEM_GIB",
        lambda row: (
            f"{row['memory_mib_held'] / 1024:.1f}/{(row['memory_mib'] or 0) / 1024:.1f}"
        ),
    ),
    "containers": ("RUNS", text_cell("containers")),
    "seen": (
        "SEEN",
        lambda row: (
            "never"
            if row["last_seen_seconds"] is None
            else f"{duration(row['last_seen_seconds'])} ago"
        ),
    ),
    "endpoint": ("ENDPOINT", text_cell("endpoint")),
    "reason": ("REASON", text_cell("reason")),
}
NODE_COLUMNS = (
    "name", "state", "gpus", "cpus", "memory", "containers", "seen", "endpoint",
    "reason",
)  # fmt: skip
