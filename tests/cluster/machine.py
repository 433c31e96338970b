"""What the cluster needs of the machine: commands, processes, links, control groups.

Every process of a cluster carries the cluster's directory in its environment, and the
bridge carries it as its alias, so all of it is found again without any saved state.
Never kills, unlinks or deletes what does not carry that mark.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from tests.cluster.spec import INSTANCES_MAX, ClusterError, Instance

OWNER = "DORABATCH_CLUSTER_OWNER"
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
TOOLS = (
    "dockerd",
    "containerd",
    "runc",
    "sshd",
    "ssh",
    "ssh-keygen",
    "ip",
    "iptables",
    "nsenter",
    "unshare",
    "setsid",
    "mount",
    "hostname",
    "busybox",
    "docker-registry",
    "gcc",
)
_CGROUPS = Path("/sys/fs/cgroup")
_PAUSE_SECONDS = 0.02


def check_machine() -> None:
    """Refuse at once where a cluster cannot be made."""
    if os.geteuid() != 0:
        raise ClusterError(
            "the test cluster makes network namespaces and runs dockerd, which only "
            "root may do; run it as root or with sudo"
        )
    missing = [tool for tool in TOOLS if shutil.which(tool, path=SYSTEM_PATH) is None]
    if missing:
        raise ClusterError(
            f"the test cluster needs {', '.join(missing)}, which this machine lacks; "
            "run tests/cluster/requirements.sh as root"
        )


def environment(directory: Path, **more: str) -> dict[str, str]:
    """What a process of the cluster gets: its mark and nothing of the caller's."""
    # Proxy and Docker variables of the caller would send dockerd elsewhere.
    basis = {OWNER: str(directory), "PATH": SYSTEM_PATH, "HOME": str(directory)}
    return {**basis, **more}


def find_tool(name: str) -> str:
    """The full path of a tool; sshd, for one, insists on being called by it."""
    path = shutil.which(name, path=SYSTEM_PATH)
    if path is None:
        raise ClusterError(f"{name} is missing; run tests/cluster/requirements.sh")
    return path


def run(*words: str, env: dict[str, str] | None = None) -> str:
    """Run a command to its end and return what it printed."""
    done = subprocess.run(
        words,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env=env or {"PATH": SYSTEM_PATH},
        check=False,
    )
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip() or f"status {done.returncode}"
        raise ClusterError(f"`{' '.join(words)}` failed: {said}")
    return done.stdout


def launch(log: Path, env: dict[str, str], *words: str) -> None:
    """Start a process that outlives this one and is nobody's child."""
    with log.open("ab") as out:
        subprocess.run(
            ["setsid", "--fork", *words],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env=env,
            check=True,
        )


def wait_until(
    is_done: Callable[[], bool], seconds: float, say: Callable[[], str]
) -> None:
    """Wait for a condition; after that many seconds fail with the given sentence."""
    deadline = time.monotonic() + seconds
    while not is_done():
        if time.monotonic() > deadline:
            raise ClusterError(say())
        time.sleep(_PAUSE_SECONDS)


def last_line(log: Path) -> str:
    """The last words of a log, for an error message."""
    try:
        lines = log.read_text(errors="replace").strip().splitlines()
    except OSError:
        return "nothing"
    return lines[-1] if lines else "nothing"


# --- processes ---------------------------------------------------------------------


def process_ids() -> list[int]:
    """Every process of the machine."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def owned_processes(directory: Path) -> list[int]:
    """The living processes that carry this cluster's mark."""
    mark = f"{OWNER}={directory}".encode()
    found = []
    for pid in process_ids():
        try:
            words = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if mark in words:
            found.append(pid)
    return found


def is_running(directory: Path, word: str) -> bool:
    """Whether a process of the cluster has this word among its arguments."""
    for pid in owned_processes(directory):
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if word.encode() in words:
            return True
    return False


def namespace_of(pid: int, kind: str = "pid") -> str:
    """The identity of a process's namespace; empty when the process is gone."""
    try:
        return os.readlink(f"/proc/{pid}/ns/{kind}")
    except OSError:
        return ""


def processes_in(init_pid: int, command: str) -> list[int]:
    """A node's living processes whose command name begins so, oldest first."""
    namespace = namespace_of(init_pid)
    if not namespace:
        return []
    return sorted(
        pid
        for pid in process_ids()
        if command_of(pid).startswith(command)
        and namespace_of(pid) == namespace
        and state_of(pid) not in ("", "Z")
    )


def command_of(pid: int) -> str:
    """The command name of a process; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def state_of(pid: int) -> str:
    """The kernel's letter for a process: R, S, D, T (stopped), Z; empty when gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def inner_pid_of(pid: int) -> int:
    """The number that a process has in its own namespace; 0 when it is gone."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    numbers = [line.split() for line in text.splitlines() if line.startswith("NSpid:")]
    return int(numbers[0][-1]) if numbers else 0


def send(pids: Iterable[int], number: signal.Signals) -> None:
    """Signal processes; one that has gone meanwhile is fine."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def kill_owned(directory: Path) -> None:
    """End every process of the cluster; a node's own end takes its containers along."""

    def is_empty() -> bool:
        # Again each time: one that was just being started came too late before.
        owned = owned_processes(directory)
        send(owned, signal.SIGKILL)
        return not owned

    wait_until(
        is_empty,
        20.0,
        lambda: (
            f"processes {owned_processes(directory)} of {directory} do not end; "
            "look at them with ps"
        ),
    )


# --- links -------------------------------------------------------------------------


def claim_bridge(
    place_of: Callable[[int], Path], wanted: int | None
) -> tuple[Instance, Path]:
    """Make a bridge that nobody has, and mark it; the kernel decides who was first."""
    if wanted is not None and wanted not in range(INSTANCES_MAX):
        raise ClusterError(
            f"cluster number {wanted} is not allowed; give 0 to {INSTANCES_MAX - 1}"
        )
    numbers = range(INSTANCES_MAX) if wanted is None else (wanted,)
    for number in numbers:
        instance = Instance(number=number)
        place = place_of(number)
        if _is_network_there(instance.bridge) or str(place) in instances():
            continue
        try:
            run("ip", "link", "add", instance.bridge, "type", "bridge")
        except ClusterError:
            if _is_network_there(instance.bridge):
                continue
            raise
        run("ip", "link", "set", instance.bridge, "alias", str(place))
        return instance, place
    if wanted is None:
        raise ClusterError(
            f"all {INSTANCES_MAX} cluster numbers are in use; end clusters with "
            "`python -m tests.cluster down --dir DIR` (`status --all` lists them)"
        )
    raise ClusterError(
        f"cluster number {wanted} is in use by {owner_of(wanted) or 'another bridge'}; "
        "give another --instance or none"
    )


def owner_of(number: int) -> str:
    """The directory of the cluster that has this number; empty when it is free."""
    alias = Path(f"/sys/class/net/{Instance(number=number).bridge}/ifalias")
    try:
        return alias.read_text().strip()
    except OSError:
        return ""


def instances() -> dict[str, int]:
    """Every cluster of this machine: directory -> number."""
    bridges = [path.name for path in Path("/sys/class/net").glob("dbr*")]
    numbers = [int(name[3:]) for name in bridges if name[3:].isdigit()]
    return {owner: number for number in numbers if (owner := owner_of(number))}


def remove_links(directory: Path) -> None:
    """Delete the bridges that carry this cluster's mark and all plugged into them."""
    for owner, number in instances().items():
        if owner != str(directory):
            continue
        bridge = Instance(number=number).bridge
        for port in Path(f"/sys/class/net/{bridge}/brif").glob("*"):
            delete_link(port.name)
        delete_link(bridge)


def delete_link(name: str) -> None:
    """Delete a link; one that is not there is fine."""
    if _is_network_there(name):
        try:
            run("ip", "link", "del", name)
        except ClusterError:
            # A dying namespace takes its end of the cable, and ours, along.
            if _is_network_there(name):
                raise


def _is_network_there(name: str) -> bool:
    return Path(f"/sys/class/net/{name}").exists()


# --- control groups and files ------------------------------------------------------


def remove_cgroups(pattern: str) -> None:
    """Delete the control groups of these names in every hierarchy."""
    # Version 2 has one hierarchy, version 1 one below for each controller.
    tops = [*_CGROUPS.glob(pattern), *_CGROUPS.glob(f"*/{pattern}")]
    wait_until(
        lambda: False not in {_is_cgroup_gone(top) for top in tops},
        10.0,
        lambda: f"control groups {pattern} cannot be removed; see their tasks files",
    )


def _is_cgroup_gone(top: Path) -> bool:
    for folder, _, _ in os.walk(top, topdown=False):
        try:
            os.rmdir(folder)
        except OSError:
            # Busy for a moment after its last process ended.
            continue
    return not top.exists()


def remove_tree(folder: Path) -> None:
    """Delete a directory and all in it; not being there is fine."""
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(folder)


def can_mount_overlay(directory: Path) -> bool:
    """Whether dockerd's overlay2 can keep its data here; tried, not guessed."""
    place = directory / "overlay-trial"
    for name in ("lower", "upper", "work", "merged"):
        (place / name).mkdir(parents=True, exist_ok=True)
    options = f"lowerdir={place}/lower,upperdir={place}/upper,workdir={place}/work"
    try:
        run(
            *("unshare", "--mount", "mount", "-t", "overlay", "overlay"),
            *("-o", options, f"{place}/merged"),
        )
    except ClusterError:
        return False
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return True
