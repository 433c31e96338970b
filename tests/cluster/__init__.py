"""A cluster of nodes with real sshd and dockerd on one machine, for tests and by hand.

    with Cluster(["n1=Tesla V100-SXM2-16GB:4", "n2="]) as cluster:
        cluster.nodes["n1"].address, cluster.client_key, cluster.docker("n1")

Only names what the package offers; does nothing itself. See README.md beside it.
"""

from tests.cluster.cluster import Cluster
from tests.cluster.node import Node, NodeStatus
from tests.cluster.spec import ClusterError, Gpu, NodeSpec

__all__ = ["Cluster", "ClusterError", "Gpu", "Node", "NodeSpec", "NodeStatus"]
