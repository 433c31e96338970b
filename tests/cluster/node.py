"""One node of the test cluster: its namespaces, its sshd, its dockerd, its faults.

A node is a process tree in its own pid, mount, network, uts and ipc namespaces; when
its first process is killed, the kernel takes everything else of it along.
Never changes anything outside its own directory, its cable and its namespaces.
"""

import base64
import contextlib
import hashlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from docker import APIClient
from docker.errors import DockerException

from tests.cluster import machine
from tests.cluster.spec import (
    ClusterError,
    Gpu,
    Instance,
    NodeSpec,
    docker_socket_path,
)

_HERE = Path(__file__).resolve().parent
_BEGIN_SECONDS = 3.0
_START_SECONDS = 60.0
_EXEC_SECONDS = 2.0
_SSHD_CONFIG = """\
HostKey {folder}/host_key
PidFile /run/sshd.pid
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
UseDNS no
PrintMotd no
AllowStreamLocalForwarding yes
MaxStartups 100:30:200
Subsystem sftp internal-sftp
SetEnv {variables}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeStatus:
    """How a node is doing, as seen from outside."""

    name: str
    address: str
    is_on: bool
    cable: str
    sshd: str
    dockerd: str
    accepts_key: bool


class Node:
    """One node; made by Cluster, which owns the directory and the bridge."""

    def __init__(
        self, *, directory: Path, instance: Instance, index: int, spec: NodeSpec
    ) -> None:
        self.spec = spec
        self.name = spec.name
        self.address = instance.address(index)
        self.port = 22
        self.folder = directory / spec.name
        self.docker_socket = docker_socket_path(directory, spec.name)
        self.gpus_file = self.folder / "gpus"
        self.authorized_keys = self.folder / "home" / ".ssh" / "authorized_keys"
        self._directory = directory
        self._instance = instance
        self._link = instance.link(index)

    # --- what others need to know --------------------------------------------------

    @property
    def gpus(self) -> tuple[Gpu, ...]:
        """The GPUs that the node was made with."""
        return self.spec.gpu_list()

    @property
    def host_key_fingerprint(self) -> str:
        """The fingerprint of the present host key, as ssh-keygen prints it."""
        blob = base64.b64decode(self.host_key_line.split()[1])
        digest = base64.b64encode(hashlib.sha256(blob).digest()).decode()
        return f"SHA256:{digest.rstrip('=')}"

    @property
    def host_key_line(self) -> str:
        """The present public host key: its type and its base64."""
        words = (self.folder / "host_key.pub").read_text().split()
        return f"{words[0]} {words[1]}"

    @property
    def init_pid(self) -> int:
        """The node's first process as the machine numbers it; 0 when it is off."""
        try:
            pid = int((self.folder / "init_pid").read_text())
        except FileNotFoundError:
            return 0
        return pid if machine.namespace_of(pid) else 0

    @property
    def dockerd_pid(self) -> int:
        """The node's dockerd as the machine numbers it; 0 when it does not run."""
        found = machine.processes_in(self.init_pid, "dockerd")
        return found[0] if found else 0

    def status(self) -> NodeStatus:
        """How the node is doing."""
        pid = self.init_pid
        dockerd = self.dockerd_pid
        states = {"": "off", "T": "stopped", "t": "stopped"}
        is_listening = bool(machine.processes_in(pid, "sshd"))
        flags = Path(f"/sys/class/net/{self._link}/flags")
        is_up = flags.exists() and int(flags.read_text(), 16) & 1
        return NodeStatus(
            name=self.name,
            address=self.address,
            is_on=pid != 0,
            cable="up" if is_up else "cut",
            sshd="on" if is_listening else "off",
            dockerd=states.get(machine.state_of(dockerd) if dockerd else "", "on"),
            accepts_key=bool(self.authorized_keys.read_text()),
        )

    # --- making it -----------------------------------------------------------------

    def create_files(self, *, client_key: str, storage: str) -> None:
        """Write all that the node keeps over a reboot."""
        for name in ("run", "docker", "log"):
            (self.folder / name).mkdir(parents=True)
        self._write_etc()
        self.accept_key(client_key)
        self.write_gpus(self.gpus)
        self._make_host_key()
        (self.folder / "sshd_config").write_text(
            _SSHD_CONFIG.format(folder=self.folder, variables=self._session_variables())
        )
        settings = {
            "data-root": "/var/lib/docker",
            "storage-driver": storage,
            "exec-opts": ["native.cgroupdriver=cgroupfs"],
            "cgroup-parent": f"/{self._instance.cgroup(self.name)}",
            "insecure-registries": [self._instance.registry],
            "registry-mirrors": [f"http://{self._instance.registry}"],
            "live-restore": self.spec.live_restore,
        }
        (self.folder / "daemon.json").write_text(json.dumps(settings, indent=1))

    def _write_etc(self) -> None:
        """Give the node an /etc of its own, without the machine's secrets."""
        etc = self.folder / "etc"
        secrets = shutil.ignore_patterns("*shadow*", "ssh_host_*", "resolv.conf")
        shutil.copytree("/etc", etc, symlinks=True, ignore=secrets)
        # Nobody answers there, so that a look-up fails at once and not after a timeout.
        (etc / "resolv.conf").write_text(
            "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n"
        )
        self._write_accounts(etc)

    def _write_accounts(self, etc: Path) -> None:
        """Let root have a home of its own: the machine's .bashrc is not the node's."""
        home = self.authorized_keys.parent.parent
        self.authorized_keys.parent.mkdir(parents=True, mode=0o700)
        home.chmod(0o700)
        lines = Path("/etc/passwd").read_text().splitlines()
        others = [line for line in lines if not line.startswith("root:")]
        root = f"root:x:0:0:root:{home}:/bin/bash"
        (etc / "passwd").write_text("\n".join([root, *others, ""]))
        # A locked root account, as some machines have, would be refused by sshd.
        (etc / "shadow").touch(mode=0o600)
        (etc / "shadow").write_text("root:*:19000:0:99999:7:::\n")

    def _session_variables(self) -> str:
        """What an ssh session gets; a node without GPUs has no NVML either."""
        values = {"PATH": machine.SYSTEM_PATH}
        if self.spec.gpus:
            values["LD_LIBRARY_PATH"] = str(self._directory / "lib")
            values["DORABATCH_NVML_FILE"] = str(self.gpus_file)
        return " ".join(f'"{name}={value}"' for name, value in values.items())

    def _make_host_key(self) -> None:
        key = self.folder / "host_key"
        key.unlink(missing_ok=True)
        comment = f"root@{self.name}"
        machine.run(
            *("ssh-keygen", "-q", "-t", "ed25519", "-N", ""),
            *("-C", comment, "-f", str(key)),
        )

    def power_on(self) -> None:
        """Boot: new boot id, empty /run, then the cable, sshd and dockerd."""
        if self.init_pid:
            return
        (self.folder / "boot_id").write_text(f"{uuid.uuid4()}\n")
        (self.folder / "init_pid").unlink(missing_ok=True)
        run_folder = self.folder / "run"
        if any(run_folder.iterdir()):
            machine.remove_tree(run_folder)
            run_folder.mkdir()
        (run_folder / "sshd").mkdir(mode=0o755)
        log = self.folder / "init.log"
        machine.launch(
            log,
            machine.environment(self._directory),
            *("unshare", "--mount", "--uts", "--ipc", "--net", "--pid", "--fork"),
            *("--kill-child", str(_HERE / "node_init.sh"), str(self.folder), self.name),
        )
        # A child that has not begun our script yet does not count as ended.
        begins_until = time.monotonic() + _BEGIN_SECONDS
        machine.wait_until(
            lambda: (
                self.init_pid != 0
                or (time.monotonic() > begins_until and not self._is_booting())
            ),
            _START_SECONDS,
            lambda: f"node {self.name} does not come up; see {log}",
        )
        if not self.init_pid:
            raise ClusterError(
                f"node {self.name} does not boot: {machine.last_line(log)}"
            )
        self._plug_in()
        self.start_sshd()
        self.start_dockerd()

    def _is_booting(self) -> bool:
        return machine.is_running(self._directory, str(self.folder))

    @property
    def _card(self) -> str:
        """The address of its network card: another boot has no other card.

        Else who knows the old one would reach the node again after a while only.
        """
        parts = (int(part) for part in self.address.split("."))
        return "02:00:" + ":".join(f"{part:02x}" for part in parts)

    def _plug_in(self) -> None:
        pid = str(self.init_pid)
        machine.delete_link(self._link)
        machine.run(
            *("ip", "link", "add", self._link, "type", "veth"),
            *("peer", "name", "eth0", "address", self._card, "netns", pid),
        )
        machine.run("ip", "link", "set", self._link, "master", self._instance.bridge)
        machine.run("ip", "link", "set", self._link, "up")
        script = (
            "ip link set lo up && ip link set eth0 up && "
            f"ip address add {self.address}/24 dev eth0"
        )
        machine.run("nsenter", "--net", f"--target={pid}", "sh", "-c", script)

    def power_off(self) -> None:
        """End everything on the node at once, as a power cut does."""
        pid = self.init_pid
        if pid:
            machine.send([pid], signal.SIGKILL)
            machine.wait_until(
                lambda: machine.state_of(pid) in ("", "Z"),
                _START_SECONDS,
                lambda: f"node {self.name} does not go off; see process {pid}",
            )
        (self.folder / "init_pid").unlink(missing_ok=True)
        machine.delete_link(self._link)

    # --- its services --------------------------------------------------------------

    def start_sshd(self) -> None:
        """Start sshd, unless it runs, and wait until it takes connections."""
        if machine.processes_in(self._demand_init(), "sshd"):
            return
        pid_file = self.folder / "run" / "sshd.pid"
        pid_file.unlink(missing_ok=True)
        config = str(self.folder / "sshd_config")
        words = (machine.find_tool("sshd"), "-D", "-e", "-f", config)
        self._start_service("sshd", words, pid_file.exists)

    def start_dockerd(self) -> None:
        """Start dockerd, unless it runs, and wait until it answers."""
        if self.dockerd_pid:
            return
        words = ("dockerd", "--config-file", str(self.folder / "daemon.json"))
        tools = self._directory / "bin"
        path = f"{tools}:{machine.SYSTEM_PATH}" if self.spec.gpus else ""
        self._start_service("dockerd", words, self._is_docker_answering, path)

    def _start_service(
        self,
        name: str,
        words: tuple[str, ...],
        is_ready: Callable[[], bool],
        path: str = "",
    ) -> None:
        log = self.folder / "log" / f"{name}.log"
        self._launch_inside(log, words, path or machine.SYSTEM_PATH)

        def is_there() -> bool:
            return bool(machine.processes_in(self.init_pid, name))

        # Until then it is still setsid by name, and would be taken for ended.
        with contextlib.suppress(ClusterError):
            machine.wait_until(is_there, _EXEC_SECONDS, str)
        machine.wait_until(
            lambda: is_ready() or not is_there(),
            _START_SECONDS,
            lambda: f"{name} of {self.name} does not answer; see {log}",
        )
        if not is_ready():
            raise ClusterError(
                f"{name} of {self.name} ended, saying: {machine.last_line(log)}"
            )

    def _is_docker_answering(self) -> bool:
        connection = _SocketConnection(self.docker_socket)
        try:
            connection.request("GET", "/_ping")
            return connection.getresponse().status == http.client.OK
        except OSError:
            return False
        finally:
            connection.close()

    def _launch_inside(self, log: Path, words: tuple[str, ...], path: str) -> None:
        """Start a service as a child of the node's first process."""
        pid = self._demand_init()
        # containerd leaves its stacks in the temporary directory when it is stuck.
        temporary = str(self.folder / "log")
        env = machine.environment(self._directory, PATH=path, TMPDIR=temporary)
        with log.open("ab") as out:
            subprocess.run(
                [*self._enter(pid), "setsid", "--fork", *words],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                cwd="/",
                env=env,
                check=True,
            )

    def run_inside(self, *words: str) -> str:
        """Run a command on the node, not through sshd; return what it printed."""
        return machine.run(*self._enter(self._demand_init()), *words)

    def _demand_init(self) -> int:
        pid = self.init_pid
        if not pid:
            raise ClusterError(f"node {self.name} is off; power it on first")
        return pid

    @staticmethod
    def _enter(pid: int) -> tuple[str, ...]:
        kinds = ("--mount", "--uts", "--ipc", "--net", "--pid", "--wd=/")
        return ("nsenter", f"--target={pid}", *kinds, "--")

    # --- its faults ----------------------------------------------------------------

    def cut(self) -> None:
        """Unplug the cable: packets are lost, nobody gets an error."""
        machine.run("ip", "link", "set", self._link, "down")

    def heal(self) -> None:
        """Plug the cable in again."""
        machine.run("ip", "link", "set", self._link, "up")

    def kill_dockerd(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Signal dockerd and wait until it has gone, stopped or gone on."""
        pid = self.dockerd_pid
        if not pid:
            raise ClusterError(f"dockerd of {self.name} does not run")
        machine.send([pid], number)
        is_done = {
            signal.SIGSTOP: lambda: machine.state_of(pid) == "T",
            signal.SIGCONT: lambda: machine.state_of(pid) != "T",
        }.get(number, lambda: self.dockerd_pid != pid)
        machine.wait_until(
            is_done,
            _START_SECONDS,
            lambda: f"dockerd of {self.name}, process {pid}, ignores {number.name}",
        )

    def rekey(self) -> None:
        """Give the node a new host key; open sessions end, sshd starts again."""
        self.stop_sshd()
        self._make_host_key()
        self.start_sshd()

    def stop_sshd(self) -> None:
        """End sshd and every session."""
        pid = self._demand_init()
        machine.send(machine.processes_in(pid, "sshd"), signal.SIGKILL)
        machine.wait_until(
            lambda: not machine.processes_in(pid, "sshd"),
            _START_SECONDS,
            lambda: f"sshd of {self.name} does not end",
        )
        (self.folder / "run" / "sshd.pid").unlink(missing_ok=True)

    def end_sessions(self) -> None:
        """End every ssh session; sshd itself stays and takes new ones."""
        pid = self._demand_init()
        listener = int((self.folder / "run" / "sshd.pid").read_text())
        sessions = [
            one
            for one in machine.processes_in(pid, "sshd")
            if machine.inner_pid_of(one) != listener
        ]
        machine.send(sessions, signal.SIGKILL)

    def refuse_key(self) -> None:
        """Forget the client's key; sessions that are open stay."""
        self.authorized_keys.write_text("")

    def accept_key(self, client_key: str) -> None:
        """Know the client's key again."""
        self.authorized_keys.write_text(client_key)

    def write_gpus(self, gpus: Iterable[Gpu], *, init_error: int = 0) -> None:
        """Change what NVML tells from its next nvmlInit on."""
        text = "".join(gpu.line() for gpu in gpus)
        if init_error:
            text = f"init-error {init_error}\n{text}"
        new = self.gpus_file.with_suffix(".new")
        new.write_text(text)
        os.replace(new, self.gpus_file)

    def break_runtime(self) -> None:
        """Let every start fail: what runs containers ends with an error instead."""
        broken = self.folder / "broken_runtime"
        broken.write_text("#!/bin/sh\nexit 1\n")
        broken.chmod(0o755)
        self.run_inside("mount", "--bind", str(broken), machine.find_tool("runc"))

    def mend_runtime(self) -> None:
        """Let starts succeed again."""
        self.run_inside("umount", machine.find_tool("runc"))

    # --- its images ----------------------------------------------------------------

    def load_images(self, images: dict[str, tuple[bytes, str]]) -> None:
        """Import tars: name -> (tar, command)."""
        with contextlib.closing(self.docker()) as client:
            for name, (content, command) in images.items():
                repository, _, tag = name.partition(":")
                changes = [f'CMD ["{command}"]', f"ENV PATH={machine.SYSTEM_PATH}"]
                try:
                    client.import_image_from_data(
                        content, repository=repository, tag=tag, changes=changes
                    )
                    client.inspect_image(name)  # type: ignore[no-untyped-call]  # SDK
                except DockerException as error:
                    raise ClusterError(
                        f"node {self.name} does not take the image {name}: {error}"
                    ) from error

    def docker(self) -> APIClient:
        """A new Docker client on the node's own socket; close it after use."""
        return APIClient(
            base_url=f"unix://{self.docker_socket}", version="auto", timeout=60
        )


class _SocketConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("docker", timeout=5)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))
