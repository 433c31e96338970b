"""The nodes of a world: a fake node whose answers may be late and its removals slow.

An answer is old as soon as it is given: the world is told of the moment between what a
node says and what the daemon makes of it, and somebody may act, or the daemon die.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from dorabatch.clock import FakeClock
from dorabatch.node.container_spec import ContainerRequest
from dorabatch.node.facts import (
    Circumstances,
    ContainerFacts,
    ContainerState,
    NodeFacts,
)
from dorabatch.node.fake import FakeNode
from dorabatch.node.fake_container import FakeContainer
from dorabatch.node.identity import RunIdentity, identity_labels, parse_identity
from tests.makers import RTX, V100, facts, gpus

Attempt = tuple[int, int, int]
"""(workload, replica, attempt)"""


class SteppedClock(FakeClock):
    """The daemon's clock, which somebody may set; that of the nodes goes on."""

    def __init__(self, start: datetime) -> None:
        super().__init__(start)
        self.ahead_seconds = 0.0

    def now(self) -> datetime:
        return self.node_time() + timedelta(seconds=self.ahead_seconds)

    def node_time(self) -> datetime:
        """What the nodes' clocks say."""
        return super().now()


class Machine(FakeNode):
    """One node of a world."""

    def __init__(self, name: str, clock: SteppedClock, has: NodeFacts) -> None:
        super().__init__(name, now=clock.node_time, facts=has)
        self.moment: Callable[[str], None] = _nobody
        self.are_removals_slow = False
        self.leaving: set[str] = set()
        self.nonces: dict[Attempt, bytes] = {}
        self.news: list[Mapping[str, str]] = []
        self.strangers: dict[str, ContainerFacts] = {}
        self._clock = clock

    def probe(self) -> NodeFacts:
        """The facts, with the clock's offset as it is now."""
        has = super().probe()
        return replace(has, clock_offset_seconds=0.0 - self._clock.ahead_seconds)

    def list_ours(self, cluster_id: str) -> tuple[ContainerFacts, ...]:
        """A listing, which may be old when it arrives."""
        answer = super().list_ours(cluster_id)
        self.moment("listed")
        return answer

    def inspect(self, name: str) -> ContainerFacts | None:
        """One container, as it was a moment ago."""
        answer = super().inspect(name)
        self.moment("inspected")
        return answer

    def circumstances(self, ended: ContainerFacts | None) -> Circumstances:
        """What to judge an end by, as it was a moment ago."""
        answer = super().circumstances(ended)
        self.moment("judged")
        return answer

    def remove(self, name: str) -> None:
        """Removed; where removals are slow, Docker says so before it is true."""
        if not self.are_removals_slow or name not in self.containers:
            super().remove(name)
            return
        super().kill(name)
        self.leaving.add(name)

    def finish_removals(self) -> None:
        """What is being removed is gone at last."""
        for name in sorted(self.leaving):
            self.containers.pop(name, None)
        self.leaving.clear()

    def obey_well(self, name: str) -> None:
        """The job ends well because dockerd told it to end."""
        self.exit(name, 0)
        self.containers[name].was_signalled = True

    def enliven(self, moment: Callable[[str], None], cluster_id: str) -> None:
        """Jobs say their nonces, answers may be old, and strangers are there."""
        self.moment = moment
        self.when_started = Machine._job_says_its_nonce
        identity = RunIdentity(
            cluster_id=cluster_id, workload_id=987654, replica=1, attempt=1
        )
        wish = ContainerRequest(identity=identity, image="busybox", uid=9, gid=9)
        self._take_in_strangers(wish)

    def _take_in_strangers(self, wish: ContainerRequest) -> None:
        others = {
            "somebody's": None,
            "another-cluster's": replace(wish.identity, cluster_id="other"),
            "of-no-record": wish.identity,
        }
        for name, identity in others.items():
            labels = identity_labels(identity) if identity else {}
            there = ContainerFacts(
                name=name,
                container_id=name,
                labels=labels,
                state=ContainerState.RUNNING,
                started_at=self._clock.node_time(),
            )
            self.containers[name] = FakeContainer(wish, there)
            self.strangers[name] = there

    def ours(self) -> dict[str, FakeContainer]:
        """The daemon's containers, in any state."""
        return {n: c for n, c in self.containers.items() if n not in self.strangers}

    def touched_strangers(self) -> list[str]:
        """What was done to containers that are none of the daemon's business."""
        there = self.containers
        return [
            f"{self.name}: the foreign container {name} was ended or removed"
            for name, before in self.strangers.items()
            if name not in there or there[name].facts.state is not before.state
        ]

    def reboot(self) -> None:
        """What is foreign comes up again by itself."""
        super().reboot()
        self._restore_strangers()

    def stop_docker(self) -> None:
        super().stop_docker()
        self._restore_strangers()

    def start_docker(self) -> None:
        super().start_docker()
        self._restore_strangers()

    def _restore_strangers(self) -> None:
        for name, before in self.strangers.items():
            if name in self.containers:
                self.containers[name].facts = before

    @staticmethod
    def _job_says_its_nonce(node: FakeNode, name: str) -> None:
        assert isinstance(node, Machine)
        attempt = attempt_of(node, name)
        nonce = "start {}.{}/{}\n".format(*attempt).encode()
        node.nonces[attempt] = nonce
        node.news.append(node.containers[name].facts.labels)
        node.write(name, nonce)


def attempt_of(node: FakeNode, name: str) -> Attempt:
    """Whose attempt a container on a node is."""
    identity = parse_identity(node.containers[name].facts.labels)
    assert identity is not None
    return identity.workload_id, identity.replica, identity.attempt


def machines(clock: SteppedClock) -> dict[str, Machine]:
    """Four V100; two RTX; two of each; no GPU."""
    mixed = (*gpus(2, V100, "GPU-V"), *gpus(2, RTX, "GPU-R"))
    has = {
        "n1": facts(hostname="n1"),
        "n2": facts(hostname="n2", gpus=gpus(2, RTX)),
        "n3": facts(hostname="n3", gpus=mixed, cores=tuple(range(12))),
        "n4": facts(hostname="n4", gpus=(), memory_mib=8192),
    }
    return {name: Machine(name, clock, one) for name, one in has.items()}


def _nobody(_: str) -> None:
    """Nobody is told."""
