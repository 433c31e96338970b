"""A node as the daemon sees it at one moment: settings, state, facts.

Pure: values only; talks to no node and keeps no table.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from dorabatch.node.facts import NodeFacts


class NodeState(StrEnum):
    """What the daemon can say of a node."""

    CONNECTING = "CONNECTING"
    READY = "READY"
    UNREACHABLE = "UNREACHABLE"
    REFUSED = "REFUSED"
    QUARANTINED = "QUARANTINED"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredNode:
    """What the admin said of a node."""

    name: str
    host: str
    port: int
    user: str
    fingerprint: str | None
    docker_socket: str
    allows_gpu: bool
    allows_cpu: bool
    scheduling_disabled: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeView:
    """A node at one moment. `reason` is a sentence when it is not READY."""

    settings: DeclaredNode
    state: NodeState = NodeState.CONNECTING
    reason: str = "not seen yet"
    facts: NodeFacts | None = None
    last_seen: datetime | None = None

    @property
    def name(self) -> str:
        """The node's name in its zone."""
        return self.settings.name
