"""Workloads, containers and nodes as rows for people and programs.

Reads the board; long lists are laid out here, in one pass, so that commands only
print. Changes nothing.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any

from dorabatch.daemon.state.books import LastPlan
from dorabatch.daemon.state.node_view import NodeView
from dorabatch.daemon.state.services import Services
from dorabatch.daemon.state.spec_units import spec_of
from dorabatch.daemon.views.summary import (
    Summary,
    reason_of,
    trial_until,
    trial_words,
    waiting_reason,
)
from dorabatch.errors import UserError
from dorabatch.placer.arrays.types import SHARE
from dorabatch.queue.records import WHOLE_GPU_MILLI, Container, Hold, Workload
from dorabatch.queue.states import State, state_code

Row = dict[str, Any]
Cell = Callable[[Row], str]


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
        "nodes": list(summary.nodes),
        "reason_code": code,
        "reason": reason,
        "exit_code": summary.exit_code,
        "submitted_at": _iso(workload.submitted_at),
        "started_at": _iso(summary.started_at),
        "ended_at": _iso(workload.ended_at),
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


def container_row(
    last: LastPlan, workload: Workload, container: Container, now: datetime
) -> Row:
    """One container (a replica) as a flat record."""
    reason = container.reason or trial_words(container)
    if container.state is State.QUEUED:
        reason = waiting_reason(last, container)[1]
    hold = container.hold
    end = container.ended_at or now
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
        "exit_code": container.exit_code,
        "docker_id": container.docker_id,
        "started_at": _iso(started),
        "ended_at": _iso(container.ended_at),
        "trial_until": _iso(trial_until(container)),
        "trial_stops": container.trial_stops,
        "seconds": int((end - started).total_seconds()) if started else 0,
    }


def node_row(services: Services, view: NodeView) -> Row:
    """One node as a flat record: what it has and what is free."""
    held = services.board.on_node(view.name)
    holds = [c.hold for c in held if c.hold]
    facts = view.facts
    total = Counter(gpu.model for gpu in facts.gpus) if facts else Counter[str]()
    settings = view.settings
    allow = [
        name
        for name, is_on in (
            ("CPUWorkload", settings.allows_cpu),
            ("GPUWorkload", settings.allows_gpu),
        )
        if is_on
    ]
    return {
        "name": view.name,
        "zone": services.settings.zone,
        "state": str(view.state),
        "scheduling_disabled": settings.scheduling_disabled,
        "allow": allow,
        "endpoint": f"ssh://{settings.user}@{settings.host}:{settings.port}",
        "host_key": settings.fingerprint,
        "gpus": [
            {"model": model, "total": total[model], **_held_of(model, holds)}
            for model in sorted(total)
        ],
        "gpu_error": facts.gpu_error if facts else None,
        "probe": facts.probe if facts else None,
        "cores": len(facts.cores) if facts else None,
        "cpu_model": facts.cpu_model if facts else None,
        "cpu_milli_held": sum(c.hold.cpu_milli for c in held if c.hold),
        "memory_mib": facts.memory_mib if facts else None,
        "memory_mib_held": sum(c.hold.memory_mib for c in held if c.hold),
        "containers": len(held),
        "docker_version": facts.docker_version if facts else None,
        "driver_version": facts.driver_version if facts else None,
        "clock_offset_seconds": facts.clock_offset_seconds if facts else None,
        "last_seen": _iso(view.last_seen),
        "last_seen_seconds": _age(view.last_seen, services.clock.now()),
        "reason": view.reason,
    }


def _held_of(model: str, holds: Sequence[Hold]) -> dict[str, int]:
    """GPUs of a model with something on them, and thousandths given away."""
    of_model = [
        (uuid, hold.gpu_milli)
        for hold in holds
        for uuid, named in zip(hold.gpus, hold.gpu_models, strict=True)
        if named == model
    ]
    return {
        "held": len({uuid for uuid, _ in of_model}),
        "held_milli": sum(milli for _, milli in of_model),
    }


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat(timespec="milliseconds")


def _age(moment: datetime | None, now: datetime) -> int | None:
    return None if moment is None else max(0, int((now - moment).total_seconds()))


def run_seconds(
    started_at: datetime | None, ended_at: datetime | None, now: datetime
) -> int:
    """Whole seconds from a start to an end, or to now."""
    if started_at is None:
        return 0
    return max(0, int(((ended_at or now) - started_at).total_seconds()))


def _cpu_text(milli: int | None, is_exclusive: bool) -> str | None:
    if milli is None or milli == SHARE:
        return None
    return str(milli // 1000) if is_exclusive else f"{milli}m"


def duration(seconds: int) -> str:
    """Seconds as 1-02:03:04, 2:03:04 or 3:04."""
    days, rest = divmod(seconds, 86400)
    hours, rest = divmod(rest, 3600)
    minutes, second = divmod(rest, 60)
    if days:
        return f"{days}-{hours:02}:{minutes:02}:{second:02}"
    if hours:
        return f"{hours}:{minutes:02}:{second:02}"
    return f"{minutes}:{second:02}"


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


def _device_text(row: Row) -> str:
    models = ",".join(row["gpu_models"]) or "-"
    milli = row["gpu_milli"] or WHOLE_GPU_MILLI
    return (
        models if milli == WHOLE_GPU_MILLI else f"{milli / WHOLE_GPU_MILLI:g}x{models}"
    )


def _where(row: Row) -> str:
    if row["nodes"] and row["code"] == "R":
        trial = f" ({row['reason']})" if row["reason_code"] == "Trial" else ""
        return ",".join(row["nodes"]) + trial
    return f"({row['reason']})" if row["reason"] else ",".join(row["nodes"])


def _text(name: str) -> Cell:
    def cell(row: Row) -> str:
        value = row[name]
        return "-" if value is None or value == "" else str(value)

    return cell


def _list(name: str) -> Cell:
    return lambda row: ",".join(str(item) for item in row[name] or ()) or "-"


WORKLOAD_CELLS: dict[str, tuple[str, Cell]] = {
    "id": ("ID", _text("id")),
    "workspace": ("WORKSPACE", _text("workspace")),
    "name": ("NAME", _text("name")),
    "user": ("USER", _text("user")),
    "st": ("ST", _text("code")),
    "state": ("STATE", _text("state")),
    "replicas": ("REPL", lambda row: f"{row['running']}/{row['replicas']}"),
    "gpus": ("GPUS", _gpu_text),
    "cpus": ("CPUS", _text("cpus")),
    "image": ("IMAGE", _text("image")),
    "time": ("TIME", lambda row: duration(row["seconds"])),
    "nodes": ("NODES", _list("nodes")),
    "reason": ("REASON", _text("reason")),
    "where": ("NODE(REASON)", _where),
    "exit": ("EXIT", _text("exit_code")),
    "submitted": ("SUBMITTED", _text("submitted_at")),
    "started": ("STARTED", _text("started_at")),
    "ended": ("ENDED", _text("ended_at")),
    "version": ("VERSION", _text("version")),
    "zone": ("ZONE", _text("zone")),
    "rank": ("RANK", _text("rank")),
    "prio": ("PRIO", _text("priority")),
    "start": ("START(P10-P90)", _text("start")),
    "nice": ("NICE", _text("nice")),
    "qos": ("QOS", _text("qos")),
    "until": ("UNTIL", _text("paid_until")),
    "cost": ("COST", _text("cost")),
}
WORKLOAD_COLUMNS = (
    "id", "workspace", "name", "user", "st", "replicas", "gpus", "time", "where",
)  # fmt: skip
CONTAINER_CELLS: dict[str, tuple[str, Cell]] = {
    "id": ("ID", _text("id")),
    "workspace": ("WORKSPACE", _text("workspace")),
    "name": ("CONTAINER", _text("name")),
    "user": ("USER", _text("user")),
    "st": ("ST", _text("code")),
    "state": ("STATE", _text("state")),
    "try": ("TRY", _text("attempt")),
    "node": ("NODE", _text("node")),
    "gpus": ("GPUS", _device_text),
    "uuids": ("GPU_UUIDS", _list("gpu_uuids")),
    "cores": ("CORES", _list("cores")),
    "memory": ("MEM_MIB", _text("memory_mib")),
    "time": ("TIME", lambda row: duration(row["seconds"])),
    "exit": ("EXIT", _text("exit_code")),
    "reason": ("REASON", _text("reason")),
    "started": ("STARTED", _text("started_at")),
    "ended": ("ENDED", _text("ended_at")),
}
CONTAINER_COLUMNS = (
    "id", "workspace", "name", "user", "st", "try", "node", "gpus", "time", "exit",
    "reason",
)  # fmt: skip
_FIELD_OF = {
    "st": "code", "time": "seconds", "exit": "exit_code", "submitted": "submitted_at",
    "started": "started_at", "ended": "ended_at", "prio": "priority",
    "until": "paid_until", "try": "attempt", "memory": "memory_mib",
}  # fmt: skip
"""The field of a column, where its name is another."""
NODE_CELLS: dict[str, tuple[str, Cell]] = {
    "name": ("NODE", _text("name")),
    "zone": ("ZONE", _text("zone")),
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
    "containers": ("RUNS", _text("containers")),
    "seen": (
        "SEEN",
        lambda row: (
            "never"
            if row["last_seen_seconds"] is None
            else f"{duration(row['last_seen_seconds'])} ago"
        ),
    ),
    "endpoint": ("ENDPOINT", _text("endpoint")),
    "reason": ("REASON", _text("reason")),
}
NODE_COLUMNS = (
    "name", "state", "gpus", "cpus", "memory", "containers", "seen", "endpoint",
    "reason",
)  # fmt: skip


def render_table(
    rows: Iterable[Row],
    cells: dict[str, tuple[str, Cell]],
    columns: Sequence[str],
    *,
    has_header: bool = True,
) -> str:
    """Rows as aligned text; raises UserError for a column that does not exist."""
    check_columns(cells, columns)
    lines = [cells_of(row, cells, columns) for row in rows]
    heads = tuple(cells[name][0] for name in columns)
    return lay_out(lines, heads if has_header else None)


def check_columns(
    cells: dict[str, tuple[str, Cell]],
    columns: Sequence[str],
    *,
    option: str = "--format",
) -> None:
    """Raise UserError for a column that does not exist."""
    for name in columns:
        if name not in cells:
            known = ", ".join(cells)
            raise UserError(f"{option}: unknown column {name!r} (allowed: {known})")


def sort_rows(
    listed: list[Row],
    column: str,
    cells: dict[str, tuple[str, Cell]],
    *,
    is_falling: bool = False,
) -> list[Row]:
    """Rows by one column, ties in their order; those without a value come last."""
    field, cell = _FIELD_OF.get(column, column), cells[column][1]

    def value(row: Row) -> Any:
        found = row.get(field)
        return found if isinstance(found, int | float) else cell(row)

    has = [row for row in listed if row.get(field, "") is not None]
    lacks = [row for row in listed if row.get(field, "") is None]
    return [*sorted(has, key=value, reverse=is_falling), *lacks]


def cells_of(
    row: Row, cells: dict[str, tuple[str, Cell]], columns: Sequence[str]
) -> tuple[str, ...]:
    """The texts of a row's columns."""
    return tuple([cells[name][1](row) for name in columns])


def lay_out(lines: list[tuple[str, ...]], heads: tuple[str, ...] | None) -> str:
    """Texts as aligned columns, two blanks apart."""
    every = lines if heads is None else [heads, *lines]
    if not every:
        return ""
    widths = [max(map(len, column)) for column in zip(*every, strict=True)]
    form = "  ".join(f"%-{width}s" for width in widths[:-1])
    form = f"{form}  %s\n" if len(widths) > 1 else "%s\n"
    return "".join([form % line for line in every])
