"""Addresses that no node can have are refused before anything is opened."""

from typing import Any

import pytest

from dorabatch.errors import NodeUnreachable, UserError
from dorabatch.node.docker_driver import open_node
from dorabatch.node.docker_link import DriverLimits
from dorabatch.node.ssh import NodeAddress, SshTimeouts, scan_host_key

GOOD: dict[str, Any] = {
    "name": "n",
    "host": "127.0.0.1",
    "key_file": "k",
    "fingerprint": "f",
}


@pytest.mark.parametrize(
    "changes",
    [
        {"host": "-oProxyCommand=id"},
        {"host": "a b"},
        {"host": ""},
        {"host": "a\nb"},
        {"port": 0},
        {"port": 65536},
        {"user": "-l"},
        {"user": ""},
        {"user": "a;b"},
        {"docker_socket": "docker.sock"},
    ],
)
def test_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(UserError):
        NodeAddress(**{**GOOD, **changes})


def test_scan_checks_too() -> None:
    with pytest.raises(UserError):
        scan_host_key("-x", 22, 1)


def test_addresses_that_can_be() -> None:
    for host in ("n1", "n1.lab.example", "10.0.0.1", "fe80::1", "::1"):
        NodeAddress(**{**GOOD, "host": host})


def test_calls_are_numbered_and_a_failed_connect_is_shared() -> None:
    seen: list[tuple[int, str]] = []
    driver = open_node(
        NodeAddress(**GOOD, port=1),
        timeouts=SshTimeouts(connect_seconds=1),
        limits=DriverLimits(retry_connect_seconds=60),
        on_call=lambda number, operation: seen.append((number, operation)),
    )
    for _ in range(2):
        with pytest.raises(NodeUnreachable, match="no connection"):
            driver.ping()
    assert seen == [(1, "ping"), (2, "ping")]
    driver.close()
