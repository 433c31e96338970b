"""What a real machine says of itself: which one it is, and a driver that breaks."""

import time
from typing import Any

import pytest

from tests.integration.dorad_process import Site

pytestmark = pytest.mark.integration

DRIVER_NOT_LOADED = 9


def node(site: Site, name: str) -> dict[str, Any]:
    """A node's row."""
    (row,) = [one for one in site.daemon.nodes() if one["name"] == name]
    return row


def wait_for_node(site: Site, name: str, state: str, reason: str) -> None:
    """Wait until a node stands so, with such words as its reason."""
    for _ in range(200):
        row = node(site, name)
        if row["state"] == state and reason in (row["reason"] or ""):
            return
        time.sleep(0.1)
    raise AssertionError(f"node {name}: {row}")


@pytest.mark.parametrize("name", ["m1", "m2"])
def test_an_octal_address_is_the_same_machine(site: Site, name: str) -> None:
    there = site.cluster.nodes[name]
    first, last = there.address.rsplit(".", 1)
    octal = f"{first}.0{int(last):o}"
    ref = site.daemon.submit(
        *("-c", "1", "-N", name, "-i", "busybox", "--", "sleep", "600")
    )
    site.daemon.wait_for(ref, state="running")
    site.daemon.ask(
        *("dnode", "add", octal, "--name", "again"),
        *("--fingerprint", there.host_key_fingerprint),
    )
    try:
        wait_for_node(site, "again", "ASIDE", f"the same machine as node {name}")
        late = site.daemon.submit(
            *("-c", "1", "-N", "again", "-i", "busybox", "--", "true")
        )
        # Longer than what belongs to nobody is left alone.
        time.sleep(4)
        assert site.daemon.rows(ref)[0]["state"] == "running"
        assert site.daemon.rows(late)[0]["state"] == "queued"
        assert "same machine" in site.daemon.ask("dstat", "--why", late)
        assert "node-trouble" in site.daemon.log.read_text()
        site.daemon.ask("dcancel", late, ref, "--yes")
        site.daemon.wait_for(ref, outcome="cancelled")
        assert "work-bug" not in site.daemon.log.read_text()
    finally:
        site.daemon.ask("dnode", "remove", "again", "--yes")
    assert node(site, name)["state"] == "READY"


def test_work_waits_while_the_driver_is_broken(site: Site) -> None:
    there = site.cluster.nodes["m1"]
    gpus = list(there.gpus)
    site.cluster.write_gpus("m1", gpus, init_error=DRIVER_NOT_LOADED)
    try:
        site.daemon.ask("dnode", "probe", "m1")
        wait_for_node(site, "m1", "READY", "3 of its 3 GPUs are missing: NVML")
        site.daemon.stop()
        site.restart()
        wait_for_node(site, "m1", "READY", "3 of its 3 GPUs are missing: NVML")
        ref = site.daemon.submit("-G", "2", "-i", "busybox", "--", "true")
        why = site.daemon.ask("dstat", "--why", ref)
        assert "GPUs are missing: NVML" in why
    finally:
        site.cluster.write_gpus("m1", gpus)
    site.daemon.ask("dnode", "probe", "m1")
    site.wait_ended(ref, "done")
    assert not node(site, "m1")["reason"]
