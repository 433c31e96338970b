"""Attempts that are over, read for those who count or learn from them.

Reads only; what is live is on the board.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, func, select

from dorabatch.queue.records import ContainerId, Hold
from dorabatch.queue.store import hold_from_json
from dorabatch.queue.tables import CONTAINERS, RUNS, WORKLOADS

_AT_ONCE = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class PastRun:
    """Who ran what on which GPUs, from when to when, and how it ended.

    `run` is workload.replica/attempt.
    """

    run: str
    user: str
    spec_json: str
    gpu_models: tuple[str, ...]
    started_at: datetime
    ended_at: datetime
    outcome: str = ""


def ended_runs(
    connection: Connection, zone: str, *, latest: int | None = None
) -> Iterator[PastRun]:
    """Attempts of a zone that ran and are over, by the moment of their end.

    All of them, or only the `latest` so many (newest first).
    """
    statement = (
        select(
            CONTAINERS.c.workload_id,
            CONTAINERS.c.replica,
            RUNS.c.attempt,
            RUNS.c.hold,
            RUNS.c.started_at,
            RUNS.c.ended_at,
            RUNS.c.outcome,
            WORKLOADS.c.user,
            WORKLOADS.c.spec,
        )
        .join(CONTAINERS, CONTAINERS.c.id == RUNS.c.container_id)
        .join(WORKLOADS, WORKLOADS.c.id == CONTAINERS.c.workload_id)
        .where(
            WORKLOADS.c.zone == zone,
            RUNS.c.started_at.is_not(None),
            RUNS.c.ended_at.is_not(None),
        )
    )
    newest = RUNS.c.ended_at.desc()
    statement = (
        statement.order_by(RUNS.c.ended_at)
        if latest is None
        else statement.order_by(newest).limit(latest)
    )
    for row in connection.execute(statement).yield_per(_AT_ONCE):
        yield PastRun(
            run=f"{row.workload_id}.{row.replica}/{row.attempt}",
            user=row.user,
            spec_json=row.spec,
            gpu_models=hold_from_json(row.hold).gpu_models,
            started_at=row.started_at,
            ended_at=row.ended_at,
            outcome=row.outcome or "",
        )


def first_starts(
    connection: Connection, workload_ids: Sequence[int]
) -> dict[int, datetime]:
    """When each of these workloads first ran; those that never did are left out."""
    found: dict[int, datetime] = {}
    for begin in range(0, len(workload_ids), _AT_ONCE):
        some = workload_ids[begin : begin + _AT_ONCE]
        statement = (
            select(
                CONTAINERS.c.workload_id, func.min(RUNS.c.started_at).label("started")
            )
            .join(CONTAINERS, CONTAINERS.c.id == RUNS.c.container_id)
            .where(CONTAINERS.c.workload_id.in_(some), RUNS.c.started_at.is_not(None))
            .group_by(CONTAINERS.c.workload_id)
        )
        rows = connection.execute(statement)
        found |= {row.workload_id: row.started for row in rows}
    return found


def last_holds(
    connection: Connection, container_ids: Sequence[ContainerId]
) -> dict[ContainerId, Hold]:
    """What the last attempt of each container held; never placed ones are left out."""
    found: dict[ContainerId, Hold] = {}
    for begin in range(0, len(container_ids), _AT_ONCE):
        some = container_ids[begin : begin + _AT_ONCE]
        statement = (
            select(RUNS.c.container_id, RUNS.c.hold)
            .join(
                CONTAINERS,
                (CONTAINERS.c.id == RUNS.c.container_id)
                & (CONTAINERS.c.attempt == RUNS.c.attempt),
            )
            .where(RUNS.c.container_id.in_(some))
        )
        rows = connection.execute(statement)
        found |= {ContainerId(r.container_id): hold_from_json(r.hold) for r in rows}
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRun:
    """The last attempt of a container, with the moment of its submission.

    `ended_at` is None while it runs.
    """

    workload_id: int
    replica: int
    user: str
    workspace: str
    spec_json: str
    gpu_models: tuple[str, ...]
    submitted_at: datetime
    started_at: datetime
    ended_at: datetime | None
    outcome: str


def job_runs(connection: Connection, zone: str, since: datetime) -> Iterator[JobRun]:
    """What ran at a moment or was submitted since and ran, by submission."""
    # The history's row gets the start only with the end.
    started_at = func.coalesce(RUNS.c.started_at, CONTAINERS.c.started_at)
    statement = (
        select(
            CONTAINERS.c.workload_id,
            CONTAINERS.c.replica,
            RUNS.c.hold,
            started_at.label("started_at"),
            RUNS.c.ended_at,
            RUNS.c.outcome,
            WORKLOADS.c.user,
            WORKLOADS.c.workspace,
            WORKLOADS.c.spec,
            WORKLOADS.c.submitted_at,
        )
        .join(
            CONTAINERS,
            (CONTAINERS.c.id == RUNS.c.container_id)
            & (CONTAINERS.c.attempt == RUNS.c.attempt),
        )
        .join(WORKLOADS, WORKLOADS.c.id == CONTAINERS.c.workload_id)
        .where(
            WORKLOADS.c.zone == zone,
            started_at.is_not(None),
            RUNS.c.ended_at.is_(None) | (RUNS.c.ended_at > since),
        )
        .order_by(WORKLOADS.c.submitted_at, CONTAINERS.c.id)
    )
    for row in connection.execute(statement).yield_per(_AT_ONCE):
        yield JobRun(
            workload_id=row.workload_id,
            replica=row.replica,
            user=row.user,
            workspace=row.workspace,
            spec_json=row.spec,
            gpu_models=hold_from_json(row.hold).gpu_models,
            submitted_at=row.submitted_at,
            started_at=row.started_at,
            ended_at=row.ended_at,
            outcome=row.outcome or "",
        )
