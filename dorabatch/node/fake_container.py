"""One container of the fake node, and the rules of names that a real node keeps too.

Knows no node but by its name.
"""

from dataclasses import replace

from dorabatch.errors import StartFailed
from dorabatch.node.container_spec import ContainerRequest, spec_digest
from dorabatch.node.facts import ContainerFacts, ContainerState
from dorabatch.node.identity import DIGEST_LABEL, parse_identity


class FakeContainer:
    """One container of the fake node; it changes as it lives."""

    def __init__(self, wish: ContainerRequest, facts: ContainerFacts) -> None:
        self.wish = wish
        self.facts = facts
        self.cores = wish.cores
        self.output = bytearray()
        self.was_signalled = False


def summary_of(facts: ContainerFacts) -> ContainerFacts:
    """What a listing shows of a container."""
    return replace(
        facts,
        started_at=None,
        finished_at=None,
        oom_killed=False,
        error="",
        pid=None,
        is_summary=True,
    )


def is_adoptable(node: str, wish: ContainerRequest, holder: ContainerFacts) -> bool:
    """True for this very run; False when it may be replaced; else StartFailed."""
    found = parse_identity(holder.labels)
    name = wish.identity.name
    if found is None or not found.is_same_run(wish.identity):
        raise StartFailed(f"node {node}: create {name}: not this run's")
    if found.epoch > wish.identity.epoch:
        raise StartFailed(f"node {node}: create {name}: a newer daemon's")
    if holder.labels.get(DIGEST_LABEL) == spec_digest(wish):
        return True
    if holder.state is ContainerState.CREATED:
        return False
    raise StartFailed(f"node {node}: create {name}: started with others")
