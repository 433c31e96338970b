"""A daemon with its cluster, seen the way a user, an admin and Docker see it.

Adds to `tests.dorad_process` what whole-path tests ask again and again: raw requests,
what Docker has, what is held, waiting. Never looks into the daemon's database.
"""

import http.client
import json
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from tests.cluster import Cluster
from tests.dorad_process import BIN, Dorad

# Short patience everywhere, so that a fault shows within seconds.
QUICK = {
    "node": {
        "poll_seconds": 1.0,
        "unreachable_after_seconds": 6.0,
        "orphan_grace_seconds": 2.0,
        "refusing_retry_seconds": 2.0,
    },
    "launch": {
        "restart_backoff_seconds": 0.2,
        "fast_failures_max": 3,
        "avoid_node_seconds": 1.0,
        "registry_retry_seconds": 0.5,
        "stop_grace_seconds": 1.0,
    },
    "containers": {"gpu_shares": True},
    "ssh": {"connect_seconds_max": 3.0, "answer_seconds_max": 4.0},
}
CRASH_VARIABLE = "DORABATCH_FAULT_CRASH_AT"
CLUSTER_LABEL = "dorabatch.cluster"
NOBODY = 65534
_WAIT_SECONDS = 20.0
_PAUSE_SECONDS = 0.05


class UnixConnection(http.client.HTTPConnection):
    """HTTP over the daemon's socket."""

    def __init__(self, path: Path, seconds: float = 30.0) -> None:
        super().__init__("dorad", timeout=seconds)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket instead of a host."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class Site:
    """One daemon and the cluster it uses."""

    def __init__(self, folder: Path, cluster: Cluster) -> None:
        key = {"key_file": str(cluster.client_key)}
        settings = {**QUICK, "ssh": {**QUICK["ssh"], **key}}
        self.cluster = cluster
        self.daemon = Dorad(folder, settings)

    def set_up(self) -> None:
        """Start the daemon and add every node of the cluster."""
        self.daemon.start()
        for name, node in self.cluster.nodes.items():
            self.daemon.ask(
                *("dnode", "add", node.address, "--name", name),
                *("--fingerprint", node.host_key_fingerprint),
            )
        self.wait_ready()

    def restart(self, **environment: str) -> None:
        """Start the daemon again and wait until its nodes are ready."""
        self.daemon.start(**environment)
        self.wait_ready()

    def wait_ready(self) -> None:
        """Wait until every node is ready."""
        self.daemon.wait_for_nodes(len(self.cluster.nodes))

    def is_up(self) -> bool:
        """Whether the daemon's process runs."""
        process = self.daemon.process
        return process is not None and process.poll() is None

    def begin(self, command: str, *words: str) -> "subprocess.Popen[str]":
        """Start one of the commands and do not wait for it."""
        return subprocess.Popen(
            [BIN / command, *words],
            env={**os.environ, "DORABATCH_SOCKET": str(self.daemon.socket)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def request(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """(status, JSON answer) of one request."""
        connection = UnixConnection(self.daemon.socket)
        try:
            text = None if body is None else json.dumps(body)
            connection.request(method, path, text)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def record(self, ref: str) -> dict[str, Any]:
        """A workload's whole record."""
        record: dict[str, Any]
        status, record = self.request("GET", f"/v1/workloads/{ref}")
        assert status == 200, record
        return record

    def node(self, name: str) -> dict[str, Any]:
        """A node's row."""
        return next(row for row in self.daemon.nodes() if row["name"] == name)

    def held_gpus(self) -> int:
        """GPUs that count as used, on all nodes."""
        rows = self.daemon.nodes()
        return sum(gpu["held"] for row in rows for gpu in row["gpus"])

    def held_runs(self) -> int:
        """Containers that count as there, on all nodes."""
        return sum(row["containers"] for row in self.daemon.nodes())

    def containers(self, ref: str = "") -> list[dict[str, Any]]:
        """What Docker lists of ours on all nodes, ended ones too."""
        labels = [f"dorabatch.workload={ref}"] if ref else [CLUSTER_LABEL]
        return [
            found
            for name in self.cluster.nodes
            for found in self.cluster.docker(name).containers(
                all=True, filters={"label": labels}
            )
        ]

    def inspect(self, ref: str) -> dict[str, Any]:
        """Docker's own words on the one container of a workload."""
        for name in self.cluster.nodes:
            client = self.cluster.docker(name)
            filters = {"label": [f"dorabatch.workload={ref}"]}
            for found in client.containers(all=True, filters=filters):
                document: dict[str, Any] = client.inspect_container(found["Id"])
                return document
        raise AssertionError(f"no container of workload {ref} on any node")

    def count_events(self, action: str, ref: str, since: float) -> int:
        """How often Docker did something to containers of a workload."""
        filters = {
            "type": ["container"],
            "event": [action],
            "label": [f"dorabatch.workload={ref}"],
        }
        # A moment just ahead: Docker ends the list there instead of following on.
        until = time.time() + 0.2
        return sum(
            1
            for name in self.cluster.nodes
            for _ in self.cluster.docker(name).events(
                since=f"{since:.6f}", until=f"{until:.6f}", filters=filters
            )
        )

    def wait_until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait with bounded patience; a failure shows the end of the daemon's log."""
        deadline = time.monotonic() + _WAIT_SECONDS
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError(f"waited in vain: {what}\n{self.daemon.tail()}")
            time.sleep(_PAUSE_SECONDS)

    def wait_ended(self, ref: str, outcome: str) -> dict[str, Any]:
        """Wait until a workload has ended, in this way; its record."""
        self.daemon.wait_for(ref, state="finished")
        record = self.record(ref)
        assert record["outcome"] == outcome, f"{record}\n{self.daemon.tail()}"
        return record

    def check_clean(self) -> None:
        """Nothing is left on the nodes and nothing counts as used."""
        self.wait_until(lambda: not self.containers(), "no container on any node")
        self.wait_until(lambda: self.held_runs() == 0, "no node holds anything")
        assert self.held_gpus() == 0

    def clear(self) -> None:
        """Cancel what lives, so that the next test begins with nothing."""
        if not self.is_up():
            self.daemon.start()
        _, rows = self.request("GET", "/v1/workloads?render=json")
        refs = [str(row["id"]) for row in rows]
        if refs:
            self.request("POST", "/v1/cancel", {"refs": refs})
        self.wait_until(lambda: self.held_runs() == 0, "no node holds anything")


@contextmanager
def as_nobody() -> Iterator[None]:
    """Connections made inside are those of a user without rights.

    The kernel notes the effective user when a socket is connected, which is what the
    daemon goes by.
    """
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


def document(name: str, *, replicas: int = 1, **config: object) -> str:
    """A Workload document."""
    spec = {
        "replica": {"count": replicas},
        "driver": "Docker",
        "selectors": {"cpu": {"count": "100m"}},
        "image": {"image": "busybox"},
        "config": {"memory": "16Mi", **config},
    }
    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Workload",
            "metadata": {"name": name},
            "spec": spec,
        }
    )
