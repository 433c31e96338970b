"""The Workload kind: what to run, how often, on what, with which files and ports.

Decides what a workload may say and what its absent fields mean; gives the rest of
the system plain numbers to count with. It never looks at nodes, rights or storage.
"""

import shlex
from decimal import Decimal
from hashlib import sha256
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import orjson
from pydantic import Field, PlainSerializer, PlainValidator, model_validator

from dorabatch.resources.dependency import read_dependency
from dorabatch.resources.document import (
    Document,
    Part,
    WorkloadMetadata,
    fold_group,
    problem_at,
)
from dorabatch.resources.names import (
    Image,
    Name,
    Path,
    Target,
    check_env_name,
    check_text,
    quoted,
    show,
)
from dorabatch.resources.quantity import (
    read_bytes,
    read_memory,
    read_run_seconds,
    whole_number,
    write_run_seconds,
)
from dorabatch.resources.selector import Selectors

REPLICAS_MAX = 10_000
ARGUMENTS_MAX = 10_000
VARIABLES_MAX = 1_000
VOLUMES_MAX = 100
PORTS_MAX = 100
NICE_MAX = 1_000_000_000
SHM_BYTES_DEFAULT = 64 * 2**20
STOP_GRACE_SECONDS_MAX = 3600
MIB = 2**20
WHOLE_GPU_MILLI = 1000


def _argument(value: object) -> str:
    """Text; numbers and true or false stand for the way they were written."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, Decimal):
        return format(value, "f")
    return check_text(value)


def read_cmd(value: object) -> tuple[str, ...] | None:
    """cmd: text is split as a shell would (nothing is expanded), a list is kept."""
    if value is None:
        return None
    if isinstance(value, str):
        try:
            words: list[object] = list(shlex.split(check_text(value)))
        except ValueError as error:
            if "quotation" not in str(error) and "escape" not in str(error):
                raise
            raise ValueError(
                f"{quoted(value)}: a quote or a backslash at its end is left open"
            ) from None
    elif isinstance(value, list | tuple):
        words = list(value)
    else:
        raise ValueError(
            f"must be text or a list of words, not {show(value)}; for example "
            "cmd: python train.py"
        )
    if not words or words[0] == "":
        raise ValueError(
            "is empty; leave cmd out to run the image's own command, or name a program"
        )
    if len(words) > ARGUMENTS_MAX:
        raise ValueError(f"has {len(words)} words; allowed are {ARGUMENTS_MAX}")
    return tuple(_argument(word) for word in words)


def _env_pairs(value: object) -> list[tuple[object, object]]:
    if isinstance(value, dict):
        return list(value.items())
    if not isinstance(value, list | tuple):
        raise ValueError(
            f"must be a mapping or a list of NAME=value, not {show(value)}"
        )
    pairs: list[tuple[object, object]] = []
    for entry in value:
        name, divider, text = check_text(entry).partition("=")
        if not divider:
            raise ValueError(f"{quoted(name)} has no '='; write NAME=value")
        pairs.append((name, text))
    return pairs


def read_env(value: object) -> tuple[tuple[str, str], ...]:
    """env as pairs ordered by name; a name may stand once."""
    if not value and value is not None and isinstance(value, dict | list | tuple):
        return ()
    found: dict[str, str] = {}
    for name, text in _env_pairs(value):
        key = check_env_name(name)
        if key in found:
            raise ValueError(f"{key} is given twice; keep one of them")
        try:
            found[key] = _argument(text)
        except ValueError as error:
            raise ValueError(f"{key} {error}") from None
    if len(found) > VARIABLES_MAX:
        raise ValueError(f"has {len(found)} variables; allowed are {VARIABLES_MAX}")
    return tuple(sorted(found.items()))


class OnLost(NamedTuple):
    """What becomes of a run whose node is silent: wait, requeue or fail.

    `seconds`: how long it waits before it is queued again; None: as long as it takes.
    """

    action: str
    seconds: int | None = None

    def __str__(self) -> str:
        if self.seconds is None:
            return self.action
        return f"{self.action} {write_run_seconds(self.seconds)}"


def read_on_lost(value: object) -> OnLost | None:
    """onLost: wait, wait with a time, requeue or fail."""
    if value is None or isinstance(value, OnLost):
        return value
    words = value.split() if isinstance(value, str) else []
    if len(words) == 1 and words[0] in ("wait", "requeue", "fail"):
        return OnLost(words[0])
    if len(words) == 2 and words[0] == "wait":
        return OnLost("wait", read_run_seconds(words[1]))
    raise ValueError(
        "must be wait, wait with a time such as 'wait 2h', requeue or fail, not "
        f"{show(value)}"
    )


class Replica(Part):
    """How many containers."""

    count: Annotated[int, PlainValidator(whole_number(0, REPLICAS_MAX))] = 1


class ImageSpec(Part):
    """Which image, and when to pull it."""

    image: Image
    pull_policy: Annotated[
        Literal["Always", "IfNotPresent", "Never"], Field(alias="pullPolicy")
    ] = "IfNotPresent"


class Config(Part):
    """What runs in the container, and how."""

    cmd: Annotated[tuple[str, ...] | None, PlainValidator(read_cmd)] = None
    affinity: Literal["First", "Random", "Distribute", "Fill"] | None = None
    restart_policy: Annotated[
        Literal["Never", "Always"], Field(alias="restartPolicy")
    ] = "Never"
    restartable: bool | None = None
    shm_bytes: Annotated[int, PlainValidator(read_bytes), Field(alias="shmSize")] = (
        SHM_BYTES_DEFAULT
    )
    memory_bytes: Annotated[
        int | None,
        PlainValidator(lambda v: None if v is None else read_memory(v)),
        Field(alias="memory"),
    ] = None
    env: Annotated[
        tuple[tuple[str, str], ...], PlainValidator(read_env), PlainSerializer(dict)
    ] = ()
    workdir: Path | None = None
    run_seconds_max: Annotated[
        int | None,
        PlainValidator(lambda v: None if v is None else read_run_seconds(v)),
        PlainSerializer(write_run_seconds),
        Field(alias="maxRunTime"),
    ] = None
    stop_grace_seconds: Annotated[
        Annotated[int, PlainValidator(whole_number(0, STOP_GRACE_SECONDS_MAX))] | None,
        Field(alias="stopGrace"),
    ] = None
    on_lost: Annotated[
        OnLost | None,
        PlainValidator(read_on_lost),
        PlainSerializer(lambda one: None if one is None else str(one)),
        Field(alias="onLost"),
    ] = None


class VolumeMount(Part):
    """A volume and where it appears in the container."""

    name: Name
    workspace: Name | None = None
    target: Target
    read_only: Annotated[bool, Field(alias="readOnly")] = False
    _fold_group = model_validator(mode="before")(fold_group)


class Port(Part):
    """A port of the container that is reachable on its node."""

    name: Name | None = None
    kind: Literal["NodePort"] = "NodePort"
    protocol: Literal["tcp", "udp"] = "tcp"
    node_port: Annotated[
        int, PlainValidator(whole_number(1024, 65535)), Field(alias="nodePort")
    ]
    port: Annotated[int, PlainValidator(whole_number(1, 65535))]


class Network(Part):
    """none, the node's bridge with published ports, or the node's own network."""

    mode: Literal["none", "bridge", "host"] = "bridge"
    ports: Annotated[tuple[Port, ...], Field(strict=False, max_length=PORTS_MAX)] = ()

    @model_validator(mode="after")
    def _ports_need_a_bridge(self) -> "Network":
        if self.ports and self.mode != "bridge":
            raise problem_at(
                "ports", f"ports need mode bridge, not {self.mode}; leave them out"
            )
        names = [port.name for port in self.ports if port.name]
        if len(set(names)) != len(names):
            raise problem_at("ports", "two ports have the same name")
        return self


class Notify(Part):
    """Whom to tell about start, end and failure."""

    by_email: Annotated[bool, Field(alias="byEmail")] = False


class Priority(Part):
    """What a user says about the turn; the site decides what it is worth."""

    nice: Annotated[int, PlainValidator(whole_number(-NICE_MAX, NICE_MAX))] = 0
    qos: Name | None = None


class WorkloadSpec(Part):
    """Everything under `spec`, read into plain values."""

    replica: Replica = Replica()
    driver: Literal["Docker"]
    selectors: Selectors
    image: ImageSpec
    config: Config
    volumes: Annotated[
        tuple[VolumeMount, ...], Field(strict=False, max_length=VOLUMES_MAX)
    ] = ()
    network: Network = Network()
    notify: Notify = Notify()
    priority: Priority = Priority()
    dependency: Annotated[str | None, PlainValidator(read_dependency)] = None

    @model_validator(mode="after")
    def _parts_agree(self) -> "WorkloadSpec":
        if self.volumes:
            self._check_targets()
        if self.network.ports:
            self._check_ports()
        return self

    def _check_targets(self) -> None:
        targets = [volume.target for volume in self.volumes]
        for target in targets:
            if targets.count(target) > 1:
                raise problem_at("volumes", f"two volumes have the target {target!r}")

    def _check_ports(self) -> None:
        """Replica i gets nodePort + i - 1, so a port stands for a range."""
        extra = max(self.replica.count - 1, 0)
        taken: dict[str, list[int]] = {}
        for port in self.network.ports:
            if port.node_port + extra > 65535:
                raise problem_at(
                    "network.ports",
                    f"nodePort {port.node_port} and {self.replica.count} replicas need "
                    "ports above 65535; replica i gets nodePort + i - 1",
                )
            for other in taken.setdefault(port.protocol, []):
                if abs(port.node_port - other) <= extra:
                    raise problem_at(
                        "network.ports",
                        f"nodePorts {other} and {port.node_port} ({port.protocol}) "
                        f"overlap: replica i of {self.replica.count} gets "
                        "nodePort + i - 1",
                    )
            taken[port.protocol].append(port.node_port)

    @property
    def replicas(self) -> int:
        """Containers wanted."""
        return self.replica.count

    @property
    def needs_gpu(self) -> bool:
        """Whether this is a GPU workload."""
        return self.selectors.gpu is not None

    @property
    def gpu_count(self) -> int:
        """GPUs of one container; 1 for a share, 0 for a CPU workload."""
        gpu = self.selectors.gpu
        return 0 if gpu is None else gpu.count

    @property
    def gpu_milli(self) -> int:
        """Thousandths of each GPU: 1000 unless a share is asked for."""
        gpu = self.selectors.gpu
        share = None if gpu is None else gpu.share_milli
        return WHOLE_GPU_MILLI if share is None else share

    @property
    def gpu_models(self) -> tuple[str, ...] | None:
        """GPU models that will do; None = any."""
        gpu = self.selectors.gpu
        return None if gpu is None else gpu.models

    @property
    def cpu_models(self) -> tuple[str, ...] | None:
        """CPU models that will do; None = any."""
        cpu = self.selectors.cpu
        return None if cpu is None else cpu.models

    @property
    def cpu_exclusive(self) -> bool:
        """Whether whole cores are asked for, not shared with others."""
        cpu = self.selectors.cpu
        return cpu is not None and isinstance(cpu.count, int)

    @property
    def cpu_milli(self) -> int | None:
        """Thousandths of a core; None = not asked, the node's share applies."""
        cpu = self.selectors.cpu
        if cpu is None:
            return None
        if isinstance(cpu.count, int):
            return cpu.count * 1000
        return int(cpu.count[:-1])

    @property
    def memory_mib(self) -> int | None:
        """MiB, rounded up; None = not asked, the node's share applies."""
        size = self.config.memory_bytes
        return None if size is None else -(-size // MIB)

    @property
    def node_names(self) -> tuple[str, ...] | None:
        """Nodes that will do; None = any."""
        node = self.selectors.node
        return None if node is None else node.names

    @property
    def affinity(self) -> str | None:
        """First, Random, Distribute or Fill; None = the site's choice."""
        return self.config.affinity

    @property
    def restartable(self) -> bool:
        """Whether it may be stopped and started anew from the beginning."""
        said = self.config.restartable
        return self.config.restart_policy == "Always" if said is None else said

    @property
    def argv(self) -> tuple[str, ...] | None:
        """The command's words; None = the image's own command."""
        return self.config.cmd

    @property
    def env(self) -> dict[str, str]:
        """Variables of the container."""
        return dict(self.config.env)


class WorkloadDocument(Document):
    """A workload document."""

    rank: ClassVar[int] = 90

    kind: Literal["Workload"]
    metadata: WorkloadMetadata
    spec: WorkloadSpec


def _dump(spec: WorkloadSpec, **options: Any) -> bytes:
    fields = spec.model_dump(by_alias=True, exclude_none=True, **options)
    return orjson.dumps(fields, option=orjson.OPT_SORT_KEYS)


def canonical_json(spec: WorkloadSpec) -> str:
    """The spec as text for storing: defaults written out, keys in order."""
    return _dump(spec).decode()


def load_spec(text: str) -> WorkloadSpec:
    """The spec that canonical_json wrote."""
    return WorkloadSpec.model_validate(orjson.loads(text))


def spec_digest(spec: WorkloadSpec) -> str:
    """Equal for specs that run the same container, whatever is around it.

    That is: their number, their turn, what they wait for, what follows a lost node.
    Fields at their default are left out, so that a field added by a later version
    changes no digest.
    """
    beside = {
        **dict.fromkeys(("replica", "priority", "dependency"), True),
        "config": {"on_lost"},
    }
    return sha256(_dump(spec, exclude_defaults=True, exclude=beside)).hexdigest()
