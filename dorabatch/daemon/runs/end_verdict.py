"""An attempt has ended: what is its outcome, and does another attempt follow?

Whoever ended it, the job, dockerd or the machine, is told by facts of the node alone:
when the run began and ended, and since when the machine and its dockerd have been up.
Work that ended well is never done again.

Pure: facts and settings in, a verdict out; writes nothing.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from dorabatch.config import LaunchSettings
from dorabatch.daemon.runs.start_fault import Fault
from dorabatch.node.facts import CODES_OF_A_STOP, Circumstances, ContainerFacts
from dorabatch.queue.records import Container
from dorabatch.queue.states import AfterStop, Outcome, State

GOING_DOWN_SECONDS = 60.0
"""So long may dockerd stop containers until it goes; nobody waits for it longer."""
_BACKOFF_DOUBLINGS_MAX = 6
_UNCLEAR_REQUEUES = 2
"""So often is tried elsewhere what may be the workload's own fault."""
LONG_RUN = timedelta(days=1)
"""A run that was lost after so long says nothing against its job: it counts anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What follows an attempt's end.

    `lost_requeues` is how often it was queued again after lost attempts, this one
    included; `detail` is said in the history behind the reason.
    """

    after: AfterStop
    outcome: Outcome | None
    reason: str
    lost_requeues: int
    detail: str = ""
    fast_failures: int = 0
    wait_seconds: float = 0.0

    @property
    def told(self) -> str:
        """The reason as the history has it."""
        return f"{self.reason}; {self.detail}" if self.detail else self.reason

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
        return _interrupted(container, interruption, facts, around, launch)
    assert facts is not None
    code = facts.exit_code if facts.exit_code is not None else 255
    if restarts_always:
        return _restart(container, facts, code, launch)
    if facts.oom_killed and code:
        limit = container.hold.memory_mib if container.hold else 0
        text = f"out of memory: used more than its {limit} MiB (exit code {code})"
        return _finish(container, Outcome.FAILED, text)
    if code:
        return _finish(container, Outcome.FAILED, f"exit code {code}")
    return _finish(container, Outcome.DONE, "")


def _finish(container: Container, outcome: Outcome, reason: str) -> Verdict:
    return Verdict(
        after=AfterStop.FINISH,
        outcome=outcome,
        reason=reason,
        lost_requeues=container.lost_requeues,
    )


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


def _interrupted(
    container: Container,
    why: str,
    facts: ContainerFacts | None,
    around: Circumstances | None,
    launch: LaunchSettings,
) -> Verdict:
    if launch.interrupted != "requeue":
        return _finish(container, Outcome.NODE_LOST, why)
    started, end = container.started_at, around.now if around else None
    if facts is not None:
        started, end = facts.started_at or started, facts.finished_at or end
    return _lost_run(container, why, started, end, launch)


def _lost_run(
    container: Container,
    why: str,
    started: datetime | None,
    end: datetime | None,
    launch: LaunchSettings,
) -> Verdict:
    """Queued again for a run that was lost; the first time again after a long one."""
    was_long = started is not None and end is not None and end - started >= LONG_RUN
    before = 0 if was_long else container.lost_requeues
    return _lost(container, why, Outcome.NODE_LOST, before, launch.lost_requeues_max)


def verdict_on_loss(
    container: Container,
    on_lost: str,
    why: str,
    ended_at: datetime,
    launch: LaunchSettings,
) -> Verdict:
    """The verdict on an attempt whose node will not tell: by the workload's policy.

    What was never begun is queued again and lost nothing; `wait` says nothing of what
    follows a loss, and the site's rule on interrupted runs does.
    """
    if container.state is State.PLACED:
        return Verdict(
            after=AfterStop.REQUEUE,
            outcome=Outcome.NODE_LOST,
            reason=why,
            lost_requeues=container.lost_requeues,
        )
    action = launch.interrupted if on_lost == "wait" else on_lost
    if action != "requeue":
        return _finish(container, Outcome.NODE_LOST, why)
    return _lost_run(container, why, container.started_at, ended_at, launch)


def verdict_on_lost_start(container: Container, launch: LaunchSettings) -> Verdict:
    """The verdict on a start that was begun and whose container is not there.

    Nobody knows whether it has run: the same attempt is never started again.
    """
    why = "its start was interrupted, and its container is not there"
    before, most = container.lost_requeues, launch.lost_requeues_max
    return _lost(container, why, Outcome.NODE_LOST, before, most)


def _lost(
    container: Container, why: str, outcome: Outcome, before: int, most: int
) -> Verdict:
    """Queued again, unless that was done too often."""
    if before >= most:
        times = "once" if before == 1 else f"{before} times"
        reason = f"{why}; gave up after it was queued again {times} for lost attempts"
        return _finish(container, outcome, reason if before else why)
    return Verdict(
        after=AfterStop.REQUEUE,
        outcome=outcome,
        reason=why,
        lost_requeues=before + 1,
        detail=f"queued again, {before + 1} of at most {most} times for lost attempts",
    )


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
            lost_requeues=container.lost_requeues,
            fast_failures=fast,
        )
    doublings = min(max(fast - 1, 0), _BACKOFF_DOUBLINGS_MAX)
    return Verdict(
        after=AfterStop.RESTART,
        outcome=Outcome.FAILED if code else Outcome.DONE,
        reason=f"exit code {code}; restartPolicy Always",
        lost_requeues=container.lost_requeues,
        fast_failures=fast,
        wait_seconds=launch.restart_backoff_seconds * 2**doublings,
    )


def verdict_on_start_failure(
    container: Container, message: str, fault: Fault, launch: LaunchSettings
) -> Verdict:
    """The verdict when an image cannot be had or Docker refuses the start."""
    before, most = container.lost_requeues, launch.lost_requeues_max
    if fault is Fault.JOB:
        return _finish(container, Outcome.FAILED, message)
    if fault is Fault.UNCLEAR:
        most = min(most, _UNCLEAR_REQUEUES)
        return _lost(container, message, Outcome.FAILED, before, most)
    if fault in (Fault.NODE, Fault.PLACE):
        return _lost(container, message, Outcome.NODE_LOST, before, most)
    return Verdict(
        after=AfterStop.REQUEUE,
        outcome=Outcome.NODE_LOST,
        reason=message,
        lost_requeues=before,
    )
