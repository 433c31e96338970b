"""Decides what Docker is asked to create for a run: safe by construction.

Pure. Never emits a privilege, a host path bind, a device, an added capability or a host
pid/ipc/user namespace, whatever the input; it refuses instead, naming the field.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from dorabatch.errors import Refused
from dorabatch.node.identity import (
    DIGEST_LABEL,
    EPOCH_LABEL,
    GPUS_LABEL,
    LABEL_PREFIX,
    RunIdentity,
    identity_labels,
)

MIB = 1 << 20
WHOLE_GPU_MILLI = 1000
NETWORKS = ("bridge", "none", "host")
# What the NVIDIA hook obeys: with these a job would choose its own GPUs. LD_* would
# be read by that hook too, which runs on the node with the node's rights.
DROPPED_ENV = re.compile(
    r"LD_.*|DORA_.*|NVIDIA_(VISIBLE_DEVICES|MIG_.*|IMEX_.*|GDS|GDRCOPY|MOFED|NVSWITCH)"
)
# Paths of a node that no volume may show, nor anything under them.
DENIED_DEVICES = (
    "/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/proc", "/root",
    "/run", "/sbin", "/sys", "/usr", "/var/lib/containerd", "/var/lib/docker",
    "/var/run",
)  # fmt: skip
DENIED_TARGETS = ("/dev", "/proc", "/sys")

_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@-]{0,511}")
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,255}")
_GPU_UUID = re.compile(r"(GPU|MIG)-[A-Za-z0-9][A-Za-z0-9./-]{0,126}")
_VOLUME_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,254}")
_HOST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
_SIGNAL = re.compile(r"SIG[A-Z0-9+-]{1,12}")
_LABEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,127}")
_ADDRESS = re.compile(r"[0-9A-Fa-f.:]{0,45}")


@dataclass(frozen=True, slots=True, kw_only=True)
class PortRequest:
    """A port of the container, published on the node; None lets Docker choose."""

    container_port: int
    node_port: int | None = None
    protocol: str = "tcp"
    address: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MountRequest:
    """A named volume and where the container sees it.

    The owner gets the directory when the volume is a path of the node that has to
    be made first.
    """

    volume: str
    target: str
    read_only: bool = False
    driver: str = "local"
    driver_opts: Mapping[str, str] = field(default_factory=dict)
    owner_uid: int | None = None
    owner_gid: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerRequest:
    """Everything about a run's container that someone can choose."""

    identity: RunIdentity
    image: str
    argv: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    uid: int
    gid: int
    groups: tuple[int, ...] = ()
    allow_root: bool = False
    gpu_uuids: tuple[str, ...] = ()
    gpu_milli: int = 1000
    cores: tuple[int, ...] | None = None
    nano_cpus: int | None = None
    memory_bytes: int | None = None
    shm_bytes: int = 64 * MIB
    pids_limit: int = 8192
    network: str = "bridge"
    allow_host_network: bool = False
    ports: tuple[PortRequest, ...] = ()
    mounts: tuple[MountRequest, ...] = ()
    workdir: str | None = None
    stop_grace_seconds: int = 10
    stop_signal: str = "SIGTERM"
    read_only_root: bool = False
    log_bytes_max: int = 64 * MIB
    hostname: str | None = None
    open_stdin: bool = False


def check_request(wish: ContainerRequest) -> None:
    """Raise Refused for what Docker is not asked for."""
    _check_process(wish)
    _check_names(wish)
    _check_limits(wish)
    _check_attachments(wish)
    _labels(wish)


def create_body(wish: ContainerRequest) -> dict[str, object]:
    """Return the JSON object of Docker's create call; Refused as check_request says."""
    check_request(wish)
    labels = _labels(wish)
    return _body(wish, {**labels, DIGEST_LABEL: spec_digest(wish)})


def spec_digest(wish: ContainerRequest) -> str:
    """Return a short hash of what the container is.

    Its epoch does not count, and no cores that it shares: they change while it runs.
    """
    if wish.nano_cpus is not None:
        wish = replace(wish, cores=None)
    body = _body(wish, {**_labels(wish), EPOCH_LABEL: ""})
    text = json.dumps(body, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _body(wish: ContainerRequest, labels: Mapping[str, str]) -> dict[str, object]:
    body: dict[str, object] = {
        "Image": wish.image,
        "User": f"{wish.uid}:{wish.gid}",
        "Env": [f"{name}={value}" for name, value in job_env(wish).items()],
        "Labels": dict(labels),
        "Tty": False,
        "OpenStdin": wish.open_stdin,
        "StopSignal": wish.stop_signal,
        "StopTimeout": wish.stop_grace_seconds,
        # An image's own health check would run beside the job, on its cores.
        "Healthcheck": {"Test": ["NONE"]},
        "ExposedPorts": {_port_key(port): {} for port in wish.ports},
        "HostConfig": _host_config(wish),
    }
    if wish.argv:
        body["Cmd"] = list(wish.argv)
    if wish.entrypoint is not None:
        body["Entrypoint"] = list(wish.entrypoint)
    if wish.workdir is not None:
        body["WorkingDir"] = wish.workdir
    if wish.hostname is not None:
        body["Hostname"] = wish.hostname
    return body


def job_env(wish: ContainerRequest) -> dict[str, str]:
    """Return the environment of the job: the user's, then what the run is."""
    dropped = set(dropped_env(wish.env))
    kept = {name: text for name, text in wish.env.items() if name not in dropped}
    identity = wish.identity
    ours = {
        "DORA_CLUSTER": identity.cluster_id,
        "DORA_WORKLOAD_ID": str(identity.workload_id),
        "DORA_REPLICA": str(identity.replica),
        "DORA_ATTEMPT": str(identity.attempt),
        "DORA_GPUS": ",".join(wish.gpu_uuids),
        "DORA_GPU_COUNT": str(len(wish.gpu_uuids)),
        # Many images say "all" here, which the NVIDIA runtime would obey.
        "NVIDIA_VISIBLE_DEVICES": ",".join(wish.gpu_uuids) or "void",
    }
    if wish.gpu_milli != WHOLE_GPU_MILLI:
        ours["DORA_GPU_SHARE"] = f"{wish.gpu_milli / WHOLE_GPU_MILLI:g}"
    if identity.zone:
        ours["DORA_ZONE"] = identity.zone
    if identity.workspace:
        ours["DORA_WORKSPACE"] = identity.workspace
    return {**kept, **ours}


def dropped_env(env: Mapping[str, str]) -> tuple[str, ...]:
    """Return the names that a job may not set and does not get."""
    return tuple(sorted(name for name in env if DROPPED_ENV.fullmatch(name.upper())))


def check_mount(mount: MountRequest) -> None:
    """Stop with Refused unless the volume and its place are harmless."""
    where = f"volume {mount.volume!r}"
    if not _VOLUME_NAME.fullmatch(mount.volume):
        raise Refused(f"{where}: a volume's name has letters, digits, '_', '.' and '-'")
    _check_path(f"{where}: target", mount.target)
    if mount.target == "/" or _is_under(mount.target, DENIED_TARGETS):
        raise Refused(
            f"{where}: target {mount.target!r} would hide a part of the system; "
            f"denied are / and all under {', '.join(DENIED_TARGETS)}"
        )
    if mount.driver != "local":
        raise Refused(f"{where}: volume driver {mount.driver!r}; allowed is 'local'")
    _check_options(where, mount.driver_opts)


def _check_options(where: str, options: Mapping[str, str]) -> None:
    unknown = sorted(set(options) - {"type", "o", "device"})
    if unknown:
        raise Refused(
            f"{where}: driver option {unknown[0]!r}; allowed are type, o, device"
        )
    if not options:
        return
    kind = options.get("type", "")
    device = options.get("device", "")
    if kind in ("nfs", "nfs4"):
        if not device.startswith(":"):
            raise Refused(f"{where}: device {device!r}; for nfs it is ':/path'")
        _check_path(f"{where}: device", device.removeprefix(":"))
    elif kind == "none":
        flags = set(options.get("o", "").split(","))
        if not (flags & {"bind", "rbind"} and flags <= {"bind", "rbind", "ro", "rw"}):
            raise Refused(f"{where}: o {options.get('o')!r}; allowed is bind[,ro]")
        _check_device(where, device)
    else:
        raise Refused(f"{where}: type {kind!r}; allowed are none, nfs and nfs4")


def _check_device(where: str, device: str) -> None:
    """A path of the node itself."""
    _check_path(f"{where}: device", device)
    if device == "/" or _is_under(device, DENIED_DEVICES):
        raise Refused(
            f"{where}: device {device!r} is a part of the node's system; denied are / "
            f"and all under {', '.join(DENIED_DEVICES)}"
        )
    if re.search(r"(docker|containerd|podman)[^/]*\.sock", device):
        raise Refused(f"{where}: device {device!r} is a control socket of the node")


def _check_process(wish: ContainerRequest) -> None:
    if not _IMAGE.fullmatch(wish.image):
        raise Refused(f"image {wish.image!r} is not an image reference")
    if wish.uid == 0 and not wish.allow_root:
        raise Refused("uid is 0: running as root in the container needs a right to it")
    ids = (wish.uid, wish.gid, *wish.groups)
    if not all(0 <= number < 1 << 31 for number in ids):
        raise Refused(f"uid, gid or group out of range in {ids}")
    if 0 in (wish.gid, *wish.groups) and not wish.allow_root:
        raise Refused("group 0: belonging to root's group needs the right to be root")
    if wish.workdir is not None:
        _check_path("workdir", wish.workdir)
        if _is_under(wish.workdir, ("/proc", "/sys", "/dev")):
            raise Refused(f"workdir {wish.workdir!r} is inside a kernel file system")
    if not _SIGNAL.fullmatch(wish.stop_signal):
        raise Refused(f"stop signal {wish.stop_signal!r}; the form is SIGTERM")
    if wish.hostname is not None and not _HOST_NAME.fullmatch(wish.hostname):
        raise Refused(f"hostname {wish.hostname!r} is not one label of a host name")


def _check_names(wish: ContainerRequest) -> None:
    for word in (*wish.argv, *(wish.entrypoint or ())):
        if "\0" in word:
            raise Refused(f"command: {word!r} holds a zero byte")
    for name, value in wish.env.items():
        if not _ENV_NAME.fullmatch(name) or "\0" in value:
            raise Refused(f"env: {name!r} is not a variable that can be set")
    for name in wish.labels:
        if not _LABEL_NAME.fullmatch(name) or name.startswith(LABEL_PREFIX):
            raise Refused(
                f"label {name!r}: the form is letters, digits, '.', '_', '/', '-', and "
                f"names in {LABEL_PREFIX}* are the system's"
            )


def _check_limits(wish: ContainerRequest) -> None:
    if wish.network not in NETWORKS:
        raise Refused(f"network {wish.network!r}; allowed are {', '.join(NETWORKS)}")
    if wish.network == "host" and not wish.allow_host_network:
        raise Refused("network 'host' needs a right to it; take 'bridge'")
    if wish.ports and wish.network != "bridge":
        raise Refused(f"ports are published on network 'bridge', not {wish.network!r}")
    if wish.cores is not None and (not wish.cores or min(wish.cores) < 0):
        raise Refused(f"cores {wish.cores}: at least one, each 0 or more")
    least = {
        "nano_cpus": (wish.nano_cpus, 1_000_000),
        "memory_bytes": (wish.memory_bytes, 6 * MIB),
        "shm_bytes": (wish.shm_bytes, 1),
        "pids_limit": (wish.pids_limit, 1),
        "stop_grace_seconds": (wish.stop_grace_seconds, 0),
        "log_bytes_max": (wish.log_bytes_max, 64 << 10),
    }
    for name, (value, lowest) in least.items():
        if value is not None and not lowest <= value < (1 << 62):
            raise Refused(f"{name} is {value}; the least is {lowest}")


def _check_attachments(wish: ContainerRequest) -> None:
    for uuid in wish.gpu_uuids:
        if not _GPU_UUID.fullmatch(uuid):
            raise Refused(f"GPU {uuid!r} is not a GPU's uuid")
    if not 0 < wish.gpu_milli <= WHOLE_GPU_MILLI:
        raise Refused(f"gpu_milli is {wish.gpu_milli}; allowed are 1..1000")
    if wish.gpu_milli != WHOLE_GPU_MILLI and len(wish.gpu_uuids) != 1:
        raise Refused(f"a share is of one GPU, not of {len(wish.gpu_uuids)}")
    if len(set(wish.gpu_uuids)) != len(wish.gpu_uuids):
        raise Refused(f"a GPU is given twice: {', '.join(wish.gpu_uuids)}")
    targets = [mount.target for mount in wish.mounts]
    if len(set(targets)) != len(targets):
        raise Refused(f"two volumes have one target: {', '.join(targets)}")
    for mount in wish.mounts:
        check_mount(mount)
    for port in wish.ports:
        _check_port(port)


def _check_port(port: PortRequest) -> None:
    numbers = [port.container_port]
    if port.node_port is not None:
        numbers.append(port.node_port)
    if not all(1 <= number <= 65535 for number in numbers):
        raise Refused(f"port {numbers}: allowed are 1..65535")
    if port.protocol not in ("tcp", "udp"):
        raise Refused(f"port protocol {port.protocol!r}; allowed are tcp and udp")
    if not _ADDRESS.fullmatch(port.address):
        raise Refused(f"port address {port.address!r} is not an IP address")


def _host_config(wish: ContainerRequest) -> dict[str, object]:
    half_log = str(wish.log_bytes_max // 2)
    config: dict[str, object] = {
        "AutoRemove": False,
        # The daemon decides about another attempt; Docker must never start one.
        "RestartPolicy": {"Name": "no"},
        "Privileged": False,
        "CapDrop": ["ALL"],
        "CapAdd": [],
        "SecurityOpt": ["no-new-privileges:true"],
        "Init": True,
        "IpcMode": "private",
        "PidMode": "",
        "NetworkMode": wish.network,
        "PidsLimit": wish.pids_limit,
        "ShmSize": wish.shm_bytes,
        "GroupAdd": [str(group) for group in wish.groups],
        "ReadonlyRootfs": wish.read_only_root,
        "LogConfig": {
            "Type": "json-file",
            "Config": {"max-size": half_log, "max-file": "2"},
        },
        "PortBindings": _port_bindings(wish.ports),
        "Mounts": [_mount(mount) for mount in wish.mounts],
    }
    if wish.read_only_root:
        config["Tmpfs"] = {"/tmp": "rw,nosuid,nodev,size=1g"}
    if wish.cores is not None:
        config["CpusetCpus"] = core_list(wish.cores)
    if wish.nano_cpus is not None:
        config["NanoCpus"] = wish.nano_cpus
    if wish.memory_bytes is not None:
        config["Memory"] = wish.memory_bytes
        # Equal to the memory: no swap on top, which would make the limit a wish.
        config["MemorySwap"] = wish.memory_bytes
    if wish.gpu_uuids:
        config["DeviceRequests"] = [
            {"DeviceIDs": list(wish.gpu_uuids), "Capabilities": [["gpu"]]}
        ]
    return config


def core_list(cores: tuple[int, ...]) -> str:
    """Write core numbers the way the kernel does: 0-3,8."""
    parts: list[list[int]] = []
    for core in sorted(set(cores)):
        if parts and core == parts[-1][1] + 1:
            parts[-1][1] = core
        else:
            parts.append([core, core])
    return ",".join(
        str(first) if first == last else f"{first}-{last}" for first, last in parts
    )


def _port_key(port: PortRequest) -> str:
    return f"{port.container_port}/{port.protocol}"


def _port_bindings(ports: tuple[PortRequest, ...]) -> dict[str, list[dict[str, str]]]:
    bindings: dict[str, list[dict[str, str]]] = {}
    for port in ports:
        node_port = "" if port.node_port is None else str(port.node_port)
        entry = {"HostIp": port.address, "HostPort": node_port}
        bindings.setdefault(_port_key(port), []).append(entry)
    return bindings


def _mount(mount: MountRequest) -> dict[str, object]:
    # The driver makes the volume first, with its options; what is named here can
    # only be a volume, never a path of the node.
    return {
        "Type": "volume",
        "Source": mount.volume,
        "Target": mount.target,
        "ReadOnly": mount.read_only,
        "VolumeOptions": {
            "DriverConfig": {
                "Name": mount.driver,
                "Options": dict(mount.driver_opts),
            }
        },
    }


def _labels(wish: ContainerRequest) -> dict[str, str]:
    ours = {**identity_labels(wish.identity), GPUS_LABEL: ",".join(wish.gpu_uuids)}
    return {**wish.labels, **ours}


def _is_under(path: str, tops: tuple[str, ...]) -> bool:
    return any(path == top or path.startswith(top + "/") for top in tops)


def _check_path(what: str, path: str) -> None:
    parts = path.split("/")[1:]
    if not path.startswith("/") or (
        path != "/" and any(part in ("", ".", "..") for part in parts)
    ):
        raise Refused(
            f"{what} {path!r} is not a plain absolute path (no '..', no '//', no '/' "
            "at the end)"
        )
    if any(ord(letter) < 32 or letter == "," for letter in path) or len(path) > 4096:
        raise Refused(f"{what} {path!r} holds a character that no path may have here")
