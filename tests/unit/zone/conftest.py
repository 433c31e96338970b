"""A whole zone in memory: commands, API and daemon are real, its nodes are pretended.

Tests type commands and look at what lies on the nodes. Never looks into the daemon.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import yaml

from dorabatch.config import Settings
from dorabatch.daemon.api.assembly import app_of
from dorabatch.daemon.api.server import ApiServer
from dorabatch.node.fake_container import FakeContainer
from dorabatch.node.identity import parse_identity
from tests.simulation import hands
from tests.simulation.world import World
from tests.unit.daemon.test_share_commands import ME

ROUNDS = 3


def job(name: str = "a", *, metadata: Any = None, **spec: Any) -> dict[str, Any]:
    """A Workload document: a core, a name and what the test says of its spec."""
    made = {
        "driver": "Docker",
        "selectors": {"cpu": {"count": 1}},
        "image": {"image": "busybox"},
        "config": {"cmd": "sleep 600"},
    }
    return {
        "apiVersion": "v1",
        "kind": "Workload",
        "metadata": {"name": name, **(metadata or {})},
        "spec": {**made, **spec},
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A container that runs on a node."""

    name: str
    node: str
    there: FakeContainer

    @property
    def docker_id(self) -> str:
        """What Docker calls it."""
        return self.there.facts.container_id


class Zone:
    """Types commands at a daemon and looks at its nodes."""

    def __init__(self, world: World, socket: Path) -> None:
        self.world = world
        self.socket = socket
        self._server = self._serve()

    def _serve(self) -> ApiServer:
        parts = self.world.parts
        app = app_of(
            parts.books, parts.effects, parts.views, parts.intake, parts.keepers
        )
        settings = self.world.settings.model_copy(update={"socket": self.socket})
        server = ApiServer(app, settings)
        server.start()
        return server

    def end(self) -> None:
        """Serve no more."""
        self._server.stop()

    def start_again(self, settings: Settings) -> None:
        """The daemon is killed and starts again with other settings."""
        self._server.stop()
        self.world.settings = settings
        self.world.kill()
        self._server = self._serve()

    def run(self, *argv: str, status: int = 0, text: str = "") -> str:
        """What a command prints; on standard error too when it is to fail."""
        done = self._typed(argv, text)
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout + done.stderr if status else done.stdout

    def refused(self, *argv: str) -> str:
        """What a command says that must fail, whatever its status."""
        done = self._typed(argv)
        assert done.returncode, done.stdout
        return done.stdout + done.stderr

    def _typed(
        self, argv: tuple[str, ...], text: str = ""
    ) -> subprocess.CompletedProcess[str]:
        name, *words = argv
        code = (
            f"import sys; from dorabatch.cmds.front import {name} as c; sys.exit(c())"
        )
        return subprocess.run(
            [sys.executable, "-c", code, *words],
            env={**os.environ, "DORABATCH_SOCKET": str(self.socket)},
            input=text,
            capture_output=True,
            text=True,
            check=False,
        )

    def json(self, *argv: str) -> Any:
        """What a command prints as JSON."""
        return json.loads(self.run(*argv, "--json"))

    def apply(self, *documents: Any, status: int = 0) -> str:
        """`dora apply` with these documents as one file."""
        text = "---\n".join(
            one if isinstance(one, str) else yaml.safe_dump(one) for one in documents
        )
        return self.run("dora", "apply", "-f", "-", status=status, text=text)

    def go(self, seconds: float = 1) -> None:
        """Time goes by, with cycles, and everything open on the nodes is done."""
        for _ in range(ROUNDS):
            hands.turn(self.world, seconds)
            hands.work(self.world)

    def jobs(self, workload: str | None = None) -> list[Job]:
        """What runs, by name; of one workload, when it is named."""
        found = []
        for node, name in self.world.running():
            there = node.containers[name]
            identity = parse_identity(there.facts.labels)
            assert identity is not None
            owner = self.world.books.board.workloads[identity.workload_id].name
            if workload in (None, owner):
                called = f"{owner}.{identity.replica}"
                found.append(Job(name=called, node=node.name, there=there))
        return sorted(found, key=lambda one: one.name)

    def ids(self, workload: str) -> dict[str, str]:
        """What Docker calls each container of a workload that runs."""
        return {one.name: one.docker_id for one in self.jobs(workload)}

    def state(self, workload: str) -> str:
        """The state of a workload."""
        state: str = self.json("dstat", "--all", workload)[0]["state"]
        return state


@contextmanager
def served(world: World, socket: Path) -> Iterator[Zone]:
    """A world with its API on a socket; whoever runs the tests is an admin."""
    for node in world.nodes.values():
        # A daemon that opens its connection anew finds the same machine.
        node.close = _nothing  # type: ignore[method-assign]
    zone = Zone(world, socket)
    try:
        yield zone
        assert world.broken() == []
    finally:
        zone.end()
        world.close()


@pytest.fixture
def zone() -> Iterator[Zone]:
    """Four nodes: four V100; two RTX; two of each; no GPU."""
    # A short path: a Unix socket's may have 107 characters at most.
    with (
        TemporaryDirectory(prefix="dora-") as place,
        served(
            World(1, Path(place), credits="", admins=(ME,)), Path(place) / "s"
        ) as made,
    ):
        yield made


def _nothing() -> None:
    """Nothing is closed."""
