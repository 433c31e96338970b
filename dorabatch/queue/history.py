"""What happened to one workload: its events, attempts and versions as they were.

Reads only; what is live is on the board, and what all attempts come to is in `past`.
"""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, select

from dorabatch.queue.records import ContainerId, Happening, Run, WorkloadId
from dorabatch.queue.states import Outcome
from dorabatch.queue.store import hold_from_json
from dorabatch.queue.tables import EVENTS, RUNS, VERSIONS


def events_of(connection: Connection, workload_id: WorkloadId) -> list[Happening]:
    """A workload's history, oldest first."""
    statement = (
        select(EVENTS).where(EVENTS.c.workload_id == workload_id).order_by(EVENTS.c.id)
    )
    return [
        Happening(
            workload_id=workload_id,
            at=row.at,
            replica=row.replica,
            kind=row.kind,
            text=row.text,
        )
        for row in connection.execute(statement)
    ]


def runs_of(connection: Connection, container_ids: Iterable[ContainerId]) -> list[Run]:
    """All attempts of these containers, in order."""
    statement = (
        select(RUNS)
        .where(RUNS.c.container_id.in_(list(container_ids)))
        .order_by(RUNS.c.container_id, RUNS.c.attempt)
    )
    return [_run(row) for row in connection.execute(statement)]


def versions_of(
    connection: Connection, workload_id: WorkloadId
) -> list[tuple[int, datetime, str, str]]:
    """(version, since when, by whom, spec) of a workload."""
    statement = (
        select(VERSIONS)
        .where(VERSIONS.c.workload_id == workload_id)
        .order_by(VERSIONS.c.version)
    )
    rows = connection.execute(statement)
    return [(row.version, row.at, row.user, row.spec) for row in rows]


def _run(row: Row[Any]) -> Run:
    values = dict(row._mapping)
    values.pop("node")
    outcome = values.pop("outcome")
    return replace(
        Run(**{**values, "hold": hold_from_json(values["hold"])}),
        outcome=None if outcome is None else Outcome(outcome),
    )
