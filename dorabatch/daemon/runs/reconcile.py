"""Expected x observed on one node -> corrections.

Pure. A container we cannot read is not dead; an unknown one is left alone unless its
labels carry our cluster and an attempt that is over, and it is old enough.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from dorabatch.node.facts import ContainerFacts, ContainerState
from dorabatch.node.identity import parse_identity
from dorabatch.queue.records import Container, ContainerId
from dorabatch.queue.states import State

ENDED_STATES = frozenset({ContainerState.EXITED, ContainerState.DEAD})


class Duty(StrEnum):
    """What a node's keeper has to do for one container."""

    LAUNCH = "launch"
    CONCLUDE = "conclude"


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """One duty for one expected container."""

    container_id: ContainerId
    duty: Duty


@dataclass(frozen=True, slots=True, kw_only=True)
class Orphan:
    """A container of ours whose attempt is over: to be stopped and removed."""

    name: str
    why: str


def reconcile(
    expected: Sequence[Container],
    observed: Mapping[str, ContainerFacts],
    names: Mapping[ContainerId, str],
    now: datetime,
) -> list[Correction]:
    """Duties that are open for the containers this node should have.

    `names` gives each expected container's Docker name of its present attempt.
    """
    corrections = []
    for container in expected:
        facts = observed.get(names[container.container_id])
        duty = _duty(container, facts, now)
        if duty is not None:
            corrections.append(
                Correction(container_id=container.container_id, duty=duty)
            )
    return corrections


def _duty(
    container: Container, facts: ContainerFacts | None, now: datetime
) -> Duty | None:
    if container.state is State.PLACED:
        waits = container.ready_at is not None and container.ready_at > now
        return None if waits else Duty.LAUNCH
    if container.state is State.STARTING:
        return Duty.LAUNCH
    if container.state is State.STOPPING:
        return Duty.CONCLUDE
    if container.state is State.RUNNING:
        has_ended = facts is None or facts.state in ENDED_STATES
        return Duty.CONCLUDE if has_ended else None
    return None


def orphans(
    observed: Mapping[str, ContainerFacts],
    known: Mapping[tuple[int, int], int],
    *,
    current_names: frozenset[str],
    known_since: Mapping[str, datetime],
    now: datetime,
    grace_seconds: float,
) -> list[Orphan]:
    """Our containers that no live attempt owns, seen for longer than the grace time.

    known[(workload, replica)] is the latest attempt on record; `known_since` says
    when each name was first seen ownerless. A workload that is not on record at all
    is not ours to judge: another daemon's database may hold it.
    """
    found = []
    for name, facts in observed.items():
        identity = parse_identity(facts.labels)
        if identity is None or name in current_names:
            continue
        latest = known.get((identity.workload_id, identity.replica))
        if latest is None or identity.attempt > latest:
            continue
        first_seen = known_since.get(name, now)
        if (now - first_seen).total_seconds() < grace_seconds:
            continue
        why = f"attempt {identity.attempt} is over (latest on record: {latest})"
        found.append(Orphan(name=name, why=why))
    return found
