"""States, outcomes and the legal moves between them.

Pure: decides what may follow what; performs no move itself.
"""

from collections.abc import Iterable
from enum import StrEnum


class State(StrEnum):
    """Where a container of a workload stands."""

    QUEUED = "queued"
    PLACED = "placed"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    FINISHED = "finished"


class Outcome(StrEnum):
    """How a finished container ended."""

    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMEOUT = "timeout"
    NODE_LOST = "node_lost"


class AfterStop(StrEnum):
    """What follows once the present attempt is confirmed gone."""

    FINISH = "finish"
    REQUEUE = "requeue"
    RESTART = "restart"


LEGAL_MOVES: dict[State, frozenset[State]] = {
    State.QUEUED: frozenset({State.PLACED, State.FINISHED}),
    State.PLACED: frozenset({State.STARTING, State.QUEUED, State.STOPPING}),
    State.STARTING: frozenset({State.RUNNING, State.STOPPING, State.QUEUED}),
    State.RUNNING: frozenset({State.STOPPING}),
    State.STOPPING: frozenset({State.FINISHED, State.QUEUED, State.PLACED}),
    State.FINISHED: frozenset({State.QUEUED}),
}
"""FINISHED may become QUEUED only when its workload is applied anew."""

LIVE = frozenset({State.PLACED, State.STARTING, State.RUNNING})
"""States of an attempt that goes on."""

HOLDING = frozenset({State.PLACED, State.STARTING, State.RUNNING, State.STOPPING})
"""States in which GPUs, cores and memory of a node are held."""

_FURTHEST = (
    State.RUNNING,
    State.STARTING,
    State.PLACED,
    State.STOPPING,
    State.QUEUED,
)
_WORST = (
    Outcome.FAILED,
    Outcome.TIMEOUT,
    Outcome.NODE_LOST,
    Outcome.CANCELLED,
    Outcome.DONE,
)


def joint_state(states: Iterable[State]) -> State:
    """The state of a workload whose containers have these: the furthest live one."""
    live = (state for state in states if state is not State.FINISHED)
    return min(live, key=_FURTHEST.index, default=State.FINISHED)


def joint_outcome(outcomes: Iterable[Outcome | None]) -> Outcome:
    """How a workload ended whose containers ended so: the worst; none: cancelled."""
    known = (outcome for outcome in outcomes if outcome is not None)
    return min(known, key=_WORST.index, default=Outcome.CANCELLED)


_OUTCOME_CODES = {
    Outcome.DONE: "CD",
    Outcome.FAILED: "F",
    Outcome.CANCELLED: "CA",
    Outcome.TIMEOUT: "TO",
    Outcome.NODE_LOST: "NF",
}
_STATE_CODES = {
    State.QUEUED: "PD",
    State.PLACED: "CF",
    State.STARTING: "CF",
    State.RUNNING: "R",
    State.STOPPING: "CG",
}


def state_code(state: State, outcome: Outcome | None) -> str:
    """The two-letter code that Slurm users know."""
    if state is State.FINISHED:
        return _OUTCOME_CODES[outcome] if outcome else "CD"
    return _STATE_CODES[state]


def parse_state_filter(word: str) -> frozenset[str]:
    """Codes meant by a state's name, an outcome's name or a code (any case).

    Raises ValueError naming what is allowed.
    """
    wanted = word.strip()
    by_name = {str(state): code for state, code in _STATE_CODES.items()}
    by_name.update({str(outcome): code for outcome, code in _OUTCOME_CODES.items()})
    by_name["pending"] = "PD"
    if wanted.lower() == "finished":
        return frozenset(_OUTCOME_CODES.values())
    if wanted.lower() in by_name:
        return frozenset({by_name[wanted.lower()]})
    if wanted.upper() in by_name.values():
        return frozenset({wanted.upper()})
    allowed = ", ".join([*sorted(by_name), "finished"])
    raise ValueError(f"unknown state {word!r} (allowed: {allowed}, or a code like PD)")
