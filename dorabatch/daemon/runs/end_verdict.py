"""An attempt has ended: what is its outcome, and does another attempt follow?

Whoever ended it, the job, dockerd or the machine, is told by facts of the node alone:
when the run began and ended, and since when the machine and its dockerd have been up.
Work that ended well is never done again.

Pure: facts and settings in, a verdict out; writes nothing.
"""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta

from dorabatch.config import LaunchSettings
from dorabatch.node.facts import CODES_OF_A_STOP, Circumstances, ContainerFacts
from dorabatch.queue.records import Container
from dorabatch.queue.states import AfterStop, Outcome

GOING_DOWN_SECONDS = 60.0
"""So long may dockerd stop containers until it goes; nobody waits for it longer."""
_BACKOFF_DOUBLINGS_MAX = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What follows an attempt's end."""

    after: AfterStop
    outcome: Outcome | None
    reason: str
    fast_failures: int = 0
    wait_seconds: float = 0.0

    def next_try_at(self, now: datetime) -> datetime | None:
        """When another attempt may be made; None: at once."""
        if not self.wait_seconds:
            return None
        return now + timedelta(seconds=self.wait_seconds)


def is_the_jobs(facts: ContainerFacts | None) -> bool:
    """Whether the container alone tells that its job ended it, or ended well."""
    if facts is None or facts.started_at is None:
        return False
    return facts.exit_code == 0 or facts.oom_killed


def is_open(facts: ContainerFacts | None, around: Circumstances | None) -> bool:
    """Whether it is not known yet who ended it.

    This dockerd sent it a signal: because somebody wanted that, or because it goes
    down, which shows within a while.
    """
    if facts is None or around is None or is_the_jobs(facts):
        return False
    if not around.was_signalled or facts.finished_at is None:
        return False
    if _is_dockers_end(facts, around):
        return False
    age = (around.now - facts.finished_at).total_seconds()
    return facts.exit_code in CODES_OF_A_STOP and age < GOING_DOWN_SECONDS


def verdict_on_exit(
    container: Container,
    facts: ContainerFacts | None,
    *,
    restarts_always: bool,
    around: Circumstances | None,
    launch: LaunchSettings,
) -> Verdict:
    """The verdict on an attempt that ended without being asked to.

    `around` may be left out where the job has ended it (see `is_the_jobs`).
    """
    interruption = _interruption(container, facts, around)
    if interruption:
        return _interrupted(interruption, launch)
    assert facts is not None
    code = facts.exit_code if facts.exit_code is not None else 255
    if restarts_always:
        return _restart(container, facts, code, launch)
    if facts.oom_killed and code:
        limit = container.hold.memory_mib if container.hold else 0
        text = f"out of memory: used more than its {limit} MiB (exit code {code})"
        return Verdict(after=AfterStop.FINISH, outcome=Outcome.FAILED, reason=text)
    if code:
        text = f"exit code {code}"
        return Verdict(after=AfterStop.FINISH, outcome=Outcome.FAILED, reason=text)
    return Verdict(after=AfterStop.FINISH, outcome=Outcome.DONE, reason="")


def _interruption(
    container: Container, facts: ContainerFacts | None, around: Circumstances | None
) -> str | None:
    if is_the_jobs(facts) or (around is None and facts is not None):
        return None
    if around is not None and _is_machines_end(container, facts, around):
        return "the node was restarted"
    if facts is None:
        return "the container was removed by somebody else"
    if around is not None and _is_dockers_end(facts, around):
        return "the node's Docker daemon was restarted"
    return None


def _is_machines_end(
    container: Container, facts: ContainerFacts | None, around: Circumstances
) -> bool:
    """Another boot than at the start, and it began before this one."""
    then = container.hold.boot_id if container.hold else ""
    if not then or then == around.boot_id:
        return False
    if facts is None or facts.started_at is None or around.booted_at is None:
        return True
    return facts.started_at < around.booted_at


def _is_dockers_end(facts: ContainerFacts, around: Circumstances) -> bool:
    """Stopped while an earlier dockerd went down, was away, or the next one came up."""
    began, started = around.docker_began_at, facts.started_at
    if facts.exit_code not in CODES_OF_A_STOP or began is None or started is None:
        return False
    if started >= began:
        return False
    if facts.finished_at is None or facts.finished_at < began:
        return True
    # A dockerd that was killed leaves them running; the next one stops them first.
    return not around.keeps_containers


def _interrupted(why: str, launch: LaunchSettings) -> Verdict:
    if launch.interrupted == "requeue":
        return Verdict(after=AfterStop.REQUEUE, outcome=Outcome.NODE_LOST, reason=why)
    return Verdict(after=AfterStop.FINISH, outcome=Outcome.NODE_LOST, reason=why)


def _restart(
    container: Container, facts: ContainerFacts, code: int, launch: LaunchSettings
) -> Verdict:
    ran = 0.0
    if facts.started_at and facts.finished_at:
        ran = (facts.finished_at - facts.started_at).total_seconds()
    is_fast = ran < launch.fast_failure_seconds
    fast = container.fast_failures + 1 if is_fast else 0
    if fast >= launch.fast_failures_max:
        reason = (
            f"gave up restarting: {fast} runs in a row ended within "
            f"{launch.fast_failure_seconds:g} s, the last with exit code {code}"
        )
        return Verdict(
            after=AfterStop.FINISH,
            outcome=Outcome.FAILED,
            reason=reason,
            fast_failures=fast,
        )
    doublings = min(max(fast - 1, 0), _BACKOFF_DOUBLINGS_MAX)
    return Verdict(
        after=AfterStop.RESTART,
        outcome=Outcome.FAILED if code else Outcome.DONE,
        reason=f"exit code {code}; restartPolicy Always",
        fast_failures=fast,
        wait_seconds=launch.restart_backoff_seconds * 2**doublings,
    )


def verdict_on_start_failure(
    container: Container, message: str, *, is_final: bool, launch: LaunchSettings
) -> Verdict:
    """The verdict when an image cannot be had or Docker refuses the start."""
    if is_final or container.start_failures + 1 >= launch.start_failures_max:
        return Verdict(after=AfterStop.FINISH, outcome=Outcome.FAILED, reason=message)
    wait = launch.restart_backoff_seconds * 2**container.start_failures
    return Verdict(
        after=AfterStop.REQUEUE,
        outcome=Outcome.FAILED,
        reason=message,
        wait_seconds=wait,
    )


_USERS_WORDS = (
    "manifest unknown",
    "name unknown",
    "repository does not exist",
    "pull access denied",
    "invalid reference format",
    "minimum memory limit allowed",
    "needs to be an absolute path",
)
"""The registry's own answer on what is not there, and Docker's on a bad option."""
_USERS_SHAPES = (
    re.compile(r'failed to resolve reference "[^"]*": \S+: not found'),
    re.compile(r'exec: "[^"]*": executable file not found in \$path'),
)
_NODES_WORDS = ("hook #", "nvidia-", "containerd-shim", "oci runtime error (")
"""A part of the node's own container runtime is missing or broken."""


def is_users_fault(message: str) -> bool:
    """Whether trying elsewhere surely cannot help: no such image, command or option.

    What may be one node's trouble (a hook, a mount, a right) is tried elsewhere.
    """
    lowered = message.lower()
    if any(word in lowered for word in _USERS_WORDS):
        return True
    if any(word in lowered for word in _NODES_WORDS):
        return False
    return any(shape.search(lowered) for shape in _USERS_SHAPES)
