"""What a test cluster is made of: node specifications, GPUs, addresses, names.

Parses and computes only. Never touches the machine.
"""

import re
import uuid
from dataclasses import dataclass
from pathlib import Path

INSTANCES_MAX = 256
NODES_MAX = 100
# The stub of NVML keeps that many.
GPUS_MAX = 64
# sockaddr_un holds 108 bytes with the closing zero.
SOCKET_PATH_MAX = 107
_NAME = re.compile(r"[a-z][a-z0-9-]{0,14}")
_MEMORY_IN_NAME = re.compile(r"(\d+) ?GB\b")
_MEMORY_MIB = {"Quadro RTX 6000": 24576, "Quadro RTX 5000": 16384, "Tesla T4": 15360}
_MEMORY_MIB_UNKNOWN = 16384
_UUID_SPACE = uuid.UUID("6c1f7f0e-6d0f-4c38-9d8e-7d0b6f0a5c11")


class ClusterError(RuntimeError):
    """The cluster cannot be made, found or changed; one sentence says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One GPU as the stub of NVML tells it."""

    uuid: str
    model: str
    memory_mib: int
    used_mib: int = 0
    utilization_percent: int = 0
    pids: tuple[int, ...] = ()
    error: int = 0

    def line(self) -> str:
        """The line that the stub reads."""
        cells = (
            self.uuid,
            self.model,
            self.memory_mib,
            self.used_mib,
            self.utilization_percent,
            ",".join(map(str, self.pids)),
            self.error,
        )
        return "\t".join(map(str, cells)) + "\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSpec:
    """What one node is to be: its name and its GPU models with their counts."""

    name: str
    gpus: tuple[tuple[str, int], ...] = ()
    live_restore: bool = False

    @classmethod
    def parse(cls, text: str, *, live_restore: bool = False) -> "NodeSpec":
        """Read `n1=Tesla V100-SXM2-16GB:4,Quadro RTX 6000:2`; `n3=` has no GPUs."""
        name, _, rest = text.partition("=")
        if not _NAME.fullmatch(name):
            raise ClusterError(
                f"node {text!r}: the name {name!r} must be up to 15 of a-z, 0-9 and -, "
                "a letter first, as in n1=V100-SXM2-16GB:4"
            )
        groups = [_gpu_group(text, part) for part in rest.split(",") if part.strip()]
        if sum(count for _, count in groups) > GPUS_MAX:
            raise ClusterError(f"node {text!r}: a node has at most {GPUS_MAX} GPUs")
        return cls(name=name, gpus=tuple(groups), live_restore=live_restore)

    def gpu_list(self) -> tuple[Gpu, ...]:
        """Its GPUs, with UUIDs that are the same every time the node is made."""
        models = [model for model, count in self.gpus for _ in range(count)]
        return tuple(
            Gpu(
                uuid=f"GPU-{uuid.uuid5(_UUID_SPACE, f'{self.name}/{index}')}",
                model=model,
                memory_mib=memory_mib_of(model),
            )
            for index, model in enumerate(models)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """The number that keeps clusters on one machine apart, and what follows from it."""

    number: int

    @property
    def bridge(self) -> str:
        """The bridge that all nodes are plugged into."""
        return f"dbr{self.number}"

    @property
    def gateway(self) -> str:
        """The machine's own address on the bridge."""
        return f"10.77.{self.number}.1"

    @property
    def registry(self) -> str:
        """Host and port of the image registry."""
        return f"{self.gateway}:5000"

    def address(self, index: int) -> str:
        """The address of the index-th node."""
        return f"10.77.{self.number}.{11 + index}"

    def link(self, index: int) -> str:
        """The machine's end of the index-th node's cable."""
        return f"dve{self.number}-{index}"

    def cgroup(self, name: str) -> str:
        """The control group under which the node's containers live."""
        return f"dorabatch-cluster-{self.number}-{name}"


def memory_mib_of(model: str) -> int:
    """A model's memory: what its name says, or what is known of it."""
    match = _MEMORY_IN_NAME.search(model)
    if match:
        return int(match.group(1)) * 1024
    return _MEMORY_MIB.get(model, _MEMORY_MIB_UNKNOWN)


def check_specs(specs: tuple[NodeSpec, ...], directory: Path) -> None:
    """Refuse a cluster that could not work, before anything is made."""
    names = [spec.name for spec in specs]
    doubles = sorted({name for name in names if names.count(name) > 1})
    if doubles:
        raise ClusterError(
            f"node name {doubles[0]!r} is given twice; names must differ"
        )
    if not 1 <= len(specs) <= NODES_MAX:
        raise ClusterError(
            f"{len(specs)} nodes asked for; allowed are 1 to {NODES_MAX}"
        )
    longest = max(
        len(str(docker_socket_path(directory, spec.name)).encode()) for spec in specs
    )
    if longest > SOCKET_PATH_MAX:
        raise ClusterError(
            f"the directory {directory} is too long: Docker's socket in it would have "
            f"{longest} bytes and a Unix socket may have {SOCKET_PATH_MAX}; use --dir "
            "with a shorter path"
        )


def docker_socket_path(directory: Path, name: str) -> Path:
    """Where the machine sees a node's /var/run/docker.sock."""
    return directory / name / "run" / "docker.sock"


def _gpu_group(text: str, part: str) -> tuple[str, int]:
    model, colon, count = part.rpartition(":")
    model = model.strip()
    if not colon or not model or not count.strip().isdigit():
        raise ClusterError(
            f"node {text!r}: {part!r} must be MODEL:COUNT, as in Quadro RTX 6000:2"
        )
    if "\t" in model or "\n" in model:
        raise ClusterError(f"node {text!r}: a model's name has no TAB and no new line")
    return model, int(count)
