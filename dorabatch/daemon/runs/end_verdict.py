"""An attempt has ended: what is its outcome, and does another attempt follow?

Pure: facts and settings in, a verdict out; writes nothing.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from dorabatch.config import LaunchSettings
from dorabatch.node.facts import ContainerFacts
from dorabatch.queue.records import Container
from dorabatch.queue.states import AfterStop, Outcome

KILLED_BY_NODE_CODES = frozenset({255, 137, 143})
"""Exit codes that Docker reports when it, not the program, ended the container."""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class EndCircumstances:
    """What is known of the node around the end.

    `is_rebooted`: another boot id than at the start. `was_docker_away`: dockerd did
    not answer at some moment since the attempt was last seen running.
    """

    is_rebooted: bool
    was_docker_away: bool


def verdict_on_exit(
    container: Container,
    facts: ContainerFacts | None,
    *,
    restarts_always: bool,
    circumstances: EndCircumstances,
    launch: LaunchSettings,
) -> Verdict:
    """The verdict on an attempt that ended without being asked to."""
    interruption = _interruption(facts, circumstances)
    if interruption:
        return _interrupted(interruption, launch)
    assert facts is not None
    code = facts.exit_code if facts.exit_code is not None else 255
    if restarts_always:
        return _restart(container, facts, code, launch)
    if facts.oom_killed:
        limit = container.hold.memory_mib if container.hold else 0
        text = f"out of memory: used more than its {limit} MiB (exit code {code})"
        return Verdict(after=AfterStop.FINISH, outcome=Outcome.FAILED, reason=text)
    if code:
        text = f"exit code {code}"
        return Verdict(after=AfterStop.FINISH, outcome=Outcome.FAILED, reason=text)
    return Verdict(after=AfterStop.FINISH, outcome=Outcome.DONE, reason="")


def _interruption(facts: ContainerFacts | None, around: EndCircumstances) -> str | None:
    if facts is None:
        if around.is_rebooted:
            return "the node was restarted"
        return "the container was removed by somebody else"
    if around.is_rebooted:
        return "the node was restarted"
    if around.was_docker_away and facts.exit_code in KILLED_BY_NODE_CODES:
        return "the node's Docker daemon was restarted"
    return None


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


def is_users_fault(message: str) -> bool:
    """Whether trying again elsewhere cannot help: the image or command is wrong."""
    lowered = message.lower()
    signs = (
        "not found",
        "does not exist",
        "access denied",
        "denied",
        "no such image",
        "invalid reference",
        "executable file not found",
        "no such file or directory",
        "permission denied",
        "unauthorized",
        "manifest unknown",
    )
    return any(sign in lowered for sign in signs)
