"""The driver against real sshd and dockerd that fail in every way we could make."""

import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGSTOP
from typing import Any

import pytest

from dorabatch.errors import (
    HostKeyChanged,
    NodeAuthRefused,
    NodeError,
    NodeUnreachable,
    StartFailed,
)
from dorabatch.node import gpu_probe
from dorabatch.node.container_spec import ContainerRequest, MountRequest, PortRequest
from dorabatch.node.docker_driver import DockerDriver, open_node
from dorabatch.node.docker_link import DriverLimits
from dorabatch.node.facts import ContainerState
from dorabatch.node.identity import RunIdentity
from dorabatch.node.ssh import (
    NodeAddress,
    NodeConnection,
    SshTimeouts,
    scan_host_key,
)
from tests.cluster import Cluster, Gpu

pytestmark = pytest.mark.integration

SHORT = SshTimeouts(
    connect_seconds=6, answer_seconds=4, keepalive_seconds=1, dead_link_seconds=4
)
LIMITS = DriverLimits(answer_seconds=5, probe_seconds=20, retry_connect_seconds=0)
# Long enough that only an endless wait is found guilty.
NEVER_SECONDS = 60.0
SSHD = Path("/usr/sbin/sshd")
numbers = itertools.count(1)


def address_of(cluster: Cluster, name: str = "n1", **changes: Any) -> NodeAddress:
    node = cluster.nodes[name]
    address = NodeAddress(
        name=name,
        host=node.address,
        key_file=str(cluster.client_key),
        fingerprint=node.host_key_fingerprint,
    )
    return replace(address, **changes)


@pytest.fixture
def open_driver(cluster: Cluster) -> Iterator[Callable[..., DockerDriver]]:
    """A factory of drivers; they are closed, and containers removed, at the end."""
    made: list[DockerDriver] = []

    def open_one(name: str = "n1", on_call: Any = None, **changes: Any) -> DockerDriver:
        driver = open_node(
            address_of(cluster, name, **changes),
            timeouts=SHORT,
            limits=LIMITS,
            on_call=on_call,
        )
        made.append(driver)
        return driver

    yield open_one
    for driver in made:
        driver.close()
    for name in cluster.nodes:
        docker = cluster.docker(name)
        for container in docker.containers(all=True):
            docker.remove_container(container["Id"], force=True)


def wish_of(*argv: str, **changes: Any) -> ContainerRequest:
    identity = RunIdentity(
        cluster_id="layer", workload_id=next(numbers), replica=0, attempt=1
    )
    wish = ContainerRequest(
        identity=identity,
        image="busybox",
        argv=argv or ("sleep", "600"),
        uid=1000,
        gid=1000,
        network="none",
    )
    return replace(wish, **changes)


def run(driver: DockerDriver, wish: ContainerRequest) -> str:
    driver.create(wish)
    driver.start(wish.identity.name)
    return wish.identity.name


def output_of(driver: DockerDriver, wish: ContainerRequest) -> str:
    with driver.logs(run(driver, wish), follow=True) as stream:
        return b"".join(stream).decode()


def exit_code_of(driver: DockerDriver, name: str) -> int | None:
    facts = driver.inspect(name)
    return None if facts is None else facts.exit_code


def in_thread(work: Callable[[], Any]) -> Callable[[], Any]:
    """Start work; the returned function gives its result or what it raised."""
    results: list[Any] = []

    def guarded() -> None:
        try:
            results.append(work())
        except NodeError as error:
            results.append(error)

    thread = threading.Thread(target=guarded)
    thread.start()

    def result() -> Any:
        thread.join(NEVER_SECONDS)
        assert not thread.is_alive(), "the call never ends"
        return results[0]

    return result


class TestHostKey:
    """Nobody but the pinned machine is talked to."""

    def test_scan(self, cluster: Cluster) -> None:
        node = cluster.nodes["n1"]
        key = scan_host_key(node.address, 22, 5)
        assert key.fingerprint == node.host_key_fingerprint

    @pytest.mark.parametrize("pinned", ["", "SHA256:" + "A" * 43, "no fingerprint"])
    def test_another_key_is_refused_before_the_login(
        self, cluster: Cluster, pinned: str
    ) -> None:
        # With a key file that does not exist, a login would fail first.
        address = address_of(cluster, fingerprint=pinned, key_file="/nonexistent")
        with pytest.raises(HostKeyChanged) as caught:
            NodeConnection(address, SHORT)
        assert cluster.nodes["n1"].host_key_fingerprint in caught.value.message

    def test_a_key_that_changes_between_calls(
        self, cluster: Cluster, open_driver: Callable[..., DockerDriver]
    ) -> None:
        driver = open_driver("n2")
        driver.ping()
        cluster.rekey("n2")
        with pytest.raises(NodeError):
            until_raised(driver.ping, HostKeyChanged)
        open_driver("n2").ping()


def until_raised(work: Callable[[], Any], wanted: type[NodeError]) -> None:
    """Call until the wanted error comes; others before it may be the cut itself."""
    for _ in range(50):
        try:
            work()
        except wanted:
            raise
        except NodeUnreachable:
            pass
        time.sleep(0.1)


class TestLogin:
    """A key that the node does not take is told as such."""

    def test_refused(self, cluster: Cluster) -> None:
        cluster.refuse_key("n2")
        try:
            with pytest.raises(NodeAuthRefused, match="authorized_keys"):
                NodeConnection(address_of(cluster, "n2"), SHORT)
        finally:
            cluster.accept_key("n2")
        NodeConnection(address_of(cluster, "n2"), SHORT).close()

    def test_unknown_user(self, cluster: Cluster) -> None:
        with pytest.raises(NodeAuthRefused, match="nobody-here"):
            NodeConnection(address_of(cluster, user="nobody-here"), SHORT)

    @pytest.mark.parametrize("text", [None, "", "garbage", "-----BEGIN X-----\n"])
    def test_unusable_key_file(
        self, cluster: Cluster, tmp_path: Path, text: str | None
    ) -> None:
        path = tmp_path / "key"
        if text is not None:
            path.write_text(text)
        with pytest.raises(NodeAuthRefused, match="key"):
            NodeConnection(address_of(cluster, key_file=str(path)), SHORT)

    def test_sessions_ended_by_the_node(
        self, cluster: Cluster, open_driver: Callable[..., DockerDriver]
    ) -> None:
        driver = open_driver()
        driver.ping()
        cluster.end_sessions("n1")
        wait_until(lambda: not driver.is_alive())
        driver.ping()


def wait_until(is_true: Callable[[], bool]) -> None:
    for _ in range(int(NEVER_SECONDS * 20)):
        if is_true():
            return
        time.sleep(0.05)
    raise AssertionError("it never came to be")


class TestCut:
    """A lost link ends every call in time, and a mended one is used again."""

    def test_everything_under_way_ends(
        self, cluster: Cluster, open_driver: Callable[..., DockerDriver]
    ) -> None:
        driver = open_driver("n2")
        name = run(driver, wish_of())
        log = driver.logs(name, follow=True)
        events = driver.events("layer")
        ends = [in_thread(lambda: next(log)), in_thread(lambda: next(events))]
        cluster.cut("n2")
        try:
            ends.append(in_thread(lambda: driver.inspect(name)))
            for end in ends:
                assert isinstance(end(), NodeUnreachable)
            assert not driver.is_alive()
            with pytest.raises(NodeUnreachable, match="no connection"):
                driver.ping()
        finally:
            cluster.heal("n2")
        facts = driver.inspect(name)
        assert facts is not None and facts.state is ContainerState.RUNNING

    def test_a_frozen_link(
        self, cluster: Cluster, open_driver: Callable[..., DockerDriver]
    ) -> None:
        with Relay(cluster.nodes["n1"].address, 22) as relay:
            driver = open_driver(host="127.0.0.1", port=relay.port)
            driver.ping()
            relay.is_frozen.set()
            ends = [in_thread(driver.ping) for _ in range(4)]
            for end in ends:
                assert isinstance(end(), NodeUnreachable)
            assert not driver.is_alive()


class TestSilence:
    """Servers that are no SSH server, or say nothing at all."""

    @pytest.mark.parametrize("greeting", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
    def test_scan_ends(self, greeting: bytes) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            end = in_thread(lambda: scan_host_key("127.0.0.1", port, 1))
            caller, _ = server.accept()
            with caller:
                caller.sendall(greeting)
                assert isinstance(end(), NodeUnreachable)

    def test_nobody_listens(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        with pytest.raises(NodeUnreachable, match="refused"):
            scan_host_key("127.0.0.1", port, 1)


class TestDockerd:
    """A dockerd that hangs or dies is told apart from a lost node."""

    def test_hanging(
        self, cluster: Cluster, open_driver: Callable[..., DockerDriver]
    ) -> None:
        driver = open_driver("n2")
        driver.ping()
        cluster.kill_dockerd("n2", SIGSTOP)
        try:
            with pytest.raises(NodeUnreachable, match="dockerd did not answer"):
                driver.inspect("dora-layer-0-0-0")
            assert driver.is_alive()
        finally:
            cluster.kill_dockerd("n2", SIGCONT)
        driver.ping()

    def test_killed_and_started_again(
        self, cluster: Cluster, open_driver: Callable[..., DockerDriver]
    ) -> None:
        driver = open_driver("n2")
        events = driver.events("layer")
        end = in_thread(lambda: next(events))
        cluster.kill_dockerd("n2", SIGKILL)
        try:
            assert isinstance(end(), NodeUnreachable)
            with pytest.raises(NodeUnreachable):
                driver.ping()
        finally:
            cluster.start_dockerd("n2")
        driver.ping()

    def test_no_socket(self, open_driver: Callable[..., DockerDriver]) -> None:
        driver = open_driver(docker_socket="/run/nothing.sock")
        with pytest.raises(NodeUnreachable, match=r"/run/nothing\.sock"):
            driver.ping()

    def test_an_sshd_that_forbids_channels_to_sockets(
        self, cluster: Cluster, open_driver: Callable[..., DockerDriver]
    ) -> None:
        node = cluster.nodes["n3"]
        node.run_inside(
            *(str(SSHD), "-f", str(node.folder / "sshd_config"), "-p", "2222"),
            *("-o", "PidFile=none", "-o", "AllowStreamLocalForwarding=no"),
        )
        with pytest.raises(NodeUnreachable, match="AllowStreamLocalForwarding yes"):
            open_driver("n3", port=2222).ping()


class TestLaunch:
    """Starting a run is safe to repeat from any point of failure."""

    @pytest.mark.parametrize("failing", [1, 2])
    def test_a_failing_call_is_repeated(
        self, open_driver: Callable[..., DockerDriver], failing: int
    ) -> None:
        def on_call(number: int, operation: str) -> None:
            if number == failing:
                raise NodeUnreachable(f"call {number} ({operation}) fails on cue")

        driver = open_driver(on_call=on_call)
        wish = wish_of("sh", "-c", "echo once")
        with pytest.raises(NodeUnreachable, match="on cue"):
            run(driver, wish)
        assert output_of(driver, wish) == "once\n"

    def test_a_new_daemon_starts_what_the_old_one_made(
        self, open_driver: Callable[..., DockerDriver]
    ) -> None:
        wish = wish_of("sh", "-c", "echo once")
        open_driver().create(wish)
        assert output_of(open_driver(), wish) == "once\n"
        assert output_of(open_driver(), wish) == "once\n"

    def test_docker_says_why(self, open_driver: Callable[..., DockerDriver]) -> None:
        driver = open_driver("n3")
        with pytest.raises(StartFailed, match="could not select device driver"):
            run(driver, wish_of(gpu_uuids=("GPU-0000",)))

    def test_a_program_that_is_not_there(
        self, open_driver: Callable[..., DockerDriver]
    ) -> None:
        driver = open_driver()
        wish = wish_of("no-such-program")
        assert "no-such-program" in output_of(driver, wish)
        name = wish.identity.name
        wait_until(lambda: exit_code_of(driver, name) == 127)

    def test_a_port_that_is_taken(
        self, open_driver: Callable[..., DockerDriver]
    ) -> None:
        driver = open_driver()
        ports = (PortRequest(container_port=80, node_port=25000),)
        run(driver, wish_of(network="bridge", ports=ports))
        with pytest.raises(StartFailed, match="already allocated"):
            run(driver, wish_of(network="bridge", ports=ports))

    def test_a_pulled_image_runs(
        self, cluster: Cluster, open_driver: Callable[..., DockerDriver]
    ) -> None:
        driver = open_driver("n3")
        seen: list[Any] = []
        driver.pull(cluster.registry_image, seen.append)
        assert seen and driver.has_image(cluster.registry_image)
        wish = wish_of("echo", "pulled", image=cluster.registry_image)
        assert output_of(driver, wish) == "pulled\n"

    def test_other_cores(
        self, cluster: Cluster, open_driver: Callable[..., DockerDriver]
    ) -> None:
        driver = open_driver()
        name = run(driver, wish_of(cores=(0, 1)))
        driver.update_cpuset(name, (1,))
        document = cluster.docker("n1").inspect_container(name)
        assert document["HostConfig"]["CpusetCpus"] == "1"


class TestInside:
    """What a job can see and do."""

    def test_a_job_has_no_rights(
        self, cluster: Cluster, open_driver: Callable[..., DockerDriver]
    ) -> None:
        uuid = cluster.nodes["n1"].gpus[0].uuid
        script = "cat /proc/self/status; id -G; env; ls /dev; cat /proc/1/comm"
        wish = wish_of(
            *("sh", "-c", script),
            gpu_uuids=(uuid,),
            groups=(44,),
            env={"LD_PRELOAD": "/evil", "NVIDIA_VISIBLE_DEVICES": "all", "A": "b c"},
        )
        lines = output_of(open_driver(), wish).splitlines()
        for line in (
            "CapEff:\t0000000000000000",
            "CapBnd:\t0000000000000000",
            "NoNewPrivs:\t1",
            "Seccomp:\t2",
            "1000 44",
            "A=b c",
            f"NVIDIA_VISIBLE_DEVICES={uuid}",
            f"DORA_GPUS={uuid}",
            "docker-init",
        ):
            assert line in lines
        assert not [line for line in lines if line.startswith("LD_")]
        assert not {"sda", "vda", "mem", "kmsg"} & set(lines)

    def test_a_volume_of_the_nodes_own_directory(
        self, open_driver: Callable[..., DockerDriver], tmp_path: Path
    ) -> None:
        driver = open_driver()
        path = tmp_path.resolve() / "a" / "b"
        options = {"type": "none", "o": "bind", "device": str(path)}
        mount = MountRequest(
            volume="dora-layer-own",
            target="/data",
            driver_opts=options,
            owner_uid=1000,
            owner_gid=1000,
        )
        driver.ensure_volume(mount)
        output_of(driver, wish_of("sh", "-c", "echo hi >/data/x", mounts=(mount,)))
        assert (path / "x").read_text() == "hi\n"
        assert (path / "x").stat().st_uid == 1000
        read_only = replace(mount, read_only=True)
        wish = wish_of("sh", "-c", "echo no >/data/x", mounts=(read_only,))
        assert "Read-only" in output_of(driver, wish)
        for facts in driver.list_ours("layer"):
            driver.remove(facts.name)
        driver.remove_volume("dora-layer-own")
        assert (path / "x").exists()

    def test_a_link_in_place_of_the_directory(
        self, open_driver: Callable[..., DockerDriver], tmp_path: Path
    ) -> None:
        link = tmp_path.resolve() / "link"
        link.symlink_to("/etc")
        options = {"type": "none", "o": "bind", "device": str(link)}
        mount = MountRequest(volume="dora-layer-link", target="/x", driver_opts=options)
        with pytest.raises(NodeError, match="symbolic link"):
            open_driver().ensure_volume(mount)

    def test_a_foreign_volume_is_left_alone(
        self, cluster: Cluster, open_driver: Callable[..., DockerDriver]
    ) -> None:
        cluster.docker("n1").create_volume("theirs")
        options = {"type": "nfs", "o": "addr=127.0.0.1", "device": ":/x"}
        mount = MountRequest(volume="theirs", target="/x", driver_opts=options)
        try:
            with pytest.raises(NodeError, match="not made by dorabatch"):
                open_driver().ensure_volume(mount)
        finally:
            cluster.docker("n1").remove_volume("theirs")


class TestProbe:
    """What is seen of a machine and of GPUs in trouble."""

    def test_gpus(
        self, cluster: Cluster, open_driver: Callable[..., DockerDriver]
    ) -> None:
        facts = open_driver().probe()
        expected = [gpu.uuid for gpu in cluster.nodes["n1"].gpus]
        assert [gpu.uuid for gpu in facts.gpus] == expected
        assert facts.probe == "pynvml" and facts.gpu_error is None
        assert facts.docker_version and facts.driver_version
        assert abs(facts.clock_offset_seconds) < 1
        assert facts.hostname == "n1" and facts.disk_free_mib

    def test_no_gpus(self, open_driver: Callable[..., DockerDriver]) -> None:
        facts = open_driver("n3").probe()
        assert (facts.probe, facts.gpus, facts.gpu_error) == ("none", (), None)

    def test_a_lost_gpu_and_a_foreign_process(
        self, cluster: Cluster, open_driver: Callable[..., DockerDriver]
    ) -> None:
        gpus = cluster.nodes["n1"].gpus
        lost: list[Gpu] = [replace(gpus[0], error=15), replace(gpus[1], pids=(123,))]
        try:
            cluster.write_gpus("n1", lost)
            facts = open_driver().probe()
        finally:
            cluster.write_gpus("n1", list(gpus))
        assert "GPU 0" in (facts.gpu_error or "")
        assert [gpu.process_pids for gpu in facts.gpus] == [(123,)]

    def test_a_driver_that_does_not_start(
        self, cluster: Cluster, open_driver: Callable[..., DockerDriver]
    ) -> None:
        gpus = list(cluster.nodes["n1"].gpus)
        try:
            cluster.write_gpus("n1", gpus, init_error=9)
            facts = open_driver().probe()
        finally:
            cluster.write_gpus("n1", gpus)
        assert "does not start" in (facts.gpu_error or "") and facts.gpus == ()

    def test_a_node_without_python(
        self,
        open_driver: Callable[..., DockerDriver],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(gpu_probe, "PYTHON_COMMAND", "sh -c 'exit 127'")
        facts = open_driver("n3").probe()
        assert facts.probe == "none" and facts.hostname == "n3"
        assert facts.cores and facts.memory_mib > 0


class Relay:
    """A TCP relay that can stop passing anything on while it stays open."""

    def __init__(self, host: str, port: int) -> None:
        self.is_frozen = threading.Event()
        self._target = (host, port)
        self._server = socket.create_server(("127.0.0.1", 0))
        self._links: list[socket.socket] = []
        self.port: int = self._server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> "Relay":
        return self

    def __exit__(self, *details: object) -> None:
        self._server.close()
        for link in self._links:
            link.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._server.accept()
            except OSError:
                return
            far = socket.create_connection(self._target)
            self._links += [near, far]
            for source, sink in ((near, far), (far, near)):
                threading.Thread(
                    target=self._pass, args=(source, sink), daemon=True
                ).start()

    def _pass(self, source: socket.socket, sink: socket.socket) -> None:
        while True:
            try:
                data = source.recv(65536)
                if self.is_frozen.is_set():
                    continue
                sink.sendall(data)
            except OSError:
                return
            if not data:
                return
