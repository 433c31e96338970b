"""The test cluster itself: what it promises of its nodes, and that it leaves no trace.

Everything here is real: sshd, dockerd, namespaces. Never tests dorabatch.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from docker import APIClient
from docker.errors import APIError

from tests.cluster import Cluster, ClusterError, Gpu, NodeSpec, images, machine

pytestmark = pytest.mark.integration

V100 = "Tesla V100-SXM2-16GB"
RTX = "Quadro RTX 6000"
ROOT = Path(__file__).resolve().parents[2]
_OURS = ("dockerd", "containerd", "docker-", "unshare", "sshd", "runc")
_PROBE = """
import json, pynvml as nvml
nvml.nvmlInit()
found = []
for index in range(nvml.nvmlDeviceGetCount()):
    try:
        one = nvml.nvmlDeviceGetHandleByIndex(index)
    except nvml.NVMLError as error:
        found.append([error.value])
        continue
    found.append([
        nvml.nvmlDeviceGetName(one), nvml.nvmlDeviceGetUUID(one),
        nvml.nvmlDeviceGetMinorNumber(one),
        nvml.nvmlDeviceGetMemoryInfo(one).total >> 20,
        nvml.nvmlDeviceGetMemoryInfo(one, nvml.nvmlMemory_v2).used >> 20,
        nvml.nvmlDeviceGetUtilizationRates(one).gpu,
        [process.pid for process in nvml.nvmlDeviceGetComputeRunningProcesses(one)],
    ])
    assert nvml.nvmlDeviceGetTemperature(one, nvml.NVML_TEMPERATURE_GPU) > 0
    assert nvml.nvmlDeviceGetPowerUsage(one) > 0
assert nvml.nvmlSystemGetDriverVersion()
nvml.nvmlShutdown()
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster([f"n1={V100}:2,{RTX}:1", "n2="]) as made:
        yield made


def ssh(
    cluster: Cluster, name: str, *words: str, script: str = ""
) -> subprocess.CompletedProcess[str]:
    command = cluster.ssh_command(name, *words)
    # Last wins for none of ssh's options, so this one must come first.
    command[1:1] = ["-o", "ConnectTimeout=2"]
    return subprocess.run(
        command, input=script, capture_output=True, text=True, check=False
    )


def probe(cluster: Cluster, name: str) -> list[list[object]]:
    done = ssh(cluster, name, sys.executable, "-", script=_PROBE)
    assert done.returncode == 0, done.stderr
    found: list[list[object]] = json.loads(done.stdout)
    return found


def run_container(client: APIClient, image: str, script: str, **host: object) -> str:
    """Run a shell script in a container and return what it printed."""
    made = client.create_container(
        image, ["/bin/sh", "-c", script], host_config=client.create_host_config(**host)
    )
    client.start(made["Id"])
    assert client.wait(made["Id"])["StatusCode"] == 0
    text: bytes = client.logs(made["Id"])
    client.remove_container(made["Id"])
    return text.decode()


# --- what a node offers ------------------------------------------------------------


def test_a_session_is_on_its_own_node(cluster: Cluster) -> None:
    answers = {name: ssh(cluster, name, "hostname").stdout for name in cluster.nodes}
    assert answers == {"n1": "n1\n", "n2": "n2\n"}
    boots = {
        ssh(cluster, name, "cat /proc/sys/kernel/random/boot_id").stdout
        for name in cluster.nodes
    }
    assert len(boots) == 2


def test_an_account_is_added_on_the_machine_while_a_node_is_up(
    cluster: Cluster,
) -> None:
    # What useradd does: a new file is renamed over the old one.
    accounts = Path("/etc/passwd")
    new = Path("/etc/passwd.dorabatch-test")
    shutil.copy2(accounts, new)
    os.replace(new, accounts)
    for name in cluster.nodes:
        done = ssh(cluster, name, "id -un && echo $HOME")
        home = cluster.nodes[name].folder / "home"
        assert done.stdout == f"root\n{home}\n", done.stderr


def test_a_session_finds_docker_at_the_standard_socket(cluster: Cluster) -> None:
    script = (
        "test -S /var/run/docker.sock && unset DOCKER_HOST && docker info -f {{.Name}}"
    )
    assert ssh(cluster, "n2", script).stdout == "n2\n"


def test_ssh_forwards_to_the_docker_socket(cluster: Cluster, tmp_path: Path) -> None:
    local = tmp_path / "docker.sock"
    command = cluster.ssh_command("n1", "echo ready; cat")
    command[1:1] = ["-o", "ExitOnForwardFailure=yes", "-L", f"{local}:/run/docker.sock"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as tunnel:
        assert tunnel.stdout is not None
        assert tunnel.stdout.readline() == "ready\n"
        client = APIClient(base_url=f"unix://{local}", version="auto", timeout=20)
        assert client.info()["Name"] == "n1"
        client.close()
        tunnel.terminate()


def test_nvml_tells_the_models(cluster: Cluster) -> None:
    gpus = cluster.nodes["n1"].gpus
    assert [gpu.model for gpu in gpus] == [V100, V100, RTX]
    assert len({gpu.uuid for gpu in gpus}) == 3
    assert probe(cluster, "n1") == [
        [gpu.model, gpu.uuid, index, gpu.memory_mib, 0, 0, []]
        for index, gpu in enumerate(gpus)
    ]
    assert [gpu.memory_mib for gpu in gpus] == [16384, 16384, 24576]


def test_nvml_tells_what_changed(cluster: Cluster) -> None:
    first, second, third = cluster.nodes["n1"].gpus
    busy = Gpu(
        uuid=first.uuid,
        model=first.model,
        memory_mib=first.memory_mib,
        used_mib=300,
        utilization_percent=70,
        pids=(41, 42),
    )
    lost = Gpu(uuid=second.uuid, model=second.model, memory_mib=16384, error=15)
    cluster.write_gpus("n1", [busy, lost, third])
    try:
        told = probe(cluster, "n1")
        cluster.write_gpus("n1", [first], init_error=9)
        broken = ssh(cluster, "n1", sys.executable, "-", script=_PROBE)
    finally:
        cluster.write_gpus("n1", cluster.nodes["n1"].gpus)
    assert told[0][4:] == [300, 70, [41, 42]]
    assert told[1] == [15]
    assert told[2][0] == RTX
    assert "NVMLError_DriverNotLoaded" in broken.stderr


def test_a_node_without_gpus_has_no_nvml(cluster: Cluster) -> None:
    done = ssh(cluster, "n2", sys.executable, "-", script=_PROBE)
    assert "NVMLError_LibraryNotFound" in done.stderr


def test_a_container_gets_the_gpus_it_asked_for(cluster: Cluster) -> None:
    wanted = [cluster.nodes["n1"].gpus[index].uuid for index in (0, 2)]
    request = {"Driver": "", "DeviceIDs": wanted, "Capabilities": [["gpu"]]}
    told = run_container(
        cluster.docker("n1"),
        "ubuntu",
        "echo $NVIDIA_VISIBLE_DEVICES",
        device_requests=[request],
    )
    assert told.strip().split(",") == wanted
    with pytest.raises(APIError, match="could not select device driver"):
        run_container(cluster.docker("n2"), "ubuntu", "true", device_requests=[request])


def test_limits_of_a_container_hold(cluster: Cluster) -> None:
    told = run_container(
        cluster.docker("n2"),
        "busybox",
        "df -m /dev/shm | tail -n 1; grep Cpus_allowed_list /proc/self/status",
        shm_size="96m",
        mem_limit="64m",
        cpuset_cpus="0",
    )
    assert told.split()[1] == "96"
    assert told.split()[-1] == "0"


def test_the_ubuntu_image_has_bash(cluster: Cluster) -> None:
    client = cluster.docker("n1")
    made = client.create_container("ubuntu", ["/bin/bash", "-c", "exit 7"])
    client.start(made["Id"])
    assert client.wait(made["Id"])["StatusCode"] == 7
    client.remove_container(made["Id"])


def test_a_published_port_is_reachable(cluster: Cluster) -> None:
    client = cluster.docker("n2")
    made = client.create_container(
        "busybox",
        ["httpd", "-f", "-p", "80", "-h", "/etc"],
        ports=[80],
        host_config=client.create_host_config(port_bindings={80: 8080}),
    )
    client.start(made["Id"])
    url = f"http://{cluster.nodes['n2'].address}:8080/group"
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(url, timeout=20) as answer:
        assert b"root" in answer.read()
    client.remove_container(made["Id"], force=True)


def test_images_come_from_the_registry_only(cluster: Cluster) -> None:
    client = cluster.docker("n2")
    with pytest.raises(APIError, match="No such image"):
        client.inspect_image(cluster.registry_image)
    client.pull(cluster.registry_image)
    assert run_container(client, cluster.registry_image, "cat /etc/image") == (
        "busybox:1\n"
    )
    with pytest.raises(APIError, match="connection refused"):
        client.pull("nosuch/image:1")


# --- what can go wrong on a node ---------------------------------------------------


def test_a_cut_node_is_silent_until_healed(cluster: Cluster) -> None:
    cluster.cut("n2")
    cut = ssh(cluster, "n2", "true")
    others = ssh(cluster, "n1", "true")
    state = cluster.nodes["n2"].status()
    cluster.heal("n2")
    assert cut.returncode == 255
    assert others.returncode == 0
    assert (state.cable, state.dockerd, state.is_on) == ("cut", "on", True)
    assert ssh(cluster, "n2", "true").returncode == 0


def test_a_rekeyed_node_is_not_the_one_it_was(cluster: Cluster) -> None:
    node = cluster.nodes["n2"]
    before = node.host_key_fingerprint
    known = (cluster.directory / "known_hosts").read_text()
    cluster.rekey("n2")
    (cluster.directory / "known_hosts").write_text(known)
    refused = ssh(cluster, "n2", "true")
    cluster.rekey("n2")
    assert "Host key verification failed" in refused.stderr
    assert node.host_key_fingerprint not in ("", before)
    assert ssh(cluster, "n2", "true").returncode == 0


def test_a_refused_key_is_refused_until_accepted(cluster: Cluster) -> None:
    cluster.refuse_key("n2")
    refused = ssh(cluster, "n2", "true")
    cluster.accept_key("n2")
    assert "Permission denied" in refused.stderr
    assert ssh(cluster, "n2", "true").returncode == 0


def test_sessions_can_be_ended(cluster: Cluster) -> None:
    with subprocess.Popen(
        cluster.ssh_command("n2", "echo ready; cat"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as session:
        assert session.stdout is not None
        assert session.stdout.readline() == "ready\n"
        cluster.end_sessions("n2")
        assert session.wait(20) == 255
    assert ssh(cluster, "n2", "true").returncode == 0


def test_a_killed_dockerd_comes_back_with_its_containers(cluster: Cluster) -> None:
    client = cluster.docker("n1")
    made = client.create_container("busybox", ["true"], name="kept")
    pid = cluster.nodes["n1"].dockerd_pid
    cluster.kill_dockerd("n1")
    assert cluster.nodes["n1"].status().dockerd == "off"
    with pytest.raises(ClusterError, match="does not run"):
        cluster.kill_dockerd("n1")
    cluster.start_dockerd("n1")
    assert cluster.nodes["n1"].dockerd_pid not in (0, pid)
    assert client.inspect_container("kept")["Id"] == made["Id"]
    client.remove_container("kept")


def test_a_stopped_dockerd_hangs_and_goes_on(cluster: Cluster) -> None:
    cluster.kill_dockerd("n2", signal.SIGSTOP)
    stopped = cluster.nodes["n2"].status().dockerd
    cluster.kill_dockerd("n2", signal.SIGCONT)
    assert stopped == "stopped"
    assert cluster.docker("n2").ping()


def test_a_reboot_ends_containers_and_keeps_their_data(cluster: Cluster) -> None:
    client = cluster.docker("n2")
    made = client.create_container("busybox", ["sleep", "1000"])
    client.start(made["Id"])
    boot = cluster.nodes["n2"].run_inside("cat", "/proc/sys/kernel/random/boot_id")
    cluster.reboot("n2")
    after = cluster.nodes["n2"].run_inside("cat", "/proc/sys/kernel/random/boot_id")
    assert boot != after
    assert client.inspect_container(made["Id"])["State"]["Status"] == "exited"
    client.remove_container(made["Id"])


def test_live_restore_keeps_containers_running() -> None:
    with Cluster([NodeSpec(name="n1", live_restore=True)]) as cluster:
        client = cluster.docker("n1")
        made = client.create_container("busybox", ["sleep", "1000"])
        client.start(made["Id"])
        cluster.kill_dockerd("n1")
        cluster.start_dockerd("n1")
        assert client.inspect_container(made["Id"])["State"]["Status"] == "running"


# --- that nothing is left ----------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """What a cluster could leave on the machine, other clusters' parts left out."""

    processes: frozenset[tuple[int, str]]
    namespaces: frozenset[str]
    mounts: frozenset[str]
    links: frozenset[str]
    rules: str
    cgroups: frozenset[str]
    directories: frozenset[str]


def trace(directory: Path | None) -> Trace:
    """Look at the machine; `directory` is the cluster whose parts are of interest."""
    others = set(machine.instances()) - {str(directory)}
    foreign = {pid for other in others for pid in machine.owned_processes(Path(other))}
    numbers = {str(machine.instances()[other]) for other in others}
    living = [pid for pid in machine.process_ids() if machine.state_of(pid) not in "Z"]
    # A container's processes carry no mark; their namespaces lead to their node.
    nodes = {machine.namespace_of(pid, "mnt") for pid in foreign}
    nodes.discard(machine.namespace_of(os.getpid(), "mnt"))
    mine = [pid for pid in living if machine.namespace_of(pid, "mnt") not in nodes]
    cgroups = Path("/sys/fs/cgroup").rglob("dorabatch-cluster-*")
    return Trace(
        processes=frozenset(
            (pid, machine.command_of(pid))
            for pid in mine
            if machine.command_of(pid).startswith(_OURS) and pid not in foreign
        ),
        namespaces=frozenset(
            found for pid in mine if (found := machine.namespace_of(pid, "net"))
        ),
        mounts=frozenset(Path("/proc/self/mountinfo").read_text().splitlines()),
        links=frozenset(
            link
            for link in os.listdir("/sys/class/net")
            if link.removeprefix("dbr") not in numbers
            and link.removeprefix("dve").partition("-")[0] not in numbers
        ),
        rules="".join(
            line
            for tool in ("iptables-save", "ip6tables-save")
            for line in machine.run(tool).splitlines(keepends=True)
            if line.startswith(("-A", ":"))
        ),
        cgroups=frozenset(
            path.name for path in cgroups if path.name.split("-")[2] not in numbers
        ),
        directories=frozenset(
            str(path)
            for path in Path("/tmp").glob("dorabatch-cluster-*")
            if str(path) not in others
        ),
    )


def test_down_leaves_nothing() -> None:
    before = trace(None)
    cluster = Cluster([f"n1={V100}:1", "n2="]).up()
    place = cluster.directory
    client = cluster.docker("n1")
    made = client.create_container(
        "busybox",
        ["sleep", "1000"],
        ports=[80],
        host_config=client.create_host_config(port_bindings={80: 8080}),
    )
    client.start(made["Id"])
    while_up = trace(place)
    cluster.cut("n2")
    cluster.kill_dockerd("n1")
    cluster.down()
    after = trace(None)
    assert while_up != before
    assert {"dockerd", "containerd", "docker-registry"} <= {
        name for _, name in while_up.processes - before.processes
    }
    assert after.processes <= before.processes
    assert after.namespaces <= before.namespaces
    assert after.mounts == before.mounts
    assert after.links == before.links
    assert after.rules == before.rules
    assert after.cgroups == before.cgroups
    assert not place.exists()
    assert machine.owned_processes(place) == []


def test_the_trace_sees_what_is_left() -> None:
    """The check above must be able to fail."""
    before = trace(None)
    machine.run("ip", "link", "add", "dbr999", "type", "bridge")
    try:
        assert trace(None).links - before.links == {"dbr999"}
    finally:
        machine.delete_link("dbr999")


def test_a_failed_up_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> str:
        raise ClusterError("the registry is broken")

    monkeypatch.setattr(images, "push_image", fail)
    before = trace(None)
    cluster = Cluster(["n1=", "n2="])
    with pytest.raises(ClusterError, match="registry is broken"):
        cluster.up()
    after = trace(None)
    assert after.processes <= before.processes
    assert (after.links, after.mounts) == (before.links, before.mounts)
    assert (after.cgroups, after.directories) == (before.cgroups, before.directories)


def test_a_foreign_directory_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "precious").touch()
    with pytest.raises(ClusterError, match="no cluster"):
        Cluster(["n1="], directory=tmp_path).up()
    assert (tmp_path / "precious").exists()


def test_a_number_in_use_is_refused(cluster: Cluster) -> None:
    with pytest.raises(ClusterError, match="in use by"):
        Cluster(["n1="], instance=cluster.instance.number).up()
    with pytest.raises(ClusterError, match="not allowed"):
        Cluster(["n1="], instance=256).up()
    assert ssh(cluster, "n1", "true").returncode == 0


# --- the command -------------------------------------------------------------------


def command(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.cluster", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_makes_shows_and_removes(tmp_path: Path) -> None:
    place = ["--dir", str(tmp_path / "c")]
    made = command("up", *place, "--json", "--nodes", f"n1={V100}:1,{RTX}:2")
    try:
        told = json.loads(made.stdout)
        assert [gpu["model"] for gpu in told["nodes"][0]["gpus"]] == [V100, RTX, RTX]
        again = command("up", *place, "--json", "--nodes", "n1=", "n2=")
        assert [node["name"] for node in json.loads(again.stdout)["nodes"]] == [
            "n1",
            "n2",
        ]
        assert command("ssh", *place, "n2", "--", "hostname").stdout == "n2\n"
        assert command("kill-dockerd", *place, "n2").returncode == 0
        assert "dockerd off" in command("status", *place).stdout
        assert command("start-dockerd", *place, "n2").returncode == 0
        unknown = command("cut", *place, "n9")
        assert (unknown.returncode, unknown.stderr) == (
            1,
            "cluster: node 'n9' is unknown (known: n1, n2)\n",
        )
    finally:
        down = command("down", *place)
    assert down.returncode == 0, down.stderr
    assert not (tmp_path / "c").exists()
    assert "there is no cluster" in command("down", *place).stderr
