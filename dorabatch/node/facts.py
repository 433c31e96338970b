"""Decides what a node's answers mean: probe output and Docker's documents.

Pure: never asks a node anything; a malformed answer is a NodeError.
"""

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum

from dorabatch.errors import NodeError

PROBE_KINDS = ("pynvml", "nvidia-smi", "none")


class ContainerState(StrEnum):
    """Docker's own words for what a container is doing."""

    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    RESTARTING = "restarting"
    REMOVING = "removing"
    EXITED = "exited"
    DEAD = "dead"


ENDED_STATES = frozenset({ContainerState.EXITED, ContainerState.DEAD})
CODES_OF_A_STOP = frozenset({None, 137, 143, 255})
"""Exit codes of a container that Docker, or the machine, may have ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuFacts:
    """One GPU as its driver describes it.

    `is_used_by_others`: processes were on it while none of our runs held it.
    """

    uuid: str
    model: str
    minor: int
    memory_mib: int
    memory_used_mib: int | None = None
    utilization_percent: int | None = None
    process_pids: tuple[int, ...] = ()
    is_used_by_others: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFacts:
    """What a node has, as seen in one probe.

    `docker_id` is what dockerd calls itself, kept on its disk. `missing_gpus` are those
    that it had and that the probe does not tell of.
    """

    hostname: str
    boot_id: str
    cores: tuple[int, ...]
    cpu_model: str
    memory_mib: int
    gpus: tuple[GpuFacts, ...] = ()
    docker_version: str = ""
    driver_version: str | None = None
    clock_offset_seconds: float = 0.0
    probe: str = "none"
    gpu_error: str | None = None
    disk_free_mib: int | None = None
    docker_id: str = ""
    missing_gpus: tuple[GpuFacts, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerFacts:
    """One container; a summary comes from a listing and knows no times."""

    name: str
    container_id: str
    labels: Mapping[str, str] = field(default_factory=dict)
    state: ContainerState
    exit_code: int | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    oom_killed: bool = False
    error: str = ""
    pid: int | None = None
    is_summary: bool = False

    @property
    def has_ended(self) -> bool:
        """True when the container ran and stopped."""
        return self.state in ENDED_STATES


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """What a node tells around the end of a container, by the node's own clock.

    `docker_began_at` is the beginning of the dockerd that answers now; None: unknown.
    `keeps_containers`: they outlive a dockerd (live restore). `was_signalled`: this
    dockerd sent the container a signal shortly before its end, for whatever reason.
    """

    boot_id: str
    now: datetime
    booted_at: datetime | None = None
    docker_began_at: datetime | None = None
    keeps_containers: bool = False
    was_signalled: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerEvent:
    """Something that happened to a container."""

    action: str
    name: str
    container_id: str
    labels: Mapping[str, str] = field(default_factory=dict)
    exit_code: int | None = None
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFacts:
    """An image that is on a node."""

    image_id: str
    references: tuple[str, ...]
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HostKey:
    """The key by which a node's SSH server proves itself."""

    key_type: str
    fingerprint: str
    blob_base64: str


def host_key_of(key_type: str, blob: bytes) -> HostKey:
    """Describe a public key the way `ssh-keygen -l` does."""
    return HostKey(
        key_type=key_type,
        fingerprint=fingerprint_of(blob),
        blob_base64=base64.b64encode(blob).decode("ascii"),
    )


def fingerprint_of(blob: bytes) -> str:
    """Return the SHA256 fingerprint of a public key, without padding."""
    digest = base64.b64encode(hashlib.sha256(blob).digest()).decode("ascii")
    return "SHA256:" + digest.rstrip("=")


def is_fingerprint(text: str) -> bool:
    """True for the form that fingerprint_of returns."""
    return re.fullmatch(r"SHA256:[A-Za-z0-9+/]{43}", text) is not None


def parse_probe(
    text: str,
    *,
    docker_version: str,
    asked_at: float,
    answered_at: float,
    docker_id: str = "",
) -> NodeFacts:
    """Read the probe's JSON; the last line that is an object counts.

    The four clock readings give the offset the way NTP does.
    """
    document = _probe_document(text)
    kind = _text(document, "probe", "probe")
    if kind not in PROBE_KINDS:
        raise NodeError(
            f"probe: kind {kind!r} is unknown; known are {', '.join(PROBE_KINDS)}"
        )
    cores = tuple(sorted(set(_integers(document, "cores", "probe"))))
    if not cores:
        raise NodeError("probe: the node names no usable core")
    started = _number(document, "started_at", "probe")
    printed = _number(document, "printed_at", "probe")
    offset = ((started - asked_at) + (printed - answered_at)) / 2
    gpus = tuple(_gpu(entry) for entry in _list(document, "gpus", "probe"))
    uuids = [gpu.uuid for gpu in gpus]
    if len(set(uuids)) != len(uuids):
        raise NodeError(f"probe: a GPU is listed twice: {', '.join(uuids)}")
    return NodeFacts(
        hostname=_text(document, "hostname", "probe"),
        boot_id=_text(document, "boot_id", "probe"),
        cores=cores,
        cpu_model=_text(document, "cpu_model", "probe"),
        memory_mib=_integer(document, "memory_mib", "probe"),
        gpus=gpus,
        docker_version=docker_version,
        docker_id=docker_id,
        driver_version=_optional_text(document, "driver_version", "probe"),
        clock_offset_seconds=round(offset, 3),
        probe=kind,
        gpu_error=_optional_text(document, "gpu_error", "probe"),
        disk_free_mib=_optional_integer(document, "disk_free_mib", "probe"),
    )


def parse_inspect(document: object) -> ContainerFacts:
    """Read the document of one inspected container."""
    record = _object(document, "inspect")
    state = _object(record.get("State"), "inspect: State")
    config = _object(record.get("Config"), "inspect: Config")
    word = _state(_text(state, "Status", "inspect"))
    pid = _optional_integer(state, "Pid", "inspect")
    has_ended = word in ENDED_STATES
    return ContainerFacts(
        name=_text(record, "Name", "inspect").removeprefix("/"),
        container_id=_text(record, "Id", "inspect"),
        labels=_labels(config.get("Labels"), "inspect"),
        state=word,
        exit_code=_integer(state, "ExitCode", "inspect") if has_ended else None,
        started_at=parse_time(state.get("StartedAt")),
        finished_at=parse_time(state.get("FinishedAt")) if has_ended else None,
        oom_killed=state.get("OOMKilled") is True,
        error=_optional_text(state, "Error", "inspect") or "",
        pid=pid or None,
    )


def parse_summary(document: object) -> ContainerFacts:
    """Read one entry of Docker's container listing."""
    record = _object(document, "listing")
    names = [name for name in _list(record, "Names", "listing") if name]
    if not names or not all(isinstance(name, str) for name in names):
        raise NodeError(f"listing: a container has no name: {record.get('Id')!r}")
    word = _state(_text(record, "State", "listing"))
    status = _optional_text(record, "Status", "listing") or ""
    return ContainerFacts(
        name=str(names[0]).removeprefix("/"),
        container_id=_text(record, "Id", "listing"),
        labels=_labels(record.get("Labels"), "listing"),
        state=word,
        exit_code=_code_in_status(status) if word in ENDED_STATES else None,
        is_summary=True,
    )


def parse_event(document: object) -> ContainerEvent:
    """Read one event about a container."""
    record = _object(document, "event")
    actor = _object(record.get("Actor"), "event: Actor")
    attributes = _labels(actor.get("Attributes"), "event")
    code = attributes.get("exitCode", "")
    nanoseconds = _integer(record, "timeNano", "event")
    return ContainerEvent(
        action=_text(record, "Action", "event"),
        name=attributes.get("name", ""),
        container_id=_text(actor, "ID", "event"),
        labels=attributes,
        exit_code=int(code) if re.fullmatch(r"-?[0-9]{1,10}", code) else None,
        at=datetime.fromtimestamp(nanoseconds // 1000 / 1_000_000, tz=UTC),
    )


def parse_image(document: object) -> ImageFacts:
    """Read one entry of Docker's image listing."""
    record = _object(document, "image")
    found: list[str] = []
    for key in ("RepoTags", "RepoDigests"):
        words = record.get(key)
        if isinstance(words, list):
            found += [word for word in words if isinstance(word, str)]
    return ImageFacts(
        image_id=_text(record, "Id", "image"),
        references=tuple(word for word in found if "<none>" not in word),
        size_bytes=_integer(record, "Size", "image"),
    )


def parse_time(value: object) -> datetime | None:
    """Read Docker's timestamp; None for its zero time and for no time."""
    if value is None or value == "":
        return None
    shape = r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d+))?(Z|[+-]\d\d:\d\d)"
    match = re.fullmatch(shape, value) if isinstance(value, str) else None
    if match is None:
        raise NodeError(f"time {value!r} is not a timestamp of Docker's form")
    if match[1].startswith("0001-"):
        return None
    digits = (match[2] or "0")[:6].ljust(6, "0")
    zone = "+00:00" if match[3] == "Z" else match[3]
    try:
        moment = datetime.fromisoformat(f"{match[1]}.{digits}{zone}")
    except ValueError as error:
        raise NodeError(f"time {value!r} does not exist: {error}") from error
    return moment.astimezone(UTC)


def _probe_document(text: str) -> Mapping[str, object]:
    for line in reversed(text.splitlines()):
        if not line.startswith("{"):
            continue
        try:
            return _object(json.loads(line), "probe")
        except json.JSONDecodeError as error:
            raise NodeError(f"probe: not JSON: {error}: {line[:120]!r}") from error
    raise NodeError(f"probe: no JSON object in the node's answer: {text[-200:]!r}")


def _gpu(entry: object) -> GpuFacts:
    record = _object(entry, "probe: gpu")
    uuid = _text(record, "uuid", "probe: gpu")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,127}", uuid):
        raise NodeError(f"probe: gpu: uuid {uuid!r} is not a GPU's identifier")
    return GpuFacts(
        uuid=uuid,
        model=_text(record, "model", "probe: gpu"),
        minor=_integer(record, "minor", "probe: gpu"),
        memory_mib=_integer(record, "memory_mib", "probe: gpu"),
        memory_used_mib=_optional_integer(record, "memory_used_mib", "probe: gpu"),
        utilization_percent=_optional_integer(
            record, "utilization_percent", "probe: gpu"
        ),
        process_pids=tuple(
            sorted(set(_integers(record, "process_pids", "probe: gpu")))
        ),
    )


def _state(word: str) -> ContainerState:
    try:
        return ContainerState(word)
    except ValueError as error:
        raise NodeError(f"container state {word!r} is unknown") from error


def _code_in_status(status: str) -> int | None:
    match = re.match(r"(?:Exited|Dead) \((-?[0-9]{1,10})\)", status)
    return int(match[1]) if match else None


def _object(value: object, where: str) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise NodeError(f"{where}: expected an object, got {type(value).__name__}")
    return value


def _labels(value: object, where: str) -> dict[str, str]:
    if value is None:
        return {}
    pairs = _object(value, f"{where}: labels")
    return {str(key): str(item) for key, item in pairs.items()}


def _list(record: Mapping[str, object], key: str, where: str) -> list[object]:
    value = record.get(key)
    if not isinstance(value, list):
        raise NodeError(f"{where}: {key} is {value!r}; expected a list")
    return value


def _text(record: Mapping[str, object], key: str, where: str) -> str:
    value = record.get(key)
    if not isinstance(value, str):
        raise NodeError(f"{where}: {key} is {value!r}; expected text")
    return value


def _optional_text(record: Mapping[str, object], key: str, where: str) -> str | None:
    return None if record.get(key) is None else _text(record, key, where)


def _integer(record: Mapping[str, object], key: str, where: str) -> int:
    value = record.get(key)
    if not isinstance(value, int) or isinstance(value, bool):
        raise NodeError(f"{where}: {key} is {value!r}; expected a whole number")
    return value


def _optional_integer(record: Mapping[str, object], key: str, where: str) -> int | None:
    return None if record.get(key) is None else _integer(record, key, where)


def _integers(record: Mapping[str, object], key: str, where: str) -> list[int]:
    values = _list(record, key, where)
    return [_integer({key: value}, key, where) for value in values]


def _number(record: Mapping[str, object], key: str, where: str) -> float:
    value = record.get(key)
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise NodeError(f"{where}: {key} is {value!r}; expected a number")
    return float(value)
