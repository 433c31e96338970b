"""The cluster under test: three nodes, one daemon, a foreign container on each node.

Each container gets a folder of the machine at /nonces, from a wrapper around runc, so
that what a job says outlives its container, its node and the daemon, whichever node it
ran on. Never looks into the daemon's database.
"""

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import requests
from docker.errors import DockerException

from tests.cluster import Cluster
from tests.faults.judge import Nonce
from tests.integration.dorad_process import CLUSTER_LABEL, Site

# GPUs everywhere: a node's dockerd finds the wrapper only where it has the hook.
NODES = ("f1=Tesla V100-SXM2-16GB:2", "f2=Quadro RTX 6000:1", "f3=Tesla T4:1")
STATE_MIB = 64
_WRAPPER = """\
#!/bin/sh
# Gives each container the folder where jobs say how far they are; then the real one.
bundle= previous=
for word; do
    [ "$previous" = --bundle ] && bundle=$word
    previous=$word
done
mount='{{"destination":"/nonces","type":"bind","source":"{folder}",'
mount="$mount\\"options\\":[\\"rbind\\",\\"rw\\"]}},"
[ -z "$bundle" ] || sed -i "s|\\"mounts\\":\\[|&$mount|" "$bundle/config.json"
exec {runc} "$@"
"""


class Ground:
    """A site with its nonces and its foreign containers."""

    def __init__(self, site: Site, nonces: Path) -> None:
        self.site = site
        self.cluster = site.cluster
        self.state = site.daemon.folder / "state"
        self._said = nonces / "said"
        self._foreign: dict[str, str] = {}

    def start_foreign(self) -> None:
        """Run on each node a container that is none of ours."""
        for name in self.cluster.nodes:
            client = self.cluster.docker(name)
            made = client.create_container(
                "busybox",
                ["sleep", "1000000"],
                name="foreign",
                host_config=client.create_host_config(
                    restart_policy={"Name": "always"}
                ),
            )
            client.start(made["Id"])
            self._foreign[name] = made["Id"]

    def foreign_touched(self) -> tuple[str, ...]:
        """Foreign containers that are not as they were made, in words."""
        complaints = []
        for name, docker_id in self._foreign.items():
            found = self._listed(name, {"name": ["foreign"]})
            seen = [(one["Id"], one["State"]) for one in found]
            if seen != [(docker_id, "running")]:
                complaints.append(f"{name}: {seen}, made as {docker_id}")
        return tuple(complaints)

    def ours(self, name: str, *, all: bool = True) -> list[dict[str, Any]]:
        """What Docker lists of the daemon's containers on a node."""
        return self._listed(name, {"label": [CLUSTER_LABEL]}, all=all)

    def left(self) -> tuple[str, ...]:
        """Containers of ours on all nodes, in words."""
        return tuple(
            f"{name}: {found['Names'][0]} ({found['Status']})"
            for name in self.cluster.nodes
            for found in self.ours(name)
        )

    def nonces(self) -> tuple[Nonce, ...]:
        """All that the jobs have said."""
        lines = self._said.read_text().splitlines()
        return tuple(map(Nonce.parse, lines))

    def health(self) -> dict[str, Any]:
        """What the daemon says of itself."""
        answer: dict[str, Any] = self.site.request("GET", "/v1/health")[1]
        return answer

    def _listed(
        self, name: str, filters: dict[str, list[str]], *, all: bool = True
    ) -> list[dict[str, Any]]:
        client = self.cluster.node(name).docker()
        try:
            found: list[dict[str, Any]] = client.containers(all=all, filters=filters)
            return found
        finally:
            client.close()

    def wait_quiet(self, refs: list[int], seconds: float) -> bool:
        """Wait until these have ended, nothing is held and all is ready."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self._is_quiet(set(refs)):
                return True
            time.sleep(0.5)
        return False

    def _is_quiet(self, refs: set[int]) -> bool:
        status, live = self.site.request("GET", "/v1/workloads?render=json")
        if status != 200 or refs & {row["id"] for row in live}:
            return False
        is_ready = all(
            row["state"] == "READY" and not row["containers"]
            for row in self.site.daemon.nodes()
        )
        try:
            is_clean = not self.left() and not self.foreign_touched()
        except (DockerException, requests.RequestException):
            return False
        return is_ready and is_clean and self.health().get("ok") is True


@contextmanager
def made() -> Iterator[Ground]:
    """A ground that is ready, for as long as the block lasts."""
    with (
        Cluster(NODES) as cluster,
        TemporaryDirectory(prefix="dorad-", ignore_cleanup_errors=True) as place,
        _small_disk(Path(place) / "state"),
    ):
        nonces = _nonces(cluster)
        ground = Ground(Site(Path(place), cluster), nonces)
        try:
            ground.site.set_up()
            ground.start_foreign()
            yield ground
        finally:
            ground.site.daemon.stop()


@contextmanager
def _small_disk(folder: Path) -> Iterator[None]:
    """A file system that can be filled without harm to others."""
    folder.parent.chmod(0o755)
    folder.mkdir(mode=0o700)
    size = f"size={STATE_MIB}m,mode=0700"
    subprocess.run(["mount", "-t", "tmpfs", "-o", size, "dorad", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def _nonces(cluster: Cluster) -> Path:
    folder = cluster.directory / "nonces"
    folder.mkdir()
    folder.chmod(0o777)
    (folder / "said").touch()
    (folder / "said").chmod(0o666)
    wrapper = cluster.directory / "bin" / "runc"
    wrapper.write_text(_WRAPPER.format(folder=folder, runc=shutil.which("runc")))
    wrapper.chmod(0o755)
    return folder
