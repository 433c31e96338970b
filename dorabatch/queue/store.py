"""The SQL statements that change or load workloads, containers, attempts and events.

Each function is one duty inside the caller's transaction and notes what it changed;
none decides, and none talks to anything but the database. What is only read for others
is in `past` and `spans`.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from operator import itemgetter
from typing import Any

from sqlalchemy import (
    Connection,
    Row,
    Select,
    Update,
    bindparam,
    insert,
    select,
    update,
)

from dorabatch.db import Tx
from dorabatch.errors import LeaseLost
from dorabatch.queue.records import (
    Container,
    ContainerId,
    Happening,
    Hold,
    NewWorkload,
    Run,
    StartHold,
    Submitter,
    Workload,
    WorkloadId,
)
from dorabatch.queue.states import AfterStop, Outcome, State
from dorabatch.queue.tables import CONTAINERS, EVENTS, IDS, RUNS, VERSIONS, WORKLOADS

_INSERT_WORKLOAD, _INSERT_VERSION = insert(WORKLOADS), insert(VERSIONS)
_INSERT_CONTAINER, _INSERT_RUN = insert(CONTAINERS), insert(RUNS)
_INSERT_EVENT = insert(EVENTS).inline()
_TAKE_IDS = (
    update(IDS)
    .where(IDS.c.name == bindparam("sequence"))
    .values(next_id=IDS.c.next_id + bindparam("count"))
    .returning(IDS.c.next_id)
)


def take_ids(tx: Tx, name: str, count: int) -> int:
    """Reserve `count` consecutive ids of a sequence; the first of them."""
    wanted = {"sequence": name, "count": count}
    after: int | None = tx.connection.execute(_TAKE_IDS, wanted).scalar()
    if after is None:
        tx.connection.execute(insert(IDS).values(name=name, next_id=1 + count))
        return 1
    return after - count


def ids_of_submissions(tx: Tx, keys: Sequence[str]) -> dict[str, WorkloadId]:
    """Workloads that were already made for these submission keys."""
    if not keys:
        return {}
    statement = select(WORKLOADS.c.submission_key, WORKLOADS.c.id).where(
        WORKLOADS.c.submission_key.in_(keys)
    )
    return {key: WorkloadId(found) for key, found in tx.connection.execute(statement)}


def live_id(tx: Tx, zone: str, workspace: str, name: str) -> WorkloadId | None:
    """The id of the workload that has this name and has not ended."""
    statement = select(WORKLOADS.c.id).where(
        WORKLOADS.c.zone == zone,
        WORKLOADS.c.workspace == workspace,
        WORKLOADS.c.name == name,
        WORKLOADS.c.ended_at.is_(None),
    )
    found: int | None = tx.connection.execute(statement).scalar()
    return None if found is None else WorkloadId(found)


def insert_workloads(tx: Tx, new: Sequence[NewWorkload], first: int) -> list[Workload]:
    """Store submissions with their containers, all QUEUED; one statement a table.

    `first` is the first of as many ids taken before from the "workload" sequence.
    """
    workloads = [
        Workload(
            workload_id=WorkloadId(first + index),
            version=1,
            **{name: getattr(one, name) for name in NewWorkload.__slots__},
        )
        for index, one in enumerate(new)
    ]
    tx.write_rows(_INSERT_WORKLOAD, [_workload_row(w) for w in workloads])
    # Listeners need a workload before its containers.
    for workload in workloads:
        tx.note(workload)
    insert_versions(tx, workloads)
    insert_containers(
        tx, [(w, replica) for w in workloads for replica in range(1, w.replicas + 1)]
    )
    insert_events(
        tx,
        [
            Happening(
                workload_id=w.workload_id,
                at=w.submitted_at,
                replica=None,
                kind="submit",
                text=w.submission,
            )
            for w in workloads
        ],
    )
    return workloads


def insert_versions(tx: Tx, workloads: Sequence[Workload]) -> None:
    """Keep the present spec of each workload as a dated version."""
    rows = [
        {
            "workload_id": w.workload_id,
            "version": w.version,
            "spec": w.spec_json,
            "at": w.submitted_at,
            "user": w.submitter.user,
        }
        for w in workloads
    ]
    tx.write_rows(_INSERT_VERSION, rows)


def insert_containers(
    tx: Tx, wanted: Sequence[tuple[Workload, int]], *, now: datetime | None = None
) -> list[Container]:
    """Store new QUEUED containers, one for each (workload, replica number)."""
    if not wanted:
        return []
    first = take_ids(tx, "container", len(wanted))
    made = [
        Container(
            container_id=ContainerId(first + index),
            workload_id=workload.workload_id,
            replica=replica,
            state=State.QUEUED,
            rev=1,
            version=workload.version,
            attempt=0,
            queued_at=now or workload.submitted_at,
        )
        for index, (workload, replica) in enumerate(wanted)
    ]
    tx.write_rows(_INSERT_CONTAINER, [_container_row(c) for c in made])
    for container in made:
        tx.note(container)
    return made


def save_workload(tx: Tx, workload: Workload) -> None:
    """Write a workload whose version, replicas or end changed."""
    row = _workload_row(workload)
    key = row.pop("id")
    tx.connection.execute(update(WORKLOADS).where(WORKLOADS.c.id == key).values(**row))
    tx.note(workload)


_ONE_WORKLOAD = update(WORKLOADS).where(WORKLOADS.c.id == bindparam("key_id"))
_DATE_END = _ONE_WORKLOAD.values(ended_at=bindparam("ended_at"))


def date_ends(tx: Tx, ended: Sequence[Workload]) -> None:
    """Write when workloads ended of which nothing else has changed."""
    rows = [{"key_id": one.workload_id, "ended_at": one.ended_at} for one in ended]
    tx.write_rows(_DATE_END, rows)
    for one in ended:
        tx.note(one)


# What never changes is not written again: the database would look it up in its indexes.
_CONTAINER_COLUMNS = [
    c.name for c in CONTAINERS.columns if c.name not in ("id", "workload_id", "replica")
]
_SAVE_CONTAINER: Update = (
    update(CONTAINERS)
    .where(CONTAINERS.c.id == bindparam("key_id"), CONTAINERS.c.rev < bindparam("rev"))
    .where(CONTAINERS.c.rev == bindparam("key_rev"))
    .values({name: bindparam(name) for name in _CONTAINER_COLUMNS})
)


def save_containers(tx: Tx, changed: Sequence[tuple[Container, Container]]) -> None:
    """Write (before, after) pairs; LeaseLost when one `before` is out of date."""
    if not changed:
        return
    rows = []
    for before, after in changed:
        row = _container_row(after)
        row["key_id"], row["key_rev"] = row.pop("id"), before.rev
        rows.append(row)
    rows.sort(key=itemgetter("key_id"))  # as they lie on disk
    done = tx.write_rows(_SAVE_CONTAINER, rows)
    if done != len(rows):
        raise LeaseLost(
            f"{len(rows) - done} of {len(rows)} containers changed in between"
        )
    for _, after in changed:
        tx.note(after)


def get_container(tx: Tx, container_id: ContainerId) -> Container:
    """One container as it stands in this transaction."""
    statement = select(CONTAINERS).where(CONTAINERS.c.id == container_id)
    return _container(tx.connection.execute(statement).one())


def containers_of(tx: Tx, workload_id: WorkloadId) -> list[Container]:
    """All containers of a workload, by replica number."""
    return containers_by_workload(tx.connection, [workload_id])[workload_id]


def containers_by_workload(
    connection: Connection, ids: Sequence[WorkloadId]
) -> dict[WorkloadId, list[Container]]:
    """All containers of some hundred workloads at most, by replica number."""
    statement = (
        select(CONTAINERS)
        .where(CONTAINERS.c.workload_id.in_(ids))
        .order_by(CONTAINERS.c.workload_id, CONTAINERS.c.replica)
    )
    found: dict[WorkloadId, list[Container]] = {key: [] for key in ids}
    for row in connection.execute(statement):
        found[row.workload_id].append(_container(row))
    return found


def running_in(
    tx: Tx, zone: str, states: Iterable[State] = (State.RUNNING,)
) -> list[Container]:
    """A zone's containers that run, or are in these states, in this transaction."""
    statement = (
        select(CONTAINERS)
        .join(WORKLOADS)
        .where(CONTAINERS.c.state.in_(list(states)), WORKLOADS.c.zone == zone)
    )
    return [_container(row) for row in tx.connection.execute(statement)]


def latest_attempts(
    connection: Connection, workload_ids: Iterable[int]
) -> dict[tuple[int, int], int]:
    """The latest attempt of each (workload, replica) of these workloads."""
    columns = CONTAINERS.c.workload_id, CONTAINERS.c.replica, CONTAINERS.c.attempt
    wanted = select(*columns).where(CONTAINERS.c.workload_id.in_(sorted(workload_ids)))
    rows = connection.execute(wanted)
    return {(workload, replica): attempt for workload, replica, attempt in rows}


def get_workload(tx: Tx, workload_id: WorkloadId) -> Workload | None:
    """One workload as it stands in this transaction."""
    return next(iter(get_workloads(tx, [workload_id])), None)


def get_workloads(tx: Tx, ids: Sequence[WorkloadId]) -> list[Workload]:
    """Some hundred workloads at most, as they stand in this transaction."""
    statement = select(WORKLOADS).where(WORKLOADS.c.id.in_(ids))
    return [_workload(row) for row in tx.connection.execute(statement)]


def insert_runs(tx: Tx, runs: Sequence[Run]) -> None:
    """Begin the history of attempts."""
    rows = sorted(map(_run_row, runs), key=itemgetter("container_id"))
    tx.write_rows(_INSERT_RUN, rows)


_SAVE_RUN: Update = (
    update(RUNS)
    .where(
        RUNS.c.container_id == bindparam("key_id"),
        RUNS.c.attempt == bindparam("key_attempt"),
    )
    .values(
        {
            name: bindparam(name)
            for name in ("started_at", "ended_at", "exit_code", "outcome", "reason")
        }
    )
)


def save_run_end(tx: Tx, container: Container) -> None:
    """Copy what is known of the present attempt into its history row."""
    outcome = container.outcome
    tx.connection.execute(
        _SAVE_RUN,
        {
            "key_id": container.container_id,
            "key_attempt": container.attempt,
            "started_at": container.started_at,
            "ended_at": container.ended_at,
            "exit_code": container.exit_code,
            "outcome": str(outcome) if outcome else None,
            "reason": container.reason,
        },
    )


def insert_events(tx: Tx, happenings: Sequence[Happening]) -> None:
    """Add to the history of workloads."""
    names = Happening.__slots__
    rows = [{name: getattr(one, name) for name in names} for one in happenings]
    tx.write_rows(_INSERT_EVENT, rows)


def load_live(connection: Connection, zone: str) -> Iterator[object]:
    """Workloads of a zone that have not ended, each followed by its containers."""
    live = select(WORKLOADS).where(
        WORKLOADS.c.zone == zone, WORKLOADS.c.ended_at.is_(None)
    )
    yield from _with_containers(connection, live)


def load_ended(connection: Connection, zone: str, limit: int) -> Iterator[object]:
    """The workloads that ended last, each followed by its containers."""
    ended = (
        select(WORKLOADS)
        .where(WORKLOADS.c.zone == zone, WORKLOADS.c.ended_at.is_not(None))
        .order_by(WORKLOADS.c.ended_at.desc())
        .limit(limit)
    )
    yield from _with_containers(connection, ended)


def find_ended(
    connection: Connection, zone: str, workspace: str | None, name: str
) -> Iterator[object]:
    """The last ended workload of this name (or id), with its containers."""
    wanted = select(WORKLOADS).where(WORKLOADS.c.zone == zone)
    if name.isdecimal() and len(name) < 19:
        wanted = wanted.where(WORKLOADS.c.id == int(name))
    else:
        wanted = wanted.where(WORKLOADS.c.name == name)
    if workspace is not None:
        wanted = wanted.where(WORKLOADS.c.workspace == workspace)
    yield from _with_containers(
        connection, wanted.order_by(WORKLOADS.c.id.desc()).limit(1)
    )


def _with_containers(
    connection: Connection, wanted: Select[Any]
) -> Iterator[Workload | Container]:
    workloads = {row.id: _workload(row) for row in connection.execute(wanted)}
    keys = sorted(workloads)
    for begin in range(0, len(keys), 500):
        part = keys[begin : begin + 500]
        for key, containers in containers_by_workload(connection, part).items():
            yield workloads[key]
            yield from containers


def _workload_row(workload: Workload) -> dict[str, Any]:
    row = {
        name: getattr(workload, name)
        for name in Workload.__slots__
        if name not in ("workload_id", "submitter", "spec_json", "start_hold")
    }
    who, hold = workload.submitter, workload.start_hold
    return {
        **row,
        "id": workload.workload_id,
        "spec": workload.spec_json,
        "user": who.user,
        "uid": who.uid,
        "gid": who.gid,
        "groups": list(who.groups),
        "held_by": None if hold is None else hold.by,
        "held_reason": None if hold is None else hold.reason,
    }


def _workload(row: Row[Any]) -> Workload:
    who = Submitter(
        user=row.user, uid=row.uid, gid=row.gid, groups=tuple(row._mapping["groups"])
    )
    by, why = row.held_by, row.held_reason or ""
    return Workload(
        workload_id=WorkloadId(row.id),
        zone=row.zone,
        workspace=row.workspace,
        name=row.name,
        submitter=who,
        spec_json=row.spec,
        spec_digest=row.spec_digest,
        version=row.version,
        replicas=row.replicas,
        submission_key=row.submission_key,
        submitted_at=row.submitted_at,
        ended_at=row.ended_at,
        dependency=row.dependency,
        start_hold=None if by is None else StartHold(by=by, reason=why),
    )


_PLAIN_CONTAINER = tuple(
    name
    for name in Container.__slots__
    if name not in ("container_id", "state", "hold", "outcome", "after_stop")
)


def _container_row(container: Container) -> dict[str, Any]:
    row = {name: getattr(container, name) for name in _PLAIN_CONTAINER}
    hold, outcome, after = container.hold, container.outcome, container.after_stop
    row["id"] = container.container_id
    row["state"] = str(container.state)
    row["hold"] = None if hold is None else _hold_json(hold)
    row["outcome"] = None if outcome is None else str(outcome)
    row["after_stop"] = None if after is None else str(after)
    return row


def _container(row: Row[Any]) -> Container:
    values = row._mapping
    plain = {name: values[name] for name in _PLAIN_CONTAINER}
    outcome, after, hold = values["outcome"], values["after_stop"], values["hold"]
    return Container(
        **plain,
        container_id=ContainerId(values["id"]),
        state=State(values["state"]),
        hold=None if hold is None else hold_from_json(hold),
        outcome=None if outcome is None else Outcome(outcome),
        after_stop=None if after is None else AfterStop(after),
    )


def _hold_json(hold: Hold) -> dict[str, Any]:
    return {name: getattr(hold, name) for name in Hold.__slots__}


def hold_from_json(value: dict[str, Any]) -> Hold:
    """The hold that a row keeps."""
    tuples: dict[str, Any] = {
        name: tuple(item) if isinstance(item, list) else item
        for name, item in value.items()
    }
    return Hold(**tuples)


def _run_row(run: Run) -> dict[str, Any]:
    row = {name: getattr(run, name) for name in Run.__slots__}
    outcome = run.outcome
    return {
        **row,
        "hold": _hold_json(run.hold),
        "node": run.hold.node,
        "outcome": None if outcome is None else str(outcome),
    }
