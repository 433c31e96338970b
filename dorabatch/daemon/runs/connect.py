"""How the daemon connects to a node, by its settings.

Opens nothing yet: the connection is made at its first use, and never used inside a
transaction.
"""

from dorabatch.clock import Clock
from dorabatch.config import Settings
from dorabatch.daemon.state.node_view import DeclaredNode
from dorabatch.db import is_in_transaction
from dorabatch.errors import invariant
from dorabatch.node.docker_driver import open_node
from dorabatch.node.docker_link import DriverLimits
from dorabatch.node.driver import NodeDriver
from dorabatch.node.ssh import NodeAddress, SshTimeouts


def open_driver(settings: Settings, clock: Clock, node: DeclaredNode) -> NodeDriver:
    """The connection to a node, made at its first use."""
    address = NodeAddress(
        name=node.name,
        host=node.host,
        port=node.port,
        user=node.user,
        key_file=str(settings.ssh.key_file),
        fingerprint=node.fingerprint or "",
        docker_socket=node.docker_socket,
    )
    timeouts = SshTimeouts(
        connect_seconds=settings.ssh.connect_seconds_max,
        answer_seconds=settings.ssh.answer_seconds_max,
    )
    limits = DriverLimits(
        channels=settings.node.launches_at_once + 2,
        pull_seconds=settings.node.pull_seconds_max,
    )
    return open_node(
        address, timeouts=timeouts, limits=limits, on_call=_outside_tx, clock=clock
    )


def _outside_tx(_number: int, operation: str) -> None:
    invariant(not is_in_transaction(), f"{operation} called inside a transaction")
