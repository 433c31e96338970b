"""The page's two Workloads and their networks, on real sshd and dockerd.

What is edited in them is the image and the command, so that there is somebody to ask.
"""

import json
import socket
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.cluster import Cluster
from tests.dorad_process import Dorad
from tests.integration.dorad_process import Site, as_nobody, document

pytestmark = pytest.mark.integration

EXAMPLES = Path(__file__).parents[2] / "etc" / "examples"
MODELS = {"Tesla V100-SXM2-16GB", "Quadro RTX 6000"}
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
WORKSPACE = "apiVersion: v1\nkind: Workspace\nmetadata:\n  name: {}\n"
PATIENCE_SECONDS = 20
# Nothing in the images can listen by UDP; a kernel counts what comes to nobody.
TOLD = """awk '/^Udp: [0-9]/ && $3 > 0 {print "came"}' /proc/net/snmp"""
UDP = ["sh", "-c", f"while :; do {TOLD}; sleep 0.2; done"]


def page(address: str, port: int) -> str:
    """What a container publishes there, once it does."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            with DIRECT.open(f"http://{address}:{port}/name", timeout=5) as answer:
                return answer.read().decode()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def is_closed(address: str, port: int) -> bool:
    """Nothing listens there."""
    with socket.socket() as link:
        link.settimeout(5)
        return link.connect_ex((address, port)) != 0


def serving(port: int) -> list[str]:
    """A command that publishes the name of its container."""
    text = f"hostname >/tmp/name; exec httpd -f -p {port} -h /tmp"
    return ["sh", "-c", text]


@pytest.mark.mission("M15")
def test_the_minimal_workload_runs(site: Site) -> None:
    path = EXAMPLES / "concept-minimal.yaml"
    ref = site.daemon.submit(str(path))

    site.daemon.wait_for(ref, state="running")
    record = site.record(ref)
    assert (record["zone"], record["workspace"]) == ("dc-rov-01", "root")
    assert (record["name"], record["replicas"]) == ("blue.red", 1)
    # The node without GPUs is the one for it.
    (run,) = record["attempts"]
    assert (run["node"], run["gpus"]) == ("m2", [])
    (found,) = site.containers()
    assert (found["Image"], found["Command"]) == ("ubuntu", "/bin/bash")
    whole = site.inspect(ref)
    assert whole["Mounts"] == []
    assert not whole["HostConfig"]["PortBindings"]


@pytest.mark.mission("M20")
def test_the_complete_workload_runs(
    cluster: Cluster, dorad: Callable[..., Dorad]
) -> None:
    daemon = dorad()
    for name in ("amedeo.setti", "datasets"):
        text = WORKSPACE.format(name)
        daemon.ask("dora", "apply", "-f", "-", stdin=text)
    text = (EXAMPLES / "concept-complete.yaml").read_text()
    text = text.replace("image: ubuntu", f"image: {cluster.registry_image}")
    text = text.replace("cmd: /bin/bash", f"cmd: {json.dumps(serving(8008))}")
    daemon.ask("dora", "apply", "-f", "-", stdin=text)

    daemon.wait_for("amedeo.setti/blue.red", running=2)
    seen, names = [], set()
    for node in cluster.nodes:
        client = cluster.docker(node)
        for found in client.containers():
            whole = client.inspect_container(found["Id"])
            host = whole["HostConfig"]
            (asked,) = host["DeviceRequests"]
            has = {gpu.uuid: gpu.model for gpu in cluster.nodes[node].gpus}
            models = {has[uuid] for uuid in asked["DeviceIDs"]}
            ((bound,),) = host["PortBindings"].values()
            port = int(bound["HostPort"])
            seen.append((len(asked["DeviceIDs"]), models <= MODELS, port))
            assert host["ShmSize"] == 1_000_000_000
            mounts = {one["Destination"]: one["Type"] for one in whole["Mounts"]}
            assert mounts == {"/home": "volume", "/imagenet": "volume"}
            names.add(page(cluster.nodes[node].address, port))
    assert sorted(seen) == [(2, True, 25000), (2, True, 25001)]
    assert len(names) == 2


@pytest.mark.mission("M42", "M43")
def test_ports_of_replicas_are_reachable_on_their_nodes(site: Site) -> None:
    port = {"name": "web", "kind": "NodePort", "nodePort": 25000, "port": 8008}
    text = with_network(document("web", replicas=2, cmd=serving(8008)), [port])
    site.daemon.ask("dora", "apply", "-f", "-", stdin=text)
    record = site.daemon.wait_for("web", running=2)

    rows = site.record(str(record["id"]))["containers"]
    answers = {
        page(site.cluster.nodes[row["node"]].address, 24999 + row["replica"])
        for row in rows
    }
    assert len(answers) == 2
    # The same port again has to wait, on whatever node it is.
    (first,) = (row["node"] for row in rows if row["replica"] == 1)
    spec = yaml.safe_load(with_network(document("late", cmd=serving(8008)), [port]))
    spec["spec"]["selectors"]["node"] = {"name": first}
    site.daemon.ask("dora", "apply", "-f", "-", stdin=yaml.safe_dump(spec))
    site.wait_until(
        lambda: "port" in (site.daemon.rows("late")[0]["reason"] or "").lower(),
        "the reason why it waits",
    )
    assert site.daemon.rows("late")[0]["state"] == "queued"


@pytest.mark.mission("M43")
def test_a_udp_port_leads_to_the_container(site: Site) -> None:
    port = {"name": "u", "protocol": "udp", "nodePort": 25010, "port": 8010}
    text = with_network(document("udp", cmd=UDP), [port])
    site.daemon.ask("dora", "apply", "-f", "-", stdin=text)
    record = site.daemon.wait_for("udp", running=1)

    (node,) = record["nodes"]
    time.sleep(0.5)
    assert site.daemon.ask("dlog", "udp") == ""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
        site.wait_until(
            lambda: (
                link.sendto(b"hello", (site.cluster.nodes[node].address, 25010)) > 0
                and "came" in site.daemon.ask("dlog", "udp")
            ),
            "what was sent by UDP",
        )


@pytest.mark.mission("M42")
def test_a_container_without_a_network_has_none(site: Site) -> None:
    spec = yaml.safe_load(document("alone", cmd=serving(8008)))
    spec["spec"]["network"] = {"mode": "none"}
    site.daemon.ask("dora", "apply", "-f", "-", stdin=yaml.safe_dump(spec))
    record = site.daemon.wait_for("alone", running=1)

    found = site.inspect(str(record["id"]))
    assert list(found["NetworkSettings"]["Networks"]) == ["none"]
    assert not found["NetworkSettings"]["Ports"]
    (node,) = record["nodes"]
    assert is_closed(site.cluster.nodes[node].address, 8008)


@pytest.mark.mission("M42")
def test_the_network_of_the_node_needs_a_right(site: Site) -> None:
    spec = yaml.safe_load(document("host", cmd=serving(8020)))
    spec["spec"]["network"] = {"mode": "host"}
    text = yaml.safe_dump(spec)
    with as_nobody():
        status, answer = site.request("POST", "/v1/workloads", {"manifest": text})
    assert status == 400, answer
    assert "'host' is not allowed here" in answer["error"]["message"]
    site.daemon.stop()
    site.restart(DORABATCH_CONTAINERS__HOST_NETWORK="true")
    try:
        site.daemon.ask("dora", "apply", "-f", "-", stdin=text)
        record = site.daemon.wait_for("host", running=1)
        (node,) = record["nodes"]
        assert page(site.cluster.nodes[node].address, 8020)
    finally:
        site.clear()
        site.daemon.stop()


def with_network(text: str, ports: list[dict[str, object]]) -> str:
    """The document with ports on a bridge."""
    made = yaml.safe_load(text)
    made["spec"]["network"] = {"mode": "bridge", "ports": ports}
    return yaml.safe_dump(made)
