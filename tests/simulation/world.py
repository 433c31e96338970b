"""A whole daemon on a fake clock and fake nodes, driven by a seed.

The services, the writer, the board, the cycle, the keepers and the launcher are the
real ones, on a real SQLite file. Only threads are missing: whatever they would do is
done on call, in an order that the seed decides, and the daemon may be killed at any
write or step and put together again from its database.
"""

from collections.abc import Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from sqlalchemy import Connection, func, select, text

from dorabatch.clock import FakeClock
from dorabatch.config import Settings
from dorabatch.daemon.assembly import DaemonParts, compose, parts_of
from dorabatch.daemon.cycle.gates.credit_gate import OUT_OF_CREDIT
from dorabatch.daemon.cycle.gates.dependency_gate import DEPENDENCY_NEVER
from dorabatch.daemon.cycle.gates.limit_gate import LIMIT
from dorabatch.daemon.rights import Caller
from dorabatch.daemon.runs.assembly import keepers_of
from dorabatch.daemon.service import Daemon
from dorabatch.daemon.state.books import Books
from dorabatch.daemon.state.charging import STOPPED_TRIAL
from dorabatch.daemon.state.credit_book import job_name
from dorabatch.daemon.state.effects import Effects
from dorabatch.db import Tx
from dorabatch.fairshare.store.ledger_check import check_ledger
from dorabatch.fairshare.store.ledger_tables import (
    ALLOCATIONS,
    BALANCES,
    METERS,
    RUN_CREDITS,
)
from dorabatch.node.facts import ContainerState, NodeFacts
from dorabatch.node.fake import FakeNode
from dorabatch.node.identity import parse_identity
from dorabatch.queue import history, store
from dorabatch.queue.records import (
    Container,
    ContainerId,
    Run,
    Submitter,
    Workload,
    WorkloadId,
)
from dorabatch.queue.states import State
from dorabatch.queue.tables import CONTAINERS, RUNS
from dorabatch.resources.cluster import NodeSpec
from dorabatch.resources.manifest import parse_manifest
from tests import checkers
from tests.makers import ALICE, BOB, RTX, START, V100, ZONE, facts, gpus
from tests.simulation.killing import Killed, telling
from tests.simulation.work import SteppedKeeper, WaitingWork

ROOT = Submitter(user="root", uid=0, gid=0)
DRAIN_ROUNDS_MAX = 400
DRAIN_SECONDS = 7.0
LEDGER_EVERY = 10
_HISTORY = (
    "CREATE TABLE seen_states (container_id INTEGER, state TEXT)",
    "CREATE TRIGGER seen_new AFTER INSERT ON containers "
    "BEGIN INSERT INTO seen_states VALUES (NEW.id, NEW.state); END",
    "CREATE TRIGGER seen_move AFTER UPDATE OF state ON containers "
    "BEGIN INSERT INTO seen_states VALUES (NEW.id, NEW.state); END",
)


PRICES = """
apiVersion: v1
kind: Resourcecredit
metadata: {zone: dc-rov-01, name: v100}
spec:
  product_name: Tesla V100-SXM2-16GB
  credit: {per: {hour: 2.5}}
---
apiVersion: v1
kind: Resourcecredit
metadata: {zone: dc-rov-01, name: rtx}
spec:
  product_name: Quadro RTX 6000
  credit: {per: {hour: 1.1}}
"""
"""Both V100 and RTX cost; nobody is limited."""
LIMITS = """
---
apiVersion: v1
kind: User
metadata: {name: alice}
spec:
  credits: [{zone: dc-rov-01, weekly: 3, onExhaust: stop}]
---
apiVersion: v1
kind: User
metadata: {name: bob}
spec:
  credits: [{zone: dc-rov-01, weekly: 3, onExhaust: demote}]
"""
"""Alice is stopped at her limit, bob goes on for nothing."""


def machines() -> dict[str, NodeFacts]:
    """Four V100; two RTX; two of each; no GPU."""
    mixed = (*gpus(2, V100, "GPU-V"), *gpus(2, RTX, "GPU-R"))
    return {
        "n1": facts(hostname="n1"),
        "n2": facts(hostname="n2", gpus=gpus(2, RTX)),
        "n3": facts(hostname="n3", gpus=mixed, cores=tuple(range(12))),
        "n4": facts(hostname="n4", gpus=(), memory_mib=8192),
    }


class World:
    """One zone, its nodes and its users."""

    def __init__(
        self,
        seed: int,
        folder: Path,
        policy: Mapping[str, Any] | None = None,
        *,
        credits: str = PRICES + LIMITS,
        admins: tuple[str, ...] = ("root",),
    ) -> None:
        self.random = Random(seed)
        self.clock = FakeClock(START)
        self.settings = Settings(
            zone=ZONE,
            state_dir=folder,
            socket=folder / "dorad.sock",
            policy=dict(policy or {}),
            admins=admins,
        )
        self.nodes = {
            name: FakeNode(name, now=self.clock.now, facts=has)
            for name, has in machines().items()
        }
        self.trail: list[str] = []
        self.exits: dict[tuple[int, int, int], int] = {}
        self.lost: set[tuple[int, int, int]] = set()
        self.kills = 0
        self.is_quiet = True
        self.interfere: Callable[[], None] = _nothing
        self._moments = 0
        self._checked = 0
        self._dies_at = 0
        self._is_interfering = False
        self._boot()
        with self.effects.engine.begin() as connection:
            for statement in _HISTORY:
                connection.execute(text(statement))
        for number, name in enumerate(self.nodes):
            key = "SHA256:" + str(number) * 43
            spec = NodeSpec.model_validate(
                {"endpoint": f"ssh://root@{name}:22", "hostKey": key}
            )
            self.parts.intake.nodes.save(self.caller(ROOT), name, spec)
        for keeper in self.keepers():
            keeper.look()
        documents = parse_manifest(credits, path="credits").documents if credits else ()
        for document in documents:
            apply = self.parts.intake.kinds.of(document.kind).apply
            assert apply is not None
            apply(self.caller(ROOT), document, None)

    @property
    def parts(self) -> DaemonParts:
        """The present daemon's parts."""
        return self.daemon.parts

    @property
    def books(self) -> Books:
        """What it keeps in memory."""
        return self.parts.books

    @property
    def effects(self) -> Effects:
        """How it acts."""
        return self.parts.effects

    def caller(self, who: Submitter) -> Caller:
        """Somebody at the socket; root is an admin."""
        return Caller(submitter=who, is_admin=who is ROOT)

    def users(self) -> tuple[Submitter, ...]:
        """Who submits."""
        return ALICE, BOB

    def keepers(self) -> list[SteppedKeeper]:
        """The present daemon's keepers, by node."""
        found = (self.parts.keepers.get(name) for name in sorted(self.nodes))
        return [one for one in found if isinstance(one, SteppedKeeper)]

    def live(self) -> list[Workload]:
        """Workloads that have not ended, oldest first."""
        board = self.books.board
        return [w for _, w in sorted(board.workloads.items()) if w.ended_at is None]

    def running(self) -> list[tuple[FakeNode, str]]:
        """Every job that runs on a node."""
        return [
            (node, name)
            for node in self.nodes.values()
            for name, one in node.containers.items()
            if one.facts.state is ContainerState.RUNNING
        ]

    # -- life and death --------------------------------------------------------

    def attempt(self, action: Callable[[], None]) -> None:
        """Do something; where it kills the daemon, a new one takes over."""
        self._dies_at = self._dies_at if self._dies_at > self._moments else 0
        try:
            action()
        except Killed as killed:
            self.trail.append(f"killed at {killed}")
            self.kill()

    def doom(self, moments: int) -> None:
        """Let the daemon be killed at the n-th moment from here."""
        self._dies_at = self._moments + moments

    def kill(self) -> None:
        """End the daemon as kill -9 does, and start another one."""
        self.kills += 1
        self._dies_at = 0
        self.effects.writer.stop()
        self.effects.engine.dispose()
        self._boot()

    def close(self) -> None:
        """Let go of the database."""
        self.effects.writer.stop()
        self.effects.engine.dispose()

    def _boot(self) -> None:
        books, effects = compose(self.settings, self.clock)
        effects = replace(effects, open_driver=lambda node: self.nodes[node.name])
        stepped = partial(keepers_of, kind=SteppedKeeper, workers=WaitingWork)
        told = telling(effects, self._moment)
        self.daemon = Daemon(parts_of(books, told, stepped))
        # A daemon may also die while it starts; that is the same as dying after.
        was_quiet, self.is_quiet = self.is_quiet, True
        self.daemon.load()
        self.is_quiet = was_quiet

    def _moment(self, name: str) -> None:
        if self.is_quiet:
            return
        self._moments += 1
        if self._moments == self._dies_at:
            raise Killed(name)
        if self._is_interfering or self.random.random() > 0.06:
            return
        self._is_interfering = True
        try:
            self.interfere()
        finally:
            self._is_interfering = False

    # -- what must hold --------------------------------------------------------

    def broken(self) -> list[str]:
        """Every law that does not hold now."""
        with self.effects.engine.connect() as connection:
            containers = list(all_containers(connection))
            histories = seen_states(connection)
        attempts = self.attempts()
        has = {name: node.facts for name, node in self.nodes.items()}
        return [
            *checkers.broken_laws(containers, has),
            *checkers.illegal_moves(histories),
            *checkers.containers_without_hold(containers, attempts),
            *checkers.replicas_running_twice(attempts),
            *checkers.differences_in_memory(self.books.board.containers, containers),
            *(text for node in self.nodes.values() for text in node.violations),
            *self._broken_limits(containers),
            *self._broken_books(containers),
        ]

    def _broken_limits(self, containers: list[Container]) -> list[str]:
        """Limits of this zone; set, they stay from the beginning of a run on."""
        policy, board = self.books.policy, self.books.board
        users = {key: one.submitter.user for key, one in board.workloads.items()}
        here = [one for one in containers if one.workload_id in users]
        return checkers.over_limits(
            here, users, policy.settings.limits, policy.accounts_of
        )

    def _broken_books(self, containers: list[Container]) -> list[str]:
        """Laws of the ledger; the whole chain is added up now and then only."""
        self._checked += 1
        with self.effects.engine.connect() as connection:
            liens = open_liens(connection)
            debts = checkers.debts(limited_accounts(connection))
            names = {c.container_id: job_name(c) for c in containers}
            runs = {
                f"{names[run.container_id]}/{run.attempt}": run
                for run in all_runs(connection)
            }
            charges = checkers.wrong_charges(
                runs, net_charges(connection), stopped_trials(connection)
            )
            chain = (
                check_ledger(connection) if self._checked % LEDGER_EVERY == 0 else []
            )
        held = checkers.liens_without_run(liens, containers)
        return [*held, *debts, *charges, *chain]

    def attempts(self) -> dict[str, list[tuple[int, int, int]]]:
        """What runs on each node: (workload, replica, attempt)."""
        found: dict[str, list[tuple[int, int, int]]] = {}
        for node, name in self.running():
            found.setdefault(node.name, []).append(attempt_of(node, name))
        return found

    def end_job(self, node: FakeNode, name: str, code: int, *, oom: bool) -> None:
        """A job ends by itself; remembered, to compare with what is recorded."""
        self.exits[attempt_of(node, name)] = code
        node.exit(name, code, oom=oom)

    def lose(self, node: FakeNode, codes: AbstractSet[int | None]) -> None:
        """The node ends what runs, and may have ended what ended with such a code."""
        for name, one in node.containers.items():
            has = one.facts
            is_vague = has.has_ended and has.exit_code in codes and not has.oom_killed
            if is_vague or has.state is ContainerState.RUNNING:
                self.lost.add(attempt_of(node, name))

    def broken_chain(self) -> list[str]:
        """What is wrong with the ledger from its first entry on."""
        with self.effects.engine.connect() as connection:
            return check_ledger(connection)

    # -- the end -----------------------------------------------------------------

    def drain(self) -> None:
        """Heal everything, let every job end, and go on until nothing is left."""
        self.is_quiet = True
        for node in self.nodes.values():
            node.mend()
        for name in self.nodes:
            self.parts.intake.nodes.change(
                self.caller(ROOT), name, scheduling_disabled=False
            )
        for one in self.live():
            if one.start_hold is not None:
                self.parts.intake.holds.release("root", one, of_all=True)
        for _ in range(DRAIN_ROUNDS_MAX):
            self._round()
            self._end_what_never_ends()
            is_empty = not any(node.containers for node in self.nodes.values())
            if is_empty and not self.live():
                return
        plan = self.books.latest.last.plan
        why = [one.sentence for one in plan.explanations] if plan else []
        left = [f"{w.workload_id} {w.name} {w.spec_json}" for w in self.live()]
        there = {n: list(node.containers) for n, node in self.nodes.items()}
        raise AssertionError(f"never ends: {left}, {why}, on nodes: {there}")

    def _end_what_never_ends(self) -> None:
        """Cancel what is scaled to nothing, restarted for ever, or fit for no node."""
        plan = self.books.latest.last.plan
        board = self.books.board
        never = {
            board.containers[ContainerId(key)].workload_id
            for key, index in (plan.waiting.items() if plan else ())
            if plan is not None and plan.explanations[index].never
        }
        endless = [
            one
            for one in self.live()
            if not one.replicas
            or '"Always"' in one.spec_json
            or self._is_kept_for_ever(one)
            or one.workload_id in never
        ]
        self.parts.intake.cancelling.cancel(self.caller(ROOT), endless)

    def _is_kept_for_ever(self, workload: Workload) -> bool:
        """Whether it waits for credit or in vain, or asks for more than it may hold."""
        waits = self.books.latest.last.waits
        containers = self.books.board.containers_of(workload.workload_id)
        reasons = [waits.get(one.container_id) for one in containers]
        return any(
            why is not None
            and (
                why.code in (OUT_OF_CREDIT, DEPENDENCY_NEVER)
                or (why.code == LIMIT and why.sentence.startswith("asks for"))
            )
            for why in reasons
        )

    def _round(self) -> None:
        self.clock.advance(DRAIN_SECONDS)
        for keeper in self.keepers():
            keeper.look()
            self.work_off(keeper)
        for node, name in self.running():
            self.end_job(node, name, 0, oom=False)
        self.daemon.turn()

    def work_off(self, keeper: SteppedKeeper) -> None:
        """Do all the work that waits at a node."""
        while keeper.work.waiting:
            keeper.work.waiting.pop(0)()

    def broken_at_end(self) -> list[str]:
        """Every law of a drained world that does not hold."""
        with self.effects.engine.connect() as connection:
            containers = list(all_containers(connection))
            numbers = {c.container_id: (c.workload_id, c.replica) for c in containers}
            results = [
                (*numbers[run.container_id], run.attempt, run)
                for run in all_runs(connection)
            ]
        return [
            *self.broken(),
            *checkers.unfinished(containers),
            *self.broken_chain(),
            *checkers.made_up_results(results, self.exits),
            *checkers.wrongly_blamed(results, self.lost),
        ]


def attempt_of(node: FakeNode, name: str) -> tuple[int, int, int]:
    """(workload, replica, attempt) of a container on a node."""
    identity = parse_identity(node.containers[name].facts.labels)
    assert identity is not None
    return identity.workload_id, identity.replica, identity.attempt


def open_liens(connection: Connection) -> dict[str, int]:
    """What is held for each run."""
    asked = select(RUN_CREDITS).where(RUN_CREDITS.c.what == "lien")
    found: dict[str, int] = {}
    for row in connection.execute(asked):
        found[row.run] = found.get(row.run, 0) + row.ucr
    return found


def limited_accounts(connection: Connection) -> dict[str, int]:
    """What each account with an allocation has available."""
    asked = (
        select(ALLOCATIONS.c.account, func.sum(BALANCES.c.ucr))
        .join(BALANCES, BALANCES.c.allocation_id == ALLOCATIONS.c.id)
        .where(BALANCES.c.ledger_account.like("avail:%"))
        .group_by(ALLOCATIONS.c.account)
    )
    return {account: int(ucr) for account, ucr in connection.execute(asked)}


def net_charges(connection: Connection) -> dict[str, int]:
    """What each run was charged and not refunded."""
    sign = {"charged": 1, "refunded": -1}
    found: dict[str, int] = {}
    for row in connection.execute(select(RUN_CREDITS)):
        found[row.run] = found.get(row.run, 0) + sign.get(row.what, 0) * row.ucr
    return found


def stopped_trials(connection: Connection) -> list[str]:
    """The runs that were billed for nothing because their trial was stopped."""
    asked = select(METERS.c.run).where(METERS.c.reason == STOPPED_TRIAL)
    return list(connection.execute(asked).scalars())


def all_containers(connection: Connection) -> Iterator[Container]:
    """Every container on disk."""
    ids = sorted(set(connection.execute(select(CONTAINERS.c.workload_id)).scalars()))
    for workload_id in ids:
        yield from store.containers_of(Tx(connection), WorkloadId(workload_id))


def all_runs(connection: Connection) -> list[Run]:
    """Every attempt on disk."""
    ids = sorted(set(connection.execute(select(RUNS.c.container_id)).scalars()))
    return history.runs_of(connection, ids)


def seen_states(connection: Connection) -> dict[int, list[State]]:
    """The states of each container in the order in which they were written."""
    found: dict[int, list[State]] = {}
    rows = connection.execute(
        text("SELECT container_id, state FROM seen_states ORDER BY rowid")
    )
    for container_id, state in rows:
        found.setdefault(container_id, []).append(State(state))
    return found


def _nothing() -> None:
    """Nobody interferes."""
