"""Containers (replicas) as rows for people and programs, and their table's columns.

An ended container is shown with the place it was given, which is its last one. Reads
the record it is given; looks nothing up and changes nothing.
"""

from datetime import datetime

from dorabatch.daemon.cycle.waiting_reason import waiting_reason
from dorabatch.daemon.state.last_plan import LastPlan
from dorabatch.daemon.views.cell_texts import (
    list_cell,
    moment_field,
    share_words,
    text_cell,
    time_cell,
)
from dorabatch.daemon.views.summary import place_words, trial_until
from dorabatch.daemon.views.table_layout import Cell, Row
from dorabatch.queue.records import WHOLE_GPU_MILLI, Container, Workload
from dorabatch.queue.states import State, state_code


def container_row(
    last: LastPlan, workload: Workload, container: Container, now: datetime
) -> Row:
    """One container (a replica) as a flat record."""
    reason = place_words(last, container)
    if container.state is State.QUEUED:
        reason = waiting_reason(last, container).sentence
    hold = container.hold
    end = container.ended_at or now
    silent = last.silent.get(hold.node) if hold and not container.outcome else None
    started = container.started_at
    return {
        "id": workload.workload_id,
        "name": f"{workload.name}.{container.replica}",
        "workspace": workload.workspace,
        "zone": workload.zone,
        "user": workload.submitter.user,
        "replica": container.replica,
        "attempt": container.attempt,
        "state": str(container.state),
        "code": state_code(container.state, container.outcome),
        "outcome": str(container.outcome) if container.outcome else None,
        "node": hold.node if hold else None,
        "gpu_uuids": list(hold.gpus) if hold else [],
        "gpu_models": list(hold.gpu_models) if hold else [],
        "gpu_milli": hold.gpu_milli if hold and hold.gpus else None,
        "cores": list(hold.cores) if hold else [],
        "cpu_milli": hold.cpu_milli if hold else None,
        "memory_mib": hold.memory_mib if hold else None,
        "reason": reason,
        "silent_since": moment_field(silent),
        "exit_code": container.exit_code,
        "docker_id": container.docker_id,
        "started_at": moment_field(started),
        "ended_at": moment_field(container.ended_at),
        "trial_until": moment_field(trial_until(container)),
        "trial_stops": container.trial_stops,
        "seconds": int((end - started).total_seconds()) if started else 0,
    }


def _device_text(row: Row) -> str:
    models = ",".join(row["gpu_models"]) or "-"
    return share_words(row["gpu_milli"] or WHOLE_GPU_MILLI) + models


CONTAINER_CELLS: dict[str, tuple[str, Cell]] = {
    "id": ("ID", text_cell("id")),
    "workspace": ("WORKSPACE", text_cell("workspace")),
    "name": ("CONTAINER", text_cell("name")),
    "user": ("USER", text_cell("user")),
    "st": ("ST", text_cell("code")),
    "state": ("STATE", text_cell("state")),
    "try": ("TRY", text_cell("attempt")),
    "node": ("NODE", text_cell("node")),
    "gpus": ("GPUS", _device_text),
    "uuids": ("GPU_UUIDS", list_cell("gpu_uuids")),
    "cores": ("CORES", list_cell("cores")),
    "memory": ("MEM_MIB", text_cell("memory_mib")),
    "time": ("TIME", time_cell("seconds")),
    "exit": ("EXIT", text_cell("exit_code")),
    "reason": ("REASON", text_cell("reason")),
    "started": ("STARTED", text_cell("started_at")),
    "ended": ("ENDED", text_cell("ended_at")),
}
CONTAINER_COLUMNS = (
    "id", "workspace", "name", "user", "st", "try", "node", "gpus", "time", "exit",
    "reason",
)  # fmt: skip
CONTAINER_FIELDS = {
    "st": "code", "try": "attempt", "uuids": "gpu_uuids", "memory": "memory_mib",
    "time": "seconds", "exit": "exit_code", "started": "started_at",
    "ended": "ended_at",
}  # fmt: skip
"""The field of a column, where its name is another."""
