"""A node as the daemon sees it at one moment: settings, state, facts.

Pure: values, and what a node's facts mean beside those before; talks to no node and
keeps no table.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from dorabatch.node.facts import GpuFacts, NodeFacts
from dorabatch.resources.names import host_and_port


class NodeState(StrEnum):
    """What the daemon can say of a node."""

    CONNECTING = "CONNECTING"
    READY = "READY"
    UNREACHABLE = "UNREACHABLE"
    REFUSED = "REFUSED"
    QUARANTINED = "QUARANTINED"
    ASIDE = "ASIDE"
    LOST = "LOST"


ANSWERING = frozenset({NodeState.READY, NodeState.ASIDE})
"""States of a node that answers; one set aside takes nothing new all the same."""
NO_ANSWER = "no answer"
"""The reason of a node that is only silent."""


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

    @property
    def place(self) -> str:
        """Where its SSH server answers."""
        return host_and_port(self.host, self.port)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A node has refused the starts of several workloads and is put aside.

    `reason` is what it said last. It has been tried in vain `tries` times, and is tried
    again from `try_at` on, by one start at a time; `is_offered` while that one is
    looked for. `with_gpus`: what it refused had GPUs, so only such a start tells.
    """

    since: datetime
    reason: str
    tries: int
    try_at: datetime
    with_gpus: bool
    is_offered: bool = False

    @property
    def words(self) -> str:
        """`refuses starts since ...: ...; tried again at ...`."""
        since = self.since.astimezone().strftime("%Y-%m-%d %H:%M:%S")
        again = f"from {self.try_at.astimezone():%H:%M:%S} on"
        return (
            f"refuses starts since {since} ({self.reason}); one start at a time is "
            f"tried {again}; dnode uncordon opens it at once"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """Runs of a node were ended without its word, by somebody or by its silence.

    `settled_at` is None while that is being written: looks before it do not count.
    """

    by: str
    at: datetime
    settled_at: datetime | None = None

    @property
    def words(self) -> str:
        """`lost since ... (by ...): ...`."""
        return (
            f"lost since {_minute(self.at)} (by {self.by}): in use again once it "
            "answers and nothing is left there of the runs that were ended"
        )

    def counts(self, looked_at: datetime | None) -> bool:
        """Whether a look that began then shows what is left of them."""
        if looked_at is None or self.settled_at is None:
            return False
        return looked_at > self.settled_at


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeView:
    """A node at one moment.

    `reason` is a sentence when it is not READY, or not all of its GPUs are there.
    `last_seen` is when its dockerd was last known to be up, also by an earlier daemon.
    `refusal` is set while it is put aside because it refuses starts.
    `kept_out` are its GPUs that get nothing new: missing, or in use by others.
    `is_heard`: it answered the latest look.
    """

    settings: DeclaredNode
    state: NodeState = NodeState.CONNECTING
    reason: str = "not seen yet"
    facts: NodeFacts | None = None
    last_seen: datetime | None = None
    refusal: Refusal | None = None
    kept_out: frozenset[str] = frozenset()
    is_heard: bool = False
    lost: Loss | None = None

    @property
    def is_ready(self) -> bool:
        """Whether it answers and may take what is new."""
        return self.state is NodeState.READY and (
            self.refusal is None or self.refusal.is_offered
        )

    @property
    def silent_since(self) -> datetime | None:
        """When it was last heard of, where it does not answer now."""
        is_away = self.state not in ANSWERING | {NodeState.CONNECTING}
        return self.last_seen if is_away and not self.is_heard else None

    @property
    def told(self) -> tuple[NodeState, str]:
        """(state, reason) as people are told: a loss and silence before all else."""
        if self.refusal is not None and self.state is NodeState.READY:
            return NodeState.QUARANTINED, self.refusal.words
        parts = [self.lost.words] if self.lost is not None else []
        if self.silent_since is not None:
            parts.append(f"no answer since {_minute(self.silent_since)}")
        if self.reason != NO_ANSWER or not parts:
            parts.append(self.reason)
        return self.state, "; ".join(filter(None, parts))

    @property
    def name(self) -> str:
        """The node's name in its zone."""
        return self.settings.name

    @property
    def all_gpus(self) -> tuple[GpuFacts, ...]:
        """What it has when everything works: also what is missing now."""
        return self.facts.gpus + self.facts.missing_gpus if self.facts else ()


def _minute(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def lasting_gpu(gpu: GpuFacts) -> GpuFacts:
    """The GPU without readings of the moment."""
    return replace(
        gpu,
        memory_used_mib=None,
        utilization_percent=None,
        process_pids=(),
        is_used_by_others=False,
    )


def with_missing(before: NodeFacts | None, now: NodeFacts) -> NodeFacts:
    """What the node tells, with the GPUs that it had before and that are missing.

    A broken driver, a library that is being replaced and a GPU that fell off its bus
    are faults that pass. Only a probe without any error after another boot of the
    machine says that a GPU was taken out.
    """
    if before is None:
        return now
    told = {gpu.uuid for gpu in now.gpus}
    gone = [gpu for gpu in before.gpus + before.missing_gpus if gpu.uuid not in told]
    if _tells_all(now) and now.boot_id != before.boot_id:
        gone = []
    gone.sort(key=lambda gpu: gpu.minor)
    return replace(now, missing_gpus=tuple(lasting_gpu(gpu) for gpu in gone))


def with_others_use(now: NodeFacts, held: frozenset[str]) -> NodeFacts:
    """The facts with the GPUs marked that others use: busy, and held by none of ours.

    held: uuids that our runs held before or after the probe.
    """
    gpus = tuple(
        replace(gpu, is_used_by_others=True)
        if gpu.process_pids and gpu.uuid not in held
        else gpu
        for gpu in now.gpus
    )
    return replace(now, gpus=gpus)


def gpu_trouble(facts: NodeFacts) -> str:
    """What is wrong with the node's GPUs, in a sentence; empty where nothing is."""
    missing, every = len(facts.missing_gpus), len(facts.gpus + facts.missing_gpus)
    why = facts.gpu_error or (
        "the node finds no NVML library"
        if facts.probe == "none"
        else "NVML tells of them no more"
    )
    if not missing:
        return facts.gpu_error or ""
    return f"{missing} of its {every} GPUs {_are(missing)} missing: {why}"


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def _tells_all(facts: NodeFacts) -> bool:
    return facts.probe != "none" and facts.gpu_error is None
