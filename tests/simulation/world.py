"""A whole daemon on a fake clock and fake nodes, driven by a seed.

The services, the writer, the board, the cycle, the keepers and the launcher are the
real ones, on a real SQLite file. Only threads are missing: whatever they would do is
done on call, in an order that the seed decides, and the daemon may be killed at any
write or step and put together again from its database.
"""

from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from sqlalchemy import text

from dorabatch.config import Settings
from dorabatch.daemon.assembly import DaemonParts, compose, parts_of
from dorabatch.daemon.cycle.gates.credit_gate import OUT_OF_CREDIT
from dorabatch.daemon.cycle.gates.dependency_gate import DEPENDENCY_NEVER
from dorabatch.daemon.cycle.gates.limit_gate import LIMIT
from dorabatch.daemon.rights import Caller
from dorabatch.daemon.runs.assembly import keepers_of
from dorabatch.daemon.service import Daemon
from dorabatch.daemon.state.books import Books
from dorabatch.daemon.state.effects import Effects
from dorabatch.daemon.state.log_files import LogFiles
from dorabatch.node.facts import ContainerState
from dorabatch.queue.records import ContainerId, Submitter, Workload, WorkloadId
from dorabatch.queue.states import State
from dorabatch.resources.cluster import NodeSpec
from dorabatch.resources.manifest import parse_manifest
from tests.history_checkers import UNHEARD
from tests.makers import ALICE, BOB, START, ZONE
from tests.simulation.killing import Killed, telling
from tests.simulation.laws import Laws, differences_of_books
from tests.simulation.machines import (
    Attempt,
    Machine,
    SteppedClock,
    attempt_of,
    machines,
)
from tests.simulation.on_disk import HISTORY
from tests.simulation.trouble import LogsOnFullDisk, Trouble
from tests.simulation.work import SteppedKeeper, WaitingWork

ROOT = Submitter(user="root", uid=0, gid=0)
DRAIN_ROUNDS_MAX = 400
DRAIN_SECONDS = 7.0

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
        self.clock = SteppedClock(START)
        self.settings = Settings(
            zone=ZONE,
            state_dir=folder,
            socket=folder / "dorad.sock",
            policy=dict(policy or {}),
            admins=admins,
        )
        self.nodes = machines(self.clock)
        self.trail: list[str] = []
        self.exits: dict[Attempt, int] = {}
        self.lost: dict[Attempt, set[str]] = {}
        self.asked: set[int] = set()
        self.cancelled: set[int] = set()
        self.rewritten: set[int] = set()
        self.misdeeds: list[str] = []
        self.has_prices = bool(credits)
        self.kills = 0
        self.was_clock_set = False
        self.is_quiet = True
        self.is_in_turn = False
        self.looking: set[str] = set()
        self.interfere: Callable[[], None] = _nothing
        self._moments = 0
        self._dies_at = 0
        self._is_interfering = False
        self.trouble = Trouble(folder / "dorabatch.db")
        self._boot()
        self.laws = Laws(self)
        with self.effects.engine.begin() as connection:
            for statement in HISTORY:
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

    def running(self) -> list[tuple[Machine, str]]:
        """Every job that runs on a node."""
        return [
            (node, name)
            for node in self.nodes.values()
            for name, one in node.ours().items()
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
        self.is_in_turn = False
        self.looking.clear()
        # One that cannot write does not come up; whoever runs it makes room first.
        self.trouble.heal()
        self.effects.writer.stop()
        self.effects.engine.dispose()
        was = self.books
        self._boot()
        self.misdeeds += differences_of_books(was, self.books)

    def overtake(self) -> Daemon:
        """Start another daemon beside this one, which does not know; the old one."""
        self.trouble.heal()
        old = self.daemon
        self._boot()
        return old

    def close(self) -> None:
        """Let go of the database."""
        self.trouble.heal()
        self.laws.close()
        self.effects.writer.stop()
        self.effects.engine.dispose()

    def _boot(self) -> None:
        books, effects = compose(self.settings, self.clock)
        effects = replace(
            effects,
            open_driver=lambda node: self.nodes[node.name],
            log_files=LogsOnFullDisk(
                folder=effects.log_files.folder, trouble=self.trouble
            ),
        )
        self.trouble.watch(effects.engine)
        stepped = partial(keepers_of, kind=SteppedKeeper, workers=WaitingWork)
        told = telling(effects, self._moment)
        self.daemon = Daemon(parts_of(books, told, stepped))
        # A daemon may also die while it starts; that is the same as dying after.
        was_quiet, self.is_quiet = self.is_quiet, True
        self.daemon.load()
        self.is_quiet = was_quiet

    def enliven(self, interfere: Callable[[], None]) -> None:
        """From here on the daemon may be killed, and others act, at any moment."""
        self.interfere, self.is_quiet = interfere, False
        for node in self.nodes.values():
            node.enliven(self._moment, self.effects.identity.cluster_id)

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
        return self.laws.broken()

    def broken_at_end(self) -> list[str]:
        """Every law of a drained world that does not hold."""
        return self.laws.broken_at_end()

    def attempts(self) -> dict[str, list[Attempt]]:
        """What runs on each node: (workload, replica, attempt)."""
        found: dict[str, list[Attempt]] = {}
        for node, name in self.running():
            found.setdefault(node.name, []).append(attempt_of(node, name))
        return found

    def containers(self) -> dict[str, list[Attempt]]:
        """What is there on each node, in whatever state."""
        return {
            name: [attempt_of(node, one) for one in node.ours()]
            for name, node in self.nodes.items()
        }

    def has_keeper(self, node: str) -> bool:
        """Whether somebody looks after a node."""
        return self.parts.keepers.get(node) is not None

    def nonces(self) -> dict[Attempt, bytes]:
        """What the jobs have said whose containers nobody took."""
        return {
            attempt: nonce
            for node in self.nodes.values()
            for attempt, nonce in node.nonces.items()
            if UNHEARD.isdisjoint(self.lost.get(attempt, ()))
        }

    def kept_logs(self) -> dict[Attempt, bytes]:
        """The kept logs of those attempts."""
        files = self.effects.log_files
        paths = {one: LogFiles.path(files, *one) for one in self.nonces()}
        return {one: p.read_bytes() for one, p in paths.items() if p.exists()}

    def end_job(self, node: Machine, name: str, code: int, *, oom: bool) -> None:
        """A job ends by itself; remembered, to compare with what is recorded."""
        self.exits[attempt_of(node, name)] = code
        node.exit(name, code, oom=oom)

    def lose(self, node: Machine, codes: AbstractSet[int | None], cause: str) -> None:
        """The node ends what runs, and may have ended what ended with such a code."""
        for name, one in node.ours().items():
            has = one.facts
            is_vague = has.has_ended and has.exit_code in codes and not has.oom_killed
            if is_vague or has.state is ContainerState.RUNNING:
                causes = self.lost.setdefault(attempt_of(node, name), set())
                causes.add(cause)
                # Its start goes on record after this: with the boot of that moment.
                if not self._is_start_recorded(attempt_of(node, name)):
                    causes.add("docker")

    def _is_start_recorded(self, attempt: Attempt) -> bool:
        board, (workload, replica, number) = self.books.board, attempt
        key = board.replicas.get(WorkloadId(workload), {}).get(replica)
        found = board.containers.get(key) if key is not None else None
        if found is None or found.attempt != number:
            return True
        return found.state not in (State.PLACED, State.STARTING)

    # -- the end -----------------------------------------------------------------

    def drain(self) -> None:
        """Heal everything, let every job end, and go on until nothing is left."""
        self.is_quiet = True
        self.trouble.heal()
        for node in self.nodes.values():
            node.mend()
            node.are_removals_slow = False
            node.finish_removals()
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
            is_empty = not any(node.ours() for node in self.nodes.values())
            if is_empty and not self.live():
                return
        plan = self.books.latest.last.plan
        why = [one.sentence for one in plan.explanations] if plan else []
        left = [f"{w.workload_id} {w.name} {w.spec_json}" for w in self.live()]
        there = {n: list(node.ours()) for n, node in self.nodes.items()}
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
        self.asked |= {int(one.workload_id) for one in endless}

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


def _nothing() -> None:
    """Nobody interferes."""
