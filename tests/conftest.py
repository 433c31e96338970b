"""Fixtures of all suites: databases, a real cluster, real daemons.

A real part that is missing fails the test in one sentence; nothing is skipped.
"""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.cluster import Cluster
from tests.dorad_process import Dorad
from tests.postgresql import PostgresqlMissing, PostgresqlServer
from tests.running_cluster import running

CLUSTER_NODES = (
    "n1=Tesla V100-SXM2-16GB:4",
    "n2=Quadro RTX 6000:2",
    "n3=",
)


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """A database file that does not exist yet."""
    return f"sqlite:///{tmp_path / 'dorabatch.db'}"


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[PostgresqlServer]:
    """A PostgreSQL server of this run's own."""
    try:
        server = PostgresqlServer()
    except PostgresqlMissing as error:
        pytest.fail(str(error), pytrace=False)
    yield server
    server.stop()


@pytest.fixture
def postgresql_url(postgresql_server: PostgresqlServer) -> Iterator[str]:
    """A new empty PostgreSQL database."""
    name = postgresql_server.make_database()
    yield postgresql_server.url(name)
    postgresql_server.drop_database(name)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Three nodes with sshd and dockerd: four V100, two RTX 6000, no GPU."""
    if os.geteuid() != 0:
        pytest.fail(
            "the test cluster needs root (network namespaces, dockerd, sshd): run "
            "./test as root, or `make check`, which needs no root",
            pytrace=False,
        )
    yield from running(Cluster(list(CLUSTER_NODES)))


@pytest.fixture
def dorad(cluster: Cluster) -> Iterator[Callable[..., Dorad]]:
    """A factory of running daemons that hold the cluster's key.

    `dorad()` starts one; `dorad(database=URL)` sets settings; `dorad(nodes=())` adds
    no node. All are stopped, and their containers removed, at the end of the test.
    """
    made: list[Dorad] = []
    # A short path: a Unix socket's may have 107 characters at most.
    with TemporaryDirectory(prefix="dorad-") as place:

        def start(*, nodes: tuple[str, ...] | None = None, **settings: Any) -> Dorad:
            folder = Path(place) / str(len(made))
            folder.mkdir()
            key = {"ssh": {"key_file": str(cluster.client_key)}}
            daemon = Dorad(folder, {**key, **settings})
            made.append(daemon)
            daemon.start()
            add_nodes(daemon, cluster, tuple(cluster.nodes) if nodes is None else nodes)
            return daemon

        try:
            yield start
        finally:
            for daemon in made:
                daemon.stop()
            remove_containers(cluster)


def add_nodes(daemon: Dorad, cluster: Cluster, names: tuple[str, ...]) -> None:
    """Add nodes of the cluster and wait until they are ready."""
    for name in names:
        node = cluster.nodes[name]
        daemon.ask(
            *("dnode", "add", node.address, "--name", name),
            *("--fingerprint", node.host_key_fingerprint),
        )
    if names:
        daemon.wait_for_nodes(len(names))


def remove_containers(cluster: Cluster) -> None:
    """Leave no container behind for the next test."""
    for name in cluster.nodes:
        client = cluster.docker(name)
        for container in client.containers(all=True):
            client.remove_container(container["Id"], force=True)


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--seed=N` repeats one simulation."""
    parser.addoption("--seed", type=int, default=None, help="one simulation's seed")


def pytest_configure() -> None:
    """No test is judged by the clock, nor by where it was started from."""
    too_slow = [HealthCheck.too_slow]
    settings.register_profile("house", deadline=None, suppress_health_check=too_slow)
    settings.load_profile("house")
    # What a shell starts in the background ignores Ctrl-C, and so would all it starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
