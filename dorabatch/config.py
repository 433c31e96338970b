"""Settings of the daemon: built-in defaults < YAML file < environment.

Reads its inputs once at start and refuses what it does not know; holds no state and
never looks at the database or a node.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from zoneinfo import available_timezones

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from dorabatch.errors import ConfigError

ENVIRONMENT_PREFIX = "DORABATCH_"
_NESTING = "__"

Seconds = Annotated[float, Field(gt=0, le=10 * 365 * 86400)]
Count = Annotated[int, Field(ge=1)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _check_time_zone(name: str) -> str:
    if name not in available_timezones():
        raise ValueError("no such time zone; write one such as Europe/Rome")
    return name


class SshSettings(_Section):
    """How the daemon reaches its nodes."""

    key_file: Path = Path("/etc/dorabatch/id_ed25519")
    user: str = "root"
    port: Annotated[int, Field(ge=1, le=65535)] = 22
    connect_seconds_max: Seconds = 5.0
    answer_seconds_max: Seconds = 30.0


class NodeSettings(_Section):
    """When nodes are looked at, and when silence counts."""

    poll_seconds: Seconds = 5.0
    probe_seconds: Seconds = 60.0
    unreachable_after_seconds: Seconds = 12.0
    launches_at_once: Count = 8
    pulls_at_once: Count = 4
    orphan_grace_seconds: Seconds = 60.0
    on_lost: Literal["wait", "requeue", "fail"] = "wait"
    lost_after_seconds: Seconds = 3600.0
    pull_seconds_max: Seconds = 1800.0
    refusals_max: Count = 3
    refusing_retry_seconds: Seconds = 60.0
    skip_used_gpus: bool = False


class LaunchSettings(_Section):
    """What happens around the start and the end of a container."""

    lost_requeues_max: Annotated[int, Field(ge=0)] = 5
    avoid_node_seconds: Seconds = 30.0
    registry_retry_seconds: Seconds = 2.0
    fast_failure_seconds: Seconds = 10.0
    fast_failures_max: Count = 5
    restart_backoff_seconds: Seconds = 1.0
    interrupted: Literal["requeue", "fail"] = "requeue"
    stop_grace_seconds: Seconds = 10.0


class ContainerSettings(_Section):
    """Bounds and permissions of every container."""

    pids_max: Count = 4096
    log_bytes_max: Count = 50_000_000
    host_network: bool = False
    gpu_shares: bool = False


class LimitSettings(_Section):
    """Bounds of what one request, user or cycle may take."""

    body_bytes_max: Count = 1_048_576
    pending_max: Count = 1_000_000
    replicas_max: Count = 10_000
    ended_kept_in_memory: Count = 20_000


class ApiSettings(_Section):
    """What may be open at the socket, how large it may be, and how long it may take.

    Root and the admins have a reserve of connections, and no limits of their own.
    """

    connections_max: Annotated[int, Field(ge=4)] = 4096
    connections_reserved: Count = 64
    connections_per_user: Count = 800
    requests_per_user: Count = 32
    streams_per_user: Count = 512
    head_seconds_max: Seconds = 10.0
    body_seconds_max: Seconds = 30.0
    idle_seconds_max: Seconds = 30.0
    line_bytes_max: Count = 65536
    head_bytes_max: Count = 131072
    headers_max: Count = 100

    @model_validator(mode="after")
    def _leave_room(self) -> Self:
        room = self.connections_max - self.connections_reserved
        if self.connections_per_user >= room:
            raise ValueError(
                f"connections_per_user is {self.connections_per_user}, which leaves "
                f"nothing to others; it must be below {room}, connections_max less "
                "connections_reserved"
            )
        return self


class CycleSettings(_Section):
    """The rhythm of the scheduling cycle."""

    interval_seconds_min: Seconds = 0.05
    interval_seconds_max: Seconds = 5.0
    placement_policy: Literal["default", "first-fit", "best-fit", "random"] = "default"
    seed: int = 0
    reservations: Annotated[int, Field(ge=0, le=16)] = 1


class MailSettings(_Section):
    """The relay that mail is handed to; without a host nothing is sent."""

    host: str = ""
    port: Annotated[int, Field(ge=1, le=65535)] = 25
    security: Literal["none", "starttls", "tls"] = "none"
    user: str = ""
    password_file: Path | None = None
    sender: Annotated[str, Field(pattern=r"^[^@\s<>]+@[^@\s<>]+$")] = "dora@localhost"
    domain: Annotated[str, Field(pattern=r"^[^@\s<>]*$")] = ""
    admins: tuple[Annotated[str, Field(pattern=r"^[^\s<>]+$")], ...] = ()
    answer_seconds_max: Seconds = 30.0
    retry_seconds: Seconds = 60.0
    give_up_seconds: Seconds = 172800.0
    kept_seconds: Seconds = 7776000.0
    waiting_max: Count = 10_000


class ResetSettings(_Section):
    """The local moment at which a week of credits begins."""

    weekday: Literal[
        "monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"
    ] = "monday"
    hour: Annotated[int, Field(ge=0, le=23)] = 0
    time_zone: Annotated[str, AfterValidator(_check_time_zone)] = "UTC"


class CreditSettings(_Section):
    """Charging, and what happens at the limit."""

    tick_seconds: Seconds = 300.0
    open_ended_seconds: Seconds = 3600.0
    lock_prices: bool = True
    on_exhaust: Literal["demote", "hold", "stop"] = "stop"
    rollover: Annotated[float, Field(ge=0, le=1)] = 0.0
    grace_seconds: Annotated[float, Field(ge=0, le=3600)] = 300.0
    refund_lost_runs: bool = True
    reset: ResetSettings = ResetSettings()


class RightsSettings(_Section):
    """What people may do of whom nothing was declared, and see of each other.

    `see_others`: of what others run the list shows nothing, its place in the queue,
    names too, images too; or everything may be looked at.
    """

    default_role: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")] = "user"
    see_others: Literal["nothing", "queue", "names", "images", "all"] = "queue"


class Settings(_Section):
    """All settings of one daemon."""

    zone: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")] = "dc-rov-01"
    socket: Path = Path("/run/dorabatch/dorad.sock")
    socket_mode: Annotated[
        str, Field(pattern=r"^0?[0-7]{3}$", coerce_numbers_to_str=True)
    ] = "666"
    state_dir: Path = Path("/var/lib/dorabatch")
    database: str = ""
    admins: tuple[str, ...] = ("root",)
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["text", "json"] = "text"
    ssh: SshSettings = SshSettings()
    node: NodeSettings = NodeSettings()
    launch: LaunchSettings = LaunchSettings()
    containers: ContainerSettings = ContainerSettings()
    limits: LimitSettings = LimitSettings()
    api: ApiSettings = ApiSettings()
    cycle: CycleSettings = CycleSettings()
    mail: MailSettings = MailSettings()
    policy: dict[str, Any] = {}
    credits: CreditSettings = CreditSettings()
    rights: RightsSettings = RightsSettings()

    @property
    def database_url(self) -> str:
        """The SQLAlchemy URL; the embedded SQLite file unless one is set."""
        return self.database or f"sqlite:///{self.state_dir / 'dorabatch.db'}"


def read_settings(path: Path | None, environment: Mapping[str, str]) -> Settings:
    """Settings from a file (may be None) and DORABATCH_* variables.

    Raises ConfigError naming the file or variable, the key, the value, what is allowed.
    """
    from_file = _read_file(path) if path else {}
    values = _merge(from_file, _from_environment(environment))
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        raise ConfigError(_sentence(error, path)) from error


def _read_file(path: Path) -> dict[str, Any]:
    try:
        loaded = yaml.safe_load(path.read_text())
    except OSError as error:
        raise ConfigError(f"settings file {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"settings file {path} is not YAML: {error}") from error
    if loaded is None:
        return {}
    if not isinstance(loaded, dict):
        raise ConfigError(f"settings file {path}: expected keys and values at the top")
    return loaded


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for name, value in sorted(environment.items()):
        if not name.startswith(ENVIRONMENT_PREFIX):
            continue
        keys = name.removeprefix(ENVIRONMENT_PREFIX).lower().split(_NESTING)
        if keys[0] not in Settings.model_fields:
            continue
        branch = tree
        for key in keys[:-1]:
            branch = branch.setdefault(key, {})
            if not isinstance(branch, dict):
                raise ConfigError(
                    f"environment: {name} and a variable for the whole section "
                    f"{key!r} are both set; keep one of them"
                )
        branch[keys[-1]] = _environment_value(value)
    return tree


def _environment_value(text: str) -> Any:
    try:
        return yaml.safe_load(text) if text else text
    except yaml.YAMLError:
        return text


def _merge(lower: Mapping[str, Any], upper: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(lower)
    for key, value in upper.items():
        old = merged.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            value = _merge(old, value)
        merged[key] = value
    return merged


def _sentence(error: ValidationError, path: Path | None) -> str:
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    where = str(path) if path else "environment"
    if first["type"] == "extra_forbidden":
        known = ", ".join(sorted(_known_keys(first["loc"])))
        return f"{where}: unknown setting {key!r} (known there: {known})"
    return f"{where}: {key} = {first['input']!r}: {first['msg']}"


def _known_keys(location: tuple[int | str, ...]) -> list[str]:
    section: type[BaseModel] = Settings
    for part in location[:-1]:
        annotation = section.model_fields[str(part)].annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            section = annotation
    return list(section.model_fields)
