"""A small cluster and one daemon for each module of whole-path tests."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.cluster import Cluster
from tests.integration.dorad_process import Site
from tests.running_cluster import running

PAIR = ("m1=Tesla V100-SXM2-16GB:2,Quadro RTX 6000:1", "m2=")


@pytest.fixture(scope="module")
def pair() -> Iterator[Cluster]:
    """Two nodes: one with GPUs of two models, one without any."""
    yield from running(Cluster(list(PAIR)))


@pytest.fixture(scope="module")
def pair_site(pair: Cluster) -> Iterator[Site]:
    """A daemon that has both nodes, for a whole module."""
    # A short path, because it holds a Unix socket; open to users without rights.
    with TemporaryDirectory(prefix="dorad-") as place:
        Path(place).chmod(0o755)
        made = Site(Path(place), pair)
        try:
            made.set_up()
            yield made
        finally:
            made.daemon.stop()


@pytest.fixture
def site(pair_site: Site) -> Iterator[Site]:
    """The module's daemon, running; at the end nothing is left of the test."""
    if not pair_site.is_up():
        pair_site.restart()
    yield pair_site
    pair_site.clear()
