"""The SQL statements that tell what has become of workloads that others wait for.

Reads only; what it means for those who wait is decided in `awaited`.
"""

from collections.abc import Iterable, Iterator

from sqlalchemy import Connection, bindparam, func, select

from dorabatch.queue.awaited import AwaitedFact, Ending
from dorabatch.queue.past import first_starts
from dorabatch.queue.records import WorkloadId
from dorabatch.queue.states import Outcome, joint_outcome
from dorabatch.queue.tables import CONTAINERS, WORKLOADS

_AT_ONCE = 1000
_LOOK = (
    select(
        WORKLOADS.c.id,
        WORKLOADS.c.ended_at,
        func.max(CONTAINERS.c.attempt).label("attempt"),
        func.max(CONTAINERS.c.started_at).label("started_at"),
    )
    .join(CONTAINERS, CONTAINERS.c.workload_id == WORKLOADS.c.id, isouter=True)
    .where(WORKLOADS.c.id.in_(bindparam("some", expanding=True)))
    .group_by(WORKLOADS.c.id, WORKLOADS.c.ended_at)
)


def awaited_facts(
    connection: Connection, wanted: Iterable[WorkloadId]
) -> Iterator[AwaitedFact]:
    """What has become of each of these workloads so far."""
    keys = sorted(set(wanted))
    for begin in range(0, len(keys), _AT_ONCE):
        some = keys[begin : begin + _AT_ONCE]
        rows = list(connection.execute(_LOOK, {"some": some}))
        over = [row.id for row in rows if row.ended_at is not None]
        endings = _endings(connection, over) if over else {}
        # The history has the starts of attempts that are over, and only those.
        again = [row.id for row in rows if row.attempt and row.started_at is None]
        begun = first_starts(connection, again) if again else {}
        for row in rows:
            yield AwaitedFact(
                workload_id=WorkloadId(row.id),
                has_begun=row.started_at is not None or row.id in begun,
                ending=endings.get(row.id),
            )


def live_dependencies(connection: Connection, zone: str) -> dict[WorkloadId, str]:
    """What each workload of a zone that has not ended waits for, if for any."""
    statement = select(WORKLOADS.c.id, WORKLOADS.c.dependency).where(
        WORKLOADS.c.zone == zone,
        WORKLOADS.c.ended_at.is_(None),
        WORKLOADS.c.dependency != "",
    )
    return {WorkloadId(key): text for key, text in connection.execute(statement)}


def _endings(connection: Connection, over: list[int]) -> dict[int, Ending]:
    """How these workloads, which have ended, ended."""
    counted = (
        select(
            CONTAINERS.c.workload_id,
            CONTAINERS.c.outcome,
            func.max(CONTAINERS.c.exit_code).label("exit_code"),
        )
        .where(CONTAINERS.c.workload_id.in_(over), CONTAINERS.c.removed.is_(False))
        .group_by(CONTAINERS.c.workload_id, CONTAINERS.c.outcome)
    )
    outcomes: dict[int, list[Outcome]] = {key: [] for key in over}
    codes: dict[int, list[int]] = {key: [] for key in over}
    for row in connection.execute(counted):
        outcomes[row.workload_id] += [Outcome(row.outcome)] if row.outcome else []
        codes[row.workload_id] += [] if row.exit_code is None else [row.exit_code]
    return {
        key: Ending(
            outcome=joint_outcome(outcomes[key]),
            exit_code=max(codes[key], default=None),
        )
        for key in over
    }
