"""The faults: what each does to a node or to the daemon, and how it is healed.

Each is a block: before its `yield` it applies, after it heals. Says which nodes it
touches, and never judges.
"""

import signal
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from random import Random

from docker.errors import DockerException

from tests.cluster import machine
from tests.faults.ground import Ground

SLICE_SECONDS = 0.4
Block = Callable[[Ground, str], AbstractContextManager[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One kind of trouble; `seconds` are the shortest and the longest that it lasts."""

    name: str
    block: Block
    seconds: tuple[float, float]
    touches_node: bool = True

    def duration(self, chance: Random) -> float:
        """How long it lasts this time, in seconds."""
        return round(chance.uniform(*self.seconds), 1)


@contextmanager
def _dorad_killed(ground: Ground, node: str) -> Iterator[None]:
    ground.site.daemon.kill()
    yield
    ground.site.daemon.start()


@contextmanager
def _dorad_ended(ground: Ground, node: str) -> Iterator[None]:
    ground.site.daemon.stop()
    yield
    ground.site.daemon.start()


@contextmanager
def _dorad_stopped(ground: Ground, node: str) -> Iterator[None]:
    process = ground.site.daemon.process
    assert process is not None
    process.send_signal(signal.SIGSTOP)
    yield
    process.send_signal(signal.SIGCONT)


@contextmanager
def _dockerd_killed(ground: Ground, node: str) -> Iterator[None]:
    ground.cluster.kill_dockerd(node)
    yield
    ground.cluster.start_dockerd(node)


@contextmanager
def _dockerd_ended(ground: Ground, node: str) -> Iterator[None]:
    ground.cluster.kill_dockerd(node, signal.SIGTERM)
    yield
    ground.cluster.start_dockerd(node)


@contextmanager
def _dockerd_stopped(ground: Ground, node: str) -> Iterator[None]:
    ground.cluster.kill_dockerd(node, signal.SIGSTOP)
    yield
    ground.cluster.kill_dockerd(node, signal.SIGCONT)


@contextmanager
def _network_cut(ground: Ground, node: str) -> Iterator[None]:
    ground.cluster.cut(node)
    yield
    ground.cluster.heal(node)


@contextmanager
def _rebooted(ground: Ground, node: str) -> Iterator[None]:
    ground.cluster.reboot(node)
    yield


@contextmanager
def _powered_off(ground: Ground, node: str) -> Iterator[None]:
    ground.cluster.power_off(node)
    yield
    ground.cluster.power_on(node)


@contextmanager
def _container_removed(ground: Ground, node: str) -> Iterator[None]:
    client = ground.cluster.node(node).docker()
    try:
        for found in ground.ours(node, all=False)[:1]:
            # It may have ended by itself meanwhile.
            with suppress(DockerException):
                client.remove_container(found["Id"], force=True)
    finally:
        client.close()
    yield


@contextmanager
def _database_locked(ground: Ground, node: str) -> Iterator[None]:
    path = ground.state / "dorabatch.db"
    other = sqlite3.connect(path, timeout=30.0, isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")
    finally:
        other.close()


@contextmanager
def _disk_full(ground: Ground, node: str) -> Iterator[None]:
    filling = ground.state / "filling"
    with suppress(OSError), filling.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    yield
    filling.unlink()


@contextmanager
def _key_refused(ground: Ground, node: str) -> Iterator[None]:
    ground.cluster.refuse_key(node)
    ground.cluster.end_sessions(node)
    yield
    ground.cluster.accept_key(node)


@contextmanager
def _slow_ssh(ground: Ground, node: str) -> Iterator[None]:
    """Let sshd and its sessions run in slices only."""
    over = threading.Event()
    pid = ground.cluster.node(node).init_pid

    def slices() -> None:
        while not over.is_set():
            for number in (signal.SIGSTOP, signal.SIGCONT):
                machine.send(machine.processes_in(pid, "sshd"), number)
                over.wait(SLICE_SECONDS)
        machine.send(machine.processes_in(pid, "sshd"), signal.SIGCONT)

    thread = threading.Thread(target=slices)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextmanager
def _runtime_broken(ground: Ground, node: str) -> Iterator[None]:
    ground.cluster.node(node).break_runtime()
    yield
    ground.cluster.node(node).mend_runtime()


def _of_daemon(name: str, block: Block, longest: float) -> Fault:
    return Fault(name=name, block=block, seconds=(0.5, longest), touches_node=False)


FAULTS = (
    _of_daemon("dorad killed", _dorad_killed, 8.0),
    _of_daemon("dorad ended", _dorad_ended, 8.0),
    _of_daemon("dorad stopped", _dorad_stopped, 15.0),
    Fault(name="dockerd killed", block=_dockerd_killed, seconds=(0.5, 10.0)),
    Fault(name="dockerd ended", block=_dockerd_ended, seconds=(0.5, 10.0)),
    Fault(name="dockerd stopped", block=_dockerd_stopped, seconds=(1.0, 15.0)),
    Fault(name="network cut", block=_network_cut, seconds=(1.0, 60.0)),
    Fault(name="node rebooted", block=_rebooted, seconds=(0.5, 1.0)),
    Fault(name="node powered off", block=_powered_off, seconds=(1.0, 15.0)),
    Fault(name="container removed", block=_container_removed, seconds=(0.5, 1.0)),
    _of_daemon("database locked", _database_locked, 12.0),
    _of_daemon("database disk full", _disk_full, 10.0),
    Fault(name="SSH key refused", block=_key_refused, seconds=(1.0, 15.0)),
    Fault(name="slow SSH", block=_slow_ssh, seconds=(2.0, 15.0)),
    Fault(name="runtime broken", block=_runtime_broken, seconds=(1.0, 10.0)),
)
