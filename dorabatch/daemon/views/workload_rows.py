"""Workloads as rows for people and programs, and the columns of their table.

Reads one workload and what was summed up of it; looks nothing up and changes nothing.
"""

from datetime import datetime

from dorabatch.daemon.state.last_plan import LastPlan
from dorabatch.daemon.state.spec_units import spec_of
from dorabatch.daemon.views.cell_texts import (
    list_cell,
    moment_field,
    run_seconds,
    text_cell,
    time_cell,
)
from dorabatch.daemon.views.silence import NODE_SILENT
from dorabatch.daemon.views.summary import Summary, reason_of
from dorabatch.daemon.views.table_layout import Cell, Row
from dorabatch.placer.arrays.types import SHARE
from dorabatch.queue.records import WHOLE_GPU_MILLI, Workload


def workload_row(
    last: LastPlan, workload: Workload, summary: Summary, now: datetime
) -> Row:
    """One workload as a flat record, times as ISO text."""
    code, reason = reason_of(last, summary)
    spec = spec_of(workload)
    return {
        "id": workload.workload_id,
        "name": workload.name,
        "workspace": workload.workspace,
        "zone": workload.zone,
        "user": workload.submitter.user,
        "state": str(summary.state),
        "code": summary.code,
        "outcome": str(summary.outcome) if summary.outcome else None,
        "replicas": workload.replicas,
        "running": summary.running,
        "gpus": spec.gpu_count,
        "gpu_milli": spec.gpu_milli if spec.gpu_count else None,
        "gpu_models": list(spec.gpu_models) if spec.gpu_models else None,
        "cpus": _cpu_text(spec.cpu_milli, spec.cpu_exclusive),
        "image": spec.image.image,
        "restartable": spec.restartable,
        "dependency": workload.dependency or None,
        "nodes": list(summary.nodes),
        "reason_code": code,
        "reason": reason,
        "exit_code": summary.exit_code,
        "submitted_at": moment_field(workload.submitted_at),
        "started_at": moment_field(summary.started_at),
        "ended_at": moment_field(workload.ended_at),
        "seconds": run_seconds(summary.started_at, workload.ended_at, now),
        "version": workload.version,
        "paid_until": None,
        "cost": None,
        "runs_free": False,
        "nice": spec.priority.nice,
        "qos": spec.priority.qos,
        "rank": None,
        "priority": None,
        "start": None,
    }


def _cpu_text(milli: int | None, is_exclusive: bool) -> str | None:
    if milli is None or milli == SHARE:
        return None
    return str(milli // 1000) if is_exclusive else f"{milli}m"


def _gpu_text(row: Row) -> str:
    if not row["gpus"]:
        return "-"
    models, count = row["gpu_models"], row["gpus"]
    if row["gpu_milli"] < WHOLE_GPU_MILLI:
        count = f"{row['gpu_milli'] / WHOLE_GPU_MILLI:g}"
    if not models:
        return str(count)
    more = f"|+{len(models) - 1}" if len(models) > 1 else ""
    return f"{count}x{models[0]}{more}"


def _where(row: Row) -> str:
    if row["nodes"] and row["code"] == "R":
        is_said = row["reason_code"] in ("Trial", NODE_SILENT)
        return ",".join(row["nodes"]) + (f" ({row['reason']})" if is_said else "")
    return f"({row['reason']})" if row["reason"] else ",".join(row["nodes"])


WORKLOAD_CELLS: dict[str, tuple[str, Cell]] = {
    "id": ("ID", text_cell("id")),
    "workspace": ("WORKSPACE", text_cell("workspace")),
    "name": ("NAME", text_cell("name")),
    "user": ("USER", text_cell("user")),
    "st": ("ST", text_cell("code")),
    "state": ("STATE", text_cell("state")),
    "replicas": ("REPL", lambda row: f"{row['running']}/{row['replicas']}"),
    "gpus": ("GPUS", _gpu_text),
    "cpus": ("CPUS", text_cell("cpus")),
    "image": ("IMAGE", text_cell("image")),
    "time": ("TIME", time_cell("seconds")),
    "nodes": ("NODES", list_cell("nodes")),
    "reason": ("REASON", text_cell("reason")),
    "where": ("NODE(REASON)", _where),
    "exit": ("EXIT", text_cell("exit_code")),
    "submitted": ("SUBMITTED", text_cell("submitted_at")),
    "started": ("STARTED", text_cell("started_at")),
    "ended": ("ENDED", text_cell("ended_at")),
    "version": ("VERSION", text_cell("version")),
    "zone": ("ZONE", text_cell("zone")),
    "rank": ("RANK", text_cell("rank")),
    "prio": ("PRIO", text_cell("priority")),
    "start": ("START(P10-P90)", text_cell("start")),
    "nice": ("NICE", text_cell("nice")),
    "qos": ("QOS", text_cell("qos")),
    "until": ("UNTIL", text_cell("paid_until")),
    "cost": ("COST", text_cell("cost")),
}
WORKLOAD_COLUMNS = (
    "id", "workspace", "name", "user", "st", "replicas", "gpus", "time", "where",
)  # fmt: skip
WORKLOAD_FIELDS = {
    "st": "code", "time": "seconds", "exit": "exit_code", "submitted": "submitted_at",
    "started": "started_at", "ended": "ended_at", "prio": "priority",
    "until": "paid_until",
}  # fmt: skip
"""The field of a column, where its name is another."""
