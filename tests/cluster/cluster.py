"""The test cluster as a whole: made, found again, and removed without a trace.

Its directory holds everything it writes; `cluster.json` there says what was asked for.
Never leaves a part behind when making it fails, and never reuses a half-made one.
"""

import json
import signal
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from docker import APIClient

from tests.cluster import images, machine
from tests.cluster.node import Node
from tests.cluster.spec import (
    ClusterError,
    Gpu,
    Instance,
    NodeSpec,
    check_specs,
)

DIRECTORY_PREFIX = "/tmp/dorabatch-cluster-"
_HERE = Path(__file__).resolve().parent
_STATE = "cluster.json"
_ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_HOOK = "nvidia-container-runtime-hook"


def _silent(_: str) -> None:
    """Say nothing."""


class Cluster:
    """Nodes with real sshd and dockerd on one machine; also a context manager."""

    def __init__(
        self,
        specs: Iterable[NodeSpec | str],
        *,
        directory: Path | str | None = None,
        instance: int | None = None,
        say: Callable[[str], None] = _silent,
    ) -> None:
        self.specs = tuple(
            NodeSpec.parse(spec) if isinstance(spec, str) else spec for spec in specs
        )
        self.nodes: dict[str, Node] = {}
        self._wanted_directory = None if directory is None else Path(directory)
        self._wanted_instance = instance
        self._directory: Path | None = None
        self._instance: Instance | None = None
        self._storage = "overlay2"
        self._say = say
        self._clients: list[APIClient] = []

    @classmethod
    def load(
        cls, directory: Path | str, say: Callable[[str], None] = _silent
    ) -> "Cluster":
        """Find a cluster that is up, made by this process or by another."""
        place = Path(directory).resolve()
        try:
            state = json.loads((place / _STATE).read_text())
        except (OSError, ValueError) as error:
            raise ClusterError(
                f"there is no cluster in {place} ({error}); make one with "
                "`python -m tests.cluster up`"
            ) from error
        specs = [
            NodeSpec(
                name=node["name"],
                gpus=tuple((model, count) for model, count in node["gpus"]),
                live_restore=node["live_restore"],
            )
            for node in state["nodes"]
        ]
        cluster = cls(specs, directory=place, instance=state["instance"], say=say)
        cluster._storage = state["storage"]
        cluster._settle(place, Instance(number=state["instance"]))
        return cluster

    # --- what others need to know --------------------------------------------------

    @property
    def directory(self) -> Path:
        """Where everything of the cluster lies."""
        if self._directory is None:
            raise ClusterError("the cluster is not up; call up() first")
        return self._directory

    @property
    def instance(self) -> Instance:
        """The cluster's number on this machine."""
        if self._instance is None:
            raise ClusterError("the cluster is not up; call up() first")
        return self._instance

    @property
    def client_key(self) -> Path:
        """The private key that every node accepts for root."""
        return self.directory / "client_key"

    @property
    def registry(self) -> str:
        """Host and port of the image registry, plain HTTP, known to every node."""
        return self.instance.registry

    def stop_registry(self) -> None:
        """Let the registry be away."""
        images.stop_registry(self.directory, self.instance)

    def start_registry(self) -> None:
        """Let it answer again, with the images that it had."""
        images.serve_registry(self.directory, self.instance)

    @property
    def registry_image(self) -> str:
        """An image that no node has and every node can pull."""
        return f"{self.registry}/{images.REGISTRY_IMAGE}:{images.REGISTRY_TAG}"

    def describe(self) -> dict[str, object]:
        """All that a user of the cluster needs, for JSON."""
        return {
            "directory": str(self.directory),
            "instance": self.instance.number,
            "client_key": str(self.client_key),
            "registry": self.registry,
            "registry_image": self.registry_image,
            "storage_driver": self._storage,
            "nodes": [
                {
                    "name": node.name,
                    "address": node.address,
                    "port": node.port,
                    "user": "root",
                    "host_key_fingerprint": node.host_key_fingerprint,
                    "docker_socket": str(node.docker_socket),
                    "gpus": [
                        {
                            "uuid": gpu.uuid,
                            "model": gpu.model,
                            "memory_mib": gpu.memory_mib,
                        }
                        for gpu in node.gpus
                    ],
                }
                for node in self.nodes.values()
            ],
        }

    def node(self, name: str) -> Node:
        """A node by its name."""
        if name not in self.nodes:
            raise ClusterError(
                f"node {name!r} is unknown (known: {', '.join(self.nodes)})"
            )
        return self.nodes[name]

    # --- up and down ---------------------------------------------------------------

    def up(self) -> "Cluster":
        """Make the cluster; what was in its directory before is removed first."""
        machine.check_machine()
        self._check_directory(self._wanted_directory)
        with ExitStack() as undo:
            undo.callback(self._remove)
            self._claim()
            self._make()
            undo.pop_all()
        return self

    def down(self) -> None:
        """Remove the cluster: processes, namespaces, links, control groups, files."""
        if self._directory is None:
            return
        self._remove()

    def __enter__(self) -> "Cluster":
        return self.up()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.down()

    @staticmethod
    def _check_directory(directory: Path | None) -> None:
        if directory is None or not directory.exists():
            return
        if not directory.is_dir() or (
            any(directory.iterdir()) and not (directory / _STATE).exists()
        ):
            raise ClusterError(
                f"{directory} holds something that is no cluster; give an empty or a "
                "new directory"
            )

    def _claim(self) -> None:
        """Take a number and a directory, removing what a dead cluster left there."""
        wanted = self._wanted_directory
        if wanted is not None:
            wanted = wanted.resolve()
            remove_leftovers(wanted)
        # A signal between making the bridge and knowing it would leave it behind.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING_SIGNALS)
        try:
            instance, place = machine.claim_bridge(
                lambda number: wanted or Path(f"{DIRECTORY_PREFIX}{number}"),
                self._wanted_instance,
            )
            self._settle(place, instance)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        self._check_directory(place)
        check_specs(self.specs, place)
        # The bridge is ours, so what is there belongs to nobody alive.
        machine.kill_owned(place)
        machine.remove_tree(place)
        place.mkdir(parents=True)
        (place / _STATE).write_text(json.dumps(self._state(), indent=1))

    def _settle(self, place: Path, instance: Instance) -> None:
        self._directory = place
        self._instance = instance
        self.nodes = {
            spec.name: Node(directory=place, instance=instance, index=index, spec=spec)
            for index, spec in enumerate(self.specs)
        }

    def _state(self) -> dict[str, object]:
        return {
            "instance": self.instance.number,
            "storage": self._storage,
            "nodes": [
                {
                    "name": spec.name,
                    "gpus": [list(group) for group in spec.gpus],
                    "live_restore": spec.live_restore,
                }
                for spec in self.specs
            ],
        }

    def _make(self) -> None:
        place, instance = self.directory, self.instance
        self._say(f"cluster {instance.number} in {place}: {len(self.specs)} nodes")
        if not machine.can_mount_overlay(place):
            self._storage = "vfs"
        self._say(f"dockerd keeps images with {self._storage}")
        (place / _STATE).write_text(json.dumps(self._state(), indent=1))
        bridge = instance.bridge
        machine.run("ip", "address", "add", f"{instance.gateway}/24", "dev", bridge)
        machine.run("ip", "link", "set", bridge, "up")
        self._make_shared_files()
        system = images.rootfs_tar()
        with_bash = images.rootfs_tar(has_bash=True)
        wanted = {
            "ubuntu:latest": (with_bash, "/bin/bash"),
            "busybox:latest": (system, "sh"),
        }
        stop = threading.Event()
        with ThreadPoolExecutor(max_workers=8) as pool:
            jobs = [pool.submit(images.start_registry, place, instance)]
            jobs += [
                pool.submit(self._make_node, node, wanted, stop)
                for node in self.nodes.values()
            ]
            self._finish(jobs, stop)
        self._write_known_hosts()
        self._say(f"registry at {self.registry} has {self.registry_image}")

    def _finish(self, jobs: list[Future[None]], stop: threading.Event) -> None:
        """Wait for all jobs; the first failure, or Ctrl-C, makes the others end."""
        with ExitStack() as on_failure:
            # What the other jobs wait for will not come, which ends their waiting.
            on_failure.callback(machine.kill_owned, self.directory)
            on_failure.callback(stop.set)
            for job in as_completed(jobs):
                job.result()
            on_failure.pop_all()

    def _make_shared_files(self) -> None:
        place = self.directory
        for name in ("lib", "bin"):
            (place / name).mkdir()
        hook = place / "bin" / _HOOK
        # dockerd accepts requests for GPUs as soon as a program of this name is there.
        hook.write_text("#!/bin/sh\nexit 0\n")
        hook.chmod(0o755)
        machine.run(
            *("gcc", "-shared", "-fPIC", "-O1", "-o"),
            str(place / "lib" / "libnvidia-ml.so.1"),
            str(_HERE / "nvml_stub.c"),
        )
        machine.run(
            *("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "dorad"),
            *("-f", str(self.client_key)),
        )

    def _make_node(
        self, node: Node, wanted: dict[str, tuple[bytes, str]], stop: threading.Event
    ) -> None:
        node.create_files(client_key=self._public_key(), storage=self._storage)
        for step in (node.power_on, lambda: node.load_images(wanted)):
            if stop.is_set():
                return
            step()
        gpus = ", ".join(f"{count} x {model}" for model, count in node.spec.gpus)
        self._say(f"node {node.name} is up at {node.address}: {gpus or 'no GPUs'}")

    def _public_key(self) -> str:
        return self.client_key.with_suffix(".pub").read_text()

    def _write_known_hosts(self) -> None:
        lines = [
            f"{node.address} {node.host_key_line}\n" for node in self.nodes.values()
        ]
        (self.directory / "known_hosts").write_text("".join(lines))

    def _remove(self) -> None:
        while self._clients:
            self._clients.pop().close()
        if self._directory is not None:
            remove_leftovers(self._directory)
        self._directory = None
        self._instance = None
        self.nodes = {}

    # --- faults, by the node's name ------------------------------------------------

    def cut(self, name: str) -> None:
        """Unplug a node's cable."""
        self.node(name).cut()

    def heal(self, name: str) -> None:
        """Plug it in again."""
        self.node(name).heal()

    def kill_dockerd(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Signal a node's dockerd: KILL, TERM, STOP or CONT."""
        self.node(name).kill_dockerd(number)

    def start_dockerd(self, name: str) -> None:
        """Start a node's dockerd again, same arguments, same data."""
        self.node(name).start_dockerd()

    def rekey(self, name: str) -> None:
        """Give a node a new host key and restart its sshd; sessions end."""
        self.node(name).rekey()
        self._write_known_hosts()

    def refuse_key(self, name: str) -> None:
        """Let a node forget the client's key; open sessions stay."""
        self.node(name).refuse_key()

    def accept_key(self, name: str) -> None:
        """Let a node know the client's key again."""
        self.node(name).accept_key(self._public_key())

    def end_sessions(self, name: str) -> None:
        """End a node's ssh sessions; sshd takes new ones."""
        self.node(name).end_sessions()

    def power_off(self, name: str) -> None:
        """End everything on a node at once."""
        self.node(name).power_off()

    def power_on(self, name: str) -> None:
        """Boot a node that is off; what is on its disk is still there."""
        self.node(name).power_on()

    def reboot(self, name: str) -> None:
        """Power cut, then boot, with a new boot id."""
        self.power_off(name)
        self.power_on(name)

    def write_gpus(
        self, name: str, gpus: Iterable[Gpu], *, init_error: int = 0
    ) -> None:
        """Change what NVML tells on a node."""
        self.node(name).write_gpus(gpus, init_error=init_error)

    def docker(self, name: str) -> APIClient:
        """A Docker client on a node's own socket, closed by down()."""
        client = self.node(name).docker()
        self._clients.append(client)
        return client

    def ssh_command(self, name: str, *words: str) -> list[str]:
        """The command that runs words on a node through its sshd."""
        node = self.node(name)
        options = (
            "BatchMode=yes",
            "ConnectTimeout=10",
            "IdentitiesOnly=yes",
            "StrictHostKeyChecking=yes",
            f"UserKnownHostsFile={self.directory / 'known_hosts'}",
        )
        flags = [part for option in options for part in ("-o", option)]
        key = ["-F", "/dev/null", "-i", str(self.client_key)]
        return ["ssh", *key, *flags, f"root@{node.address}", *words]


def is_cluster(directory: Path) -> bool:
    """Whether anything of a cluster, whole or half, has this directory."""
    return bool(
        (directory / _STATE).exists()
        or str(directory) in machine.instances()
        or machine.owned_processes(directory)
    )


def remove_leftovers(directory: Path) -> None:
    """Remove a cluster, whole or half, that has this directory."""
    machine.kill_owned(directory)
    numbers = {
        number
        for owner, number in machine.instances().items()
        if owner == str(directory)
    }
    number = _number_in(directory)
    if number is not None and not machine.owner_of(number):
        # Its bridge is gone and nobody has taken the number since.
        numbers.add(number)
    for number in numbers:
        machine.remove_cgroups(Instance(number=number).cgroup("*"))
    if (directory / _STATE).exists():
        machine.remove_tree(directory)
    elif directory.is_dir() and not any(directory.iterdir()):
        directory.rmdir()
    # Last, because the bridge is what keeps others from taking the number.
    machine.remove_links(directory)


def _number_in(directory: Path) -> int | None:
    try:
        return int(json.loads((directory / _STATE).read_text())["instance"])
    except (OSError, ValueError, KeyError):
        return None
