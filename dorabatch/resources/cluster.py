"""The kinds an administrator describes the hardware with: Zone, Node, Storage, Volume.

Decides what they may say. It never connects to a node and never looks at a disk.
"""

import re
from typing import Annotated, ClassVar, Literal

from pydantic import Field, PlainValidator, model_validator

from dorabatch.resources.document import (
    Document,
    Metadata,
    Part,
    WorkspacedMetadata,
    ZonedMetadata,
    problem_at,
)
from dorabatch.resources.names import (
    Host,
    HostKey,
    Login,
    Name,
    Path,
    check_host,
    check_login,
    check_path,
    check_text,
    quoted,
)

SSH_PORT_DEFAULT = 22
DOCKER_SOCKET_DEFAULT = "/var/run/docker.sock"
SOCKET_PATH_MAX = 107
"""The kernel's limit for the path of a Unix socket."""

_ENDPOINT = re.compile(
    r"(?P<scheme>[a-z]+)://(?:(?P<user>[^@/]*)@)?(?P<host>\[[^\]/]*\]|[^:/@]*)"
    r"(?::(?P<port>[0-9]{1,5}))?/?"
)


def _split_endpoint(
    value: object, schemes: tuple[str, ...], form: str
) -> tuple[str, str | None, str, int | None]:
    """(scheme, user, host, port) of an endpoint; every piece checked."""
    text = check_text(value)
    match = _ENDPOINT.fullmatch(text)
    if match is None or match["scheme"] not in schemes:
        raise ValueError(f"{quoted(text)} is not an endpoint: write {form}")
    user = None if match["user"] is None else check_login(match["user"])
    port = None if match["port"] is None else int(match["port"])
    if port is not None and not 1 <= port <= 65535:
        raise ValueError(f"{quoted(text)}: port {port} is not between 1 and 65535")
    return match["scheme"], user, check_host(match["host"]), port


def _split_node_endpoint(value: object) -> tuple[str, str | None, str, int | None]:
    return _split_endpoint(
        value, ("ssh", "https"), "ssh://[user@]host[:port], such as ssh://10.10.10.2"
    )


def check_node_endpoint(value: object) -> str:
    """A node's endpoint, by SSH; https://host:port is read for its host only."""
    scheme, user, host, port = _split_node_endpoint(value)
    address = f"[{host}]" if ":" in host else host
    account = "" if user is None else f"{user}@"
    return f"{scheme}://{account}{address}" + ("" if port is None else f":{port}")


def check_zone_endpoint(value: object) -> str:
    """Where a zone's daemon answers: http(s)://host[:port]."""
    text = check_text(value)
    _, user, _, _ = _split_endpoint(
        text, ("https", "http"), "https://host[:port], such as https://zone1.site"
    )
    if user is not None:
        raise ValueError(f"{quoted(text)} must not hold an account")
    return text


def check_socket_path(value: object) -> str:
    """The path of a Unix socket."""
    path = check_path(value)
    if len(path) > SOCKET_PATH_MAX:
        raise ValueError(
            f"has {len(path)} characters; a socket's path has up to {SOCKET_PATH_MAX}"
        )
    return path


NodeEndpoint = Annotated[str, PlainValidator(check_node_endpoint)]
Capability = Literal["CPUWorkload", "GPUWorkload"]


class ZoneSpec(Part):
    """Where the zone's daemon answers, if it is not this one."""

    endpoint: Annotated[str, PlainValidator(check_zone_endpoint)] | None = None


class Zone(Document):
    """A cluster of nodes and storages that reach each other."""

    rank: ClassVar[int] = 10

    kind: Literal["Zone"]
    metadata: Metadata
    spec: ZoneSpec = ZoneSpec()


class NodeSpec(Part):
    """How to reach a node, and what it may run."""

    endpoint: NodeEndpoint
    user: Login | None = None
    allow: Annotated[tuple[Capability, ...], Field(strict=False, max_length=16)] = (
        "CPUWorkload",
        "GPUWorkload",
    )
    scheduling_disabled: Annotated[bool, Field(alias="schedulingDisabled")] = False
    host_key: Annotated[HostKey | None, Field(alias="hostKey")] = None
    docker_socket: Annotated[
        str, PlainValidator(check_socket_path), Field(alias="dockerSocket")
    ] = DOCKER_SOCKET_DEFAULT

    @model_validator(mode="after")
    def _one_account(self) -> "NodeSpec":
        in_endpoint = _split_node_endpoint(self.endpoint)[1]
        if self.user and in_endpoint and self.user != in_endpoint:
            raise problem_at(
                "user",
                f"user {self.user!r} and the endpoint's {in_endpoint!r} differ; "
                "keep one of them",
            )
        return self

    @property
    def is_ssh(self) -> bool:
        """Whether the endpoint names SSH, not the older https form."""
        return self.endpoint.startswith("ssh:")

    @property
    def ssh_host(self) -> str:
        """Host name or address, IPv6 without brackets."""
        return _split_node_endpoint(self.endpoint)[2]

    @property
    def ssh_port(self) -> int:
        """The endpoint's SSH port; an https endpoint's port is not used."""
        port = _split_node_endpoint(self.endpoint)[3]
        return port if port is not None and self.is_ssh else SSH_PORT_DEFAULT

    @property
    def ssh_user(self) -> str | None:
        """The account on the node; None = the daemon's default."""
        return self.user or _split_node_endpoint(self.endpoint)[1]

    @property
    def allows_cpu(self) -> bool:
        """Whether workloads without GPUs may run here."""
        return "CPUWorkload" in self.allow

    @property
    def allows_gpu(self) -> bool:
        """Whether GPU workloads may run here."""
        return "GPUWorkload" in self.allow


class Node(Document):
    """A server that runs containers."""

    rank: ClassVar[int] = 70

    kind: Literal["Node"]
    metadata: ZonedMetadata
    spec: NodeSpec

    @property
    def warnings(self) -> tuple[str, ...]:
        """Says what becomes of an endpoint of the older form."""
        if self.spec.is_ssh:
            return ()
        return (
            f"Node {self.name!r}: endpoint {self.spec.endpoint!r} is read for its host "
            f"only; dorad connects by SSH to port {SSH_PORT_DEFAULT} of "
            f"{self.spec.ssh_host} (write ssh://{self.spec.ssh_host}:PORT for another)",
        )


class StorageSpec(Part):
    """A directory that nodes can mount; for Local, the node that holds it."""

    endpoint: Host
    mount_path: Annotated[Path, Field(alias="mountpath")]
    kind: Literal["NFS", "Local"]


class Storage(Document):
    """Where volumes live."""

    rank: ClassVar[int] = 50

    kind: Literal["Storage"]
    metadata: ZonedMetadata
    spec: StorageSpec


class VolumeSpec(Part):
    """Which storage, and which directory of it."""

    storage: Name
    local_path: Annotated[Path | None, Field(alias="localPath")] = None
    policy: Literal["rw", "readonly"] = "rw"


class Volume(Document):
    """A directory that containers can mount by name."""

    rank: ClassVar[int] = 60

    kind: Literal["Volume"]
    metadata: WorkspacedMetadata
    spec: VolumeSpec

    @property
    def read_only(self) -> bool:
        """Whether no container may write to it."""
        return self.spec.policy == "readonly"


def volume_path(storage: StorageSpec, volume: VolumeSpec, *place: str) -> str:
    """The directory on the storage: localPath, or mountpath/workspace/name."""
    if volume.local_path is not None:
        return volume.local_path
    return "/".join((storage.mount_path.rstrip("/"), *place))
