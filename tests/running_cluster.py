"""A test cluster for as long as a fixture lasts."""

from collections.abc import Iterator

import pytest

from tests.cluster import Cluster, ClusterError


def running(cluster: Cluster) -> Iterator[Cluster]:
    """Bring a cluster up, and down after use; one that does not come up fails."""
    try:
        cluster.up()
    except ClusterError as error:
        cluster.down()
        pytest.fail(f"the test cluster did not come up: {error}", pytrace=False)
    yield cluster
    cluster.down()
