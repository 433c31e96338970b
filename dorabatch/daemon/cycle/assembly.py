"""The cycle put together, from what is kept in memory and how the daemon acts.

Holds no rule of its own.
"""

from dorabatch.daemon.cycle.carry_out import CarryOut, Preemption, Starts, TrialMoves
from dorabatch.daemon.cycle.commit import Committers
from dorabatch.daemon.cycle.gates.chain import GateChain
from dorabatch.daemon.cycle.gates.credit_gate import CreditGate
from dorabatch.daemon.cycle.gates.dependency_gate import DependencyGate
from dorabatch.daemon.cycle.gates.held_gate import held_gate
from dorabatch.daemon.cycle.gates.limit_gate import LimitGate
from dorabatch.daemon.cycle.gates.ready_gate import ReadyGate
from dorabatch.daemon.cycle.planner import (
    ExpectedEnds,
    FreeRuns,
    LaneCount,
    Look,
    Planner,
    Returns,
    Snapshots,
)
from dorabatch.daemon.cycle.queue_order import QueueOrder
from dorabatch.daemon.cycle.run_cycle import Cycle, NodeWatch
from dorabatch.daemon.runs.node_keeper import Keepers
from dorabatch.daemon.state.books import Books
from dorabatch.daemon.state.effects import Effects


def gates_of(books: Books) -> GateChain:
    """The gates between waiting and asking for a place, in the order they are asked."""
    return GateChain(
        (
            ReadyGate(board=books.board, registries=books.registries),
            held_gate,
            DependencyGate(book=books.dependencies),
            CreditGate(credits=books.credits, billing=books.billing, board=books.board),
            # What credit keeps may not ask: it must not use up a limit of others.
            LimitGate(policy=books.policy, latest=books.latest),
        )
    )


def queue_order_of(books: Books) -> QueueOrder:
    """Who comes first."""
    return QueueOrder(
        board=books.board,
        policy=books.policy,
        usage=books.usage,
        claims=books.claims,
        credits=books.credits,
    )


def lane_of(books: Books) -> LaneCount:
    """What the lane holds."""
    return LaneCount(
        board=books.board, policy=books.policy, held_claims=books.held_claims
    )


def planner_of(books: Books) -> Planner:
    """What decides, for a daemon and for a what-if."""
    look = Look(
        free_runs=FreeRuns(credits=books.credits, board=books.board),
        lane=lane_of(books),
        order=queue_order_of(books),
        gates=gates_of(books),
        ends=ExpectedEnds(
            claims=books.claims,
            held_claims=books.held_claims,
            latest=books.latest,
            node_arrays=books.node_arrays,
        ),
    )
    return Planner(
        snapshots=Snapshots(
            board=books.board,
            fleet=books.fleet,
            node_arrays=books.node_arrays,
            avoided=books.avoided,
        ),
        look=look,
        settings=books.settings.cycle,
        latest=books.latest,
        no_room=books.no_room,
    )


def cycle_of(books: Books, effects: Effects, keepers: Keepers) -> Cycle:
    """The whole cycle of a daemon."""
    writer, clock = effects.writer, effects.clock
    starts = Starts(
        committers=Committers(
            board=books.board,
            fleet=books.fleet,
            billing=books.billing,
            policy=books.policy,
        ),
        writer=writer,
        clock=clock,
        steps=effects.steps,
        keepers=keepers,
        cycle_wanted=effects.cycle_wanted,
    )
    preemption = Preemption(
        credits=books.credits, writer=writer, clock=clock, keepers=keepers
    )
    return Cycle(
        clock=clock,
        node_watch=NodeWatch(
            fleet=books.fleet,
            avoided=books.avoided,
            board=books.board,
            clock=clock,
            settings=books.settings.node,
        ),
        returns=Returns(usage=books.usage, fleet=books.fleet, writer=writer),
        planner=planner_of(books),
        hands=CarryOut(
            trials=TrialMoves(writer=writer, clock=clock, keepers=keepers),
            starts=starts,
            preemption=preemption,
        ),
        latest=books.latest,
    )
