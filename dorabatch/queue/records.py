"""What is known of a workload, of its containers and of one attempt.

Pure: frozen values, equal to rows of the database; they decide nothing.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import NewType

from dorabatch.queue.states import AfterStop, Outcome, State

WHOLE_GPU_MILLI = 1000

WorkloadId = NewType("WorkloadId", int)
ContainerId = NewType("ContainerId", int)


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitter:
    """Who a workload runs for, as the kernel told it."""

    user: str
    uid: int
    gid: int
    groups: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StartHold:
    """Somebody wants that nothing of a workload starts, until it is released."""

    by: str
    reason: str = ""

    @property
    def words(self) -> str:
        """`held by ana: checks the data first`."""
        return (
            f"held by {self.by}: {self.reason}" if self.reason else f"held by {self.by}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class NewWorkload:
    """An admitted submission, not yet stored."""

    zone: str
    workspace: str
    name: str
    submitter: Submitter
    spec_json: str
    spec_digest: str
    replicas: int
    submission_key: str | None
    submitted_at: datetime
    start_hold: StartHold | None = None
    dependency: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What a user wants; `start_hold` is set while nothing of it may start.

    `dependency` is what it waits for, with ids in place of names; empty: nothing.
    """

    workload_id: WorkloadId
    zone: str
    workspace: str
    name: str
    submitter: Submitter
    spec_json: str
    spec_digest: str
    version: int
    replicas: int
    submission_key: str | None
    submitted_at: datetime
    ended_at: datetime | None = None
    start_hold: StartHold | None = None
    dependency: str = ""

    @property
    def submission(self) -> str:
        """What its history begins with."""
        hold = f", {self.start_hold.words}" if self.start_hold else ""
        waits = f", starts {self.dependency}" if self.dependency else ""
        return f"submitted by {self.submitter.user}{hold}{waits}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """What one attempt holds on a node. Memory in MiB, CPU in thousandths.

    `cores` are pinned exclusively; empty means a quota on the cores nobody pins.
    `boot_id` is the boot of its node: of the start, once it has started. `gpu_milli`
    below 1000 is a share of the one GPU in `gpus`, which others may hold shares of too.
    """

    node: str
    gpus: tuple[str, ...]
    gpu_models: tuple[str, ...]
    cores: tuple[int, ...]
    cpu_milli: int
    memory_mib: int
    ports: tuple[str, ...] = ()
    boot_id: str = ""
    gpu_milli: int = WHOLE_GPU_MILLI


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """One replica of a workload, with its present attempt.

    `rev` grows with each change and guards every write. `ready_at` is the moment
    before which a queued or placed container is not started (restart back-off).
    `lost_requeues` counts how often it was queued again after an attempt that was lost
    by no fault of its own.

    `trial_seconds` is how long the present attempt may run on trial; None: it is an
    ordinary one. `trial_stops` counts trials that were stopped, and `tried` tells that
    one outlived its time.
    """

    container_id: ContainerId
    workload_id: WorkloadId
    replica: int
    state: State
    rev: int
    version: int
    attempt: int
    queued_at: datetime
    ready_at: datetime | None = None
    hold: Hold | None = None
    docker_id: str | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    exit_code: int | None = None
    outcome: Outcome | None = None
    reason: str = ""
    after_stop: AfterStop | None = None
    fast_failures: int = 0
    lost_requeues: int = 0
    removed: bool = False
    trial_seconds: int | None = None
    trial_stops: int = 0
    tried: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One attempt of a container, kept for good."""

    container_id: ContainerId
    attempt: int
    version: int
    hold: Hold
    placed_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    exit_code: int | None = None
    outcome: Outcome | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Happening:
    """A dated event of a workload, for its history."""

    workload_id: WorkloadId
    at: datetime
    replica: int | None
    kind: str
    text: str


def billed_seconds(run: Run, now: datetime) -> int:
    """Whole seconds the attempt has run so far, or ran."""
    if run.started_at is None:
        return 0
    end = run.ended_at or now
    return max(0, int((end - run.started_at).total_seconds()))
