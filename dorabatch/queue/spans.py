"""Attempts that ran in a period, read for reports.

Reads only, row by row; adds nothing up.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, or_, select

from dorabatch.queue.store import hold_from_json
from dorabatch.queue.tables import CONTAINERS, RUNS, WORKLOADS

_AT_ONCE = 1000
_CHUNK = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSpan:
    """One attempt that ran; `ended_at` is None while it does."""

    workload_id: int
    user: str
    workspace: str
    attempt: int
    gpu_models: tuple[str, ...]
    submitted_at: datetime
    started_at: datetime
    ended_at: datetime | None


def runs_between(
    connection: Connection, zone: str, start: datetime, end: datetime
) -> Iterator[RunSpan]:
    """Attempts of a zone that ran at any moment of [start, end), by their start."""
    statement = (
        select(
            WORKLOADS.c.id,
            WORKLOADS.c.user,
            WORKLOADS.c.workspace,
            WORKLOADS.c.submitted_at,
            RUNS.c.attempt,
            RUNS.c.hold,
            RUNS.c.started_at,
            RUNS.c.ended_at,
        )
        .join(CONTAINERS, CONTAINERS.c.id == RUNS.c.container_id)
        .join(WORKLOADS, WORKLOADS.c.id == CONTAINERS.c.workload_id)
        .where(
            WORKLOADS.c.zone == zone,
            RUNS.c.started_at < end,
            or_(RUNS.c.ended_at.is_(None), RUNS.c.ended_at > start),
        )
        .order_by(RUNS.c.started_at, WORKLOADS.c.id)
    )
    for row in connection.execute(statement).yield_per(_AT_ONCE):
        yield RunSpan(
            workload_id=row.id,
            user=row.user,
            workspace=row.workspace,
            attempt=row.attempt,
            gpu_models=hold_from_json(row.hold).gpu_models,
            submitted_at=row.submitted_at,
            started_at=row.started_at,
            ended_at=row.ended_at,
        )


def owners_of(
    connection: Connection, workload_ids: Iterable[int]
) -> dict[int, tuple[str, str]]:
    """workload -> (workspace, user)."""
    wanted = sorted(set(workload_ids))
    found: dict[int, tuple[str, str]] = {}
    for first in range(0, len(wanted), _CHUNK):
        asked = select(WORKLOADS.c.id, WORKLOADS.c.workspace, WORKLOADS.c.user).where(
            WORKLOADS.c.id.in_(wanted[first : first + _CHUNK])
        )
        found |= {
            row.id: (row.workspace, row.user) for row in connection.execute(asked)
        }
    return found


def known_users(connection: Connection, zone: str) -> set[str]:
    """Everybody who ever submitted anything to a zone."""
    asked = select(WORKLOADS.c.user).where(WORKLOADS.c.zone == zone).distinct()
    return set(connection.execute(asked).scalars())
