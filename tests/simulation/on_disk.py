"""What a zone's database says, read in one go and without any of the daemon's books."""

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, func, select, text

from dorabatch.daemon.state.charging import STOPPED_TRIAL
from dorabatch.fairshare.store.ledger_tables import (
    ALLOCATIONS,
    BALANCES,
    METERS,
    RUN_CREDITS,
)
from dorabatch.queue import history, store
from dorabatch.queue.records import Container, Run, Workload, WorkloadId
from dorabatch.queue.states import State
from dorabatch.queue.tables import EVENTS

_ALL = 1 << 40
HISTORY = (
    "CREATE TABLE seen_states (container_id INTEGER, state TEXT)",
    "CREATE TRIGGER seen_new AFTER INSERT ON containers "
    "BEGIN INSERT INTO seen_states VALUES (NEW.id, NEW.state); END",
    "CREATE TRIGGER seen_move AFTER UPDATE OF state ON containers "
    "BEGIN INSERT INTO seen_states VALUES (NEW.id, NEW.state); END",
)
"""Lets the database remember each state of each container."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OnDisk:
    """The database at one moment.

    histories[container] are its states in order; liens[run] and charges[run] are what
    a run holds and was charged less what was refunded, funds[account] what is left, in
    micro-credits; `forgiven` are the runs whose trial was stopped;
    placings are (workload, what happened) of holds and places, in order.
    """

    workloads: Mapping[WorkloadId, Workload]
    containers: list[Container]
    runs: list[Run]
    histories: dict[int, list[State]]
    liens: dict[str, int]
    charges: dict[str, int]
    funds: dict[str, int]
    forgiven: list[str]
    placings: list[tuple[int, str]]


def read(connection: Connection, zone: str) -> OnDisk:
    """All of it, of one zone where it is a zone's."""
    found = [*store.load_ended(connection, zone, _ALL)]
    found += store.load_live(connection, zone)
    containers = [one for one in found if isinstance(one, Container)]
    containers.sort(key=lambda one: one.container_id)
    keys = [one.container_id for one in containers]
    return OnDisk(
        workloads={o.workload_id: o for o in found if isinstance(o, Workload)},
        containers=containers,
        runs=history.runs_of(connection, keys),
        histories=_seen_states(connection),
        liens=_totals(connection, {"lien": 1}),
        charges=_totals(connection, {"charged": 1, "refunded": -1}),
        funds=_funds(connection),
        placings=_placings(connection),
        forgiven=list(
            connection.execute(
                select(METERS.c.run).where(METERS.c.reason == STOPPED_TRIAL)
            ).scalars()
        ),
    )


class Changes:
    """Tells whether somebody has written to a database since the last question."""

    def __init__(self, file: Path) -> None:
        self._connection = sqlite3.connect(file)

    def number(self) -> int:
        """Another number after each commit of others."""
        (found,) = self._connection.execute("PRAGMA data_version").fetchone()
        return int(found)

    def close(self) -> None:
        """Ask no more."""
        self._connection.close()


def _placings(connection: Connection) -> list[tuple[int, str]]:
    asked = (
        select(EVENTS.c.workload_id, EVENTS.c.kind)
        .where(EVENTS.c.kind.in_(["hold", "release", "place", "restart"]))
        .order_by(EVENTS.c.id)
    )
    return [(int(key), str(kind)) for key, kind in connection.execute(asked)]


def _totals(connection: Connection, signs: Mapping[str, int]) -> dict[str, int]:
    found: dict[str, int] = {}
    asked = select(RUN_CREDITS).where(RUN_CREDITS.c.what.in_(list(signs)))
    for row in connection.execute(asked):
        found[row.run] = found.get(row.run, 0) + signs[row.what] * row.ucr
    return found


def _funds(connection: Connection) -> dict[str, int]:
    asked = (
        select(ALLOCATIONS.c.account, func.sum(BALANCES.c.ucr))
        .join(BALANCES, BALANCES.c.allocation_id == ALLOCATIONS.c.id)
        .where(BALANCES.c.ledger_account.like("avail:%"))
        .group_by(ALLOCATIONS.c.account)
    )
    return {account: int(ucr) for account, ucr in connection.execute(asked)}


def _seen_states(connection: Connection) -> dict[int, list[State]]:
    found: dict[int, list[State]] = {}
    rows = connection.execute(
        text("SELECT container_id, state FROM seen_states ORDER BY rowid")
    )
    for container_id, state in rows:
        found.setdefault(container_id, []).append(State(state))
    return found
