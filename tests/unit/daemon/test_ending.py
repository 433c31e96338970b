"""Verdicts on the end of an attempt, as a table."""

from dataclasses import replace

import pytest

from dorabatch.config import LaunchSettings
from dorabatch.daemon.runs.end_verdict import (
    LONG_RUN,
    Verdict,
    is_open,
    verdict_on_exit,
    verdict_on_lost_start,
    verdict_on_start_failure,
)
from dorabatch.daemon.runs.start_fault import Fault
from dorabatch.node.facts import Circumstances, ContainerFacts, ContainerState
from dorabatch.queue.states import AfterStop, Outcome, State
from tests.makers import container, hold, later

QUIET = Circumstances(
    boot_id="boot-1",
    now=later(1000),
    booted_at=later(-900),
    docker_began_at=later(-800),
)
"""Dockerd was up all the time."""
AWAY = replace(QUIET, docker_began_at=later(100))
"""Another dockerd has come up since."""
CAME_UP = replace(QUIET, docker_began_at=later(50))
"""The dockerd before it was killed, and this one ended what still ran at 60 s."""
OUTLIVED = replace(CAME_UP, keeps_containers=True)
REBOOT = replace(AWAY, boot_id="boot-2", booted_at=later(90))
PLACED_BEFORE = replace(QUIET, boot_id="boot-2", booted_at=later(-5))
"""Another boot than the record's, but it began before the run did."""
JUST_NOW = replace(QUIET, was_signalled=True, now=later(62))
LAUNCH = LaunchSettings()
RUNNING = container(state=State.RUNNING, hold=hold(), attempt=1)


def ended(code: int | None, *, ran: float = 60, oom: bool = False) -> ContainerFacts:
    """What Docker tells of a container that ran so many seconds."""
    return ContainerFacts(
        name="x",
        container_id="d1",
        state=ContainerState.EXITED,
        exit_code=code,
        started_at=later(0),
        finished_at=later(ran),
        oom_killed=oom,
    )


def verdict(
    facts: ContainerFacts | None, around: Circumstances | None, **options: object
) -> Verdict:
    """The verdict; fast, requeues, restarts and launch may be set."""
    one = replace(
        RUNNING,
        fast_failures=options.get("fast", 0),
        lost_requeues=options.get("requeues", 0),
    )
    return verdict_on_exit(
        one,
        facts,
        restarts_always=bool(options.get("restarts", False)),
        around=around,
        launch=options.get("launch", LAUNCH),  # type: ignore[arg-type]
    )


@pytest.mark.mission("M52")
@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize(
    ("facts", "around", "words"),
    [
        (None, QUIET, "removed by somebody else"),
        (None, AWAY, "removed by somebody else"),
        (None, REBOOT, "node was restarted"),
        (ended(1), REBOOT, "node was restarted"),
        (ended(255), REBOOT, "node was restarted"),
        (ended(143), replace(REBOOT, booted_at=None), "node was restarted"),
        (ended(255), AWAY, "Docker daemon was restarted"),
        (ended(137), AWAY, "Docker daemon was restarted"),
        (ended(143), AWAY, "Docker daemon was restarted"),
        (ended(None), AWAY, "Docker daemon was restarted"),
        (ended(137), CAME_UP, "Docker daemon was restarted"),
        (ended(137, ran=40), OUTLIVED, "Docker daemon was restarted"),
    ],
)
def test_an_interruption_goes_back_to_the_queue_or_fails(
    facts: ContainerFacts | None, around: Circumstances, words: str, restarts: bool
) -> None:
    found = verdict(facts, around, restarts=restarts)
    assert (found.after, found.outcome) == (AfterStop.REQUEUE, Outcome.NODE_LOST)
    assert words in found.reason
    gives_up = LaunchSettings(interrupted="fail")
    found = verdict(facts, around, restarts=restarts, launch=gives_up)
    assert (found.after, found.outcome) == (AfterStop.FINISH, Outcome.NODE_LOST)


@pytest.mark.mission("M38")
@pytest.mark.parametrize("around", [QUIET, AWAY, CAME_UP, REBOOT, PLACED_BEFORE, None])
def test_what_ended_well_is_done_whatever_happened(
    around: Circumstances | None,
) -> None:
    done = Verdict(
        after=AfterStop.FINISH, outcome=Outcome.DONE, reason="", lost_requeues=0
    )
    assert verdict(ended(0), around) == done
    again = verdict(ended(0), around, restarts=True)
    assert (again.after, again.outcome) == (AfterStop.RESTART, Outcome.DONE)


@pytest.mark.mission("M38")
@pytest.mark.parametrize(
    ("facts", "around", "outcome", "reason"),
    [
        (ended(1), QUIET, Outcome.FAILED, "exit code 1"),
        (ended(1), AWAY, Outcome.FAILED, "exit code 1"),
        (ended(1), PLACED_BEFORE, Outcome.FAILED, "exit code 1"),
        (ended(137), QUIET, Outcome.FAILED, "exit code 137"),
        (ended(143), PLACED_BEFORE, Outcome.FAILED, "exit code 143"),
        (ended(143), OUTLIVED, Outcome.FAILED, "exit code 143"),
        (ended(None), QUIET, Outcome.FAILED, "exit code 255"),
        (
            ended(143),
            replace(QUIET, docker_began_at=None),
            Outcome.FAILED,
            "exit code 143",
        ),
        *(
            (
                ended(137, oom=True),
                around,
                Outcome.FAILED,
                "out of memory: used more than its 1024 MiB (exit code 137)",
            )
            for around in (QUIET, AWAY, REBOOT, None)
        ),
    ],
)
def test_an_end_of_its_own(
    facts: ContainerFacts, around: Circumstances, outcome: Outcome, reason: str
) -> None:
    found = verdict(facts, around)
    assert found == Verdict(
        after=AfterStop.FINISH, outcome=outcome, reason=reason, lost_requeues=0
    )


@pytest.mark.parametrize(
    ("facts", "around", "waits"),
    [
        (ended(143), JUST_NOW, True),
        (ended(137), JUST_NOW, True),
        (ended(143), replace(JUST_NOW, now=later(121)), False),
        (ended(143), replace(JUST_NOW, was_signalled=False), False),
        (ended(143), replace(JUST_NOW, docker_began_at=later(61)), False),
        (ended(1), JUST_NOW, False),
        (ended(0), JUST_NOW, False),
        (ended(137, oom=True), JUST_NOW, False),
        (ended(143), None, False),
        (None, JUST_NOW, False),
    ],
)
def test_what_docker_signalled_waits_for_its_going_down(
    facts: ContainerFacts | None, around: Circumstances | None, waits: bool
) -> None:
    assert is_open(facts, around) is waits


@pytest.mark.parametrize(
    ("fast", "ran", "fast_after", "wait"),
    [
        (0, 1, 1, 1.0),
        (1, 1, 2, 2.0),
        (2, 1, 3, 4.0),
        (3, 9.9, 4, 8.0),
        (3, 10, 0, 1.0),
        (4, 3600, 0, 1.0),
    ],
)
def test_restarts_back_off_while_runs_are_short(
    fast: int, ran: float, fast_after: int, wait: float
) -> None:
    found = verdict(ended(1, ran=ran), QUIET, restarts=True, fast=fast)
    assert (found.after, found.outcome) == (AfterStop.RESTART, Outcome.FAILED)
    assert (found.fast_failures, found.wait_seconds) == (fast_after, wait)


@pytest.mark.mission("M38")
def test_restarts_go_on_after_success() -> None:
    found = verdict(ended(0), QUIET, restarts=True)
    assert (found.after, found.outcome) == (AfterStop.RESTART, Outcome.DONE)


def test_restarts_end_after_too_many_short_runs() -> None:
    found = verdict(ended(3, ran=1), QUIET, restarts=True, fast=4)
    assert (found.after, found.outcome) == (AfterStop.FINISH, Outcome.FAILED)
    assert "5 runs in a row ended within 10 s" in found.reason
    assert "exit code 3" in found.reason


def test_the_back_off_is_bounded() -> None:
    many = LaunchSettings(fast_failures_max=1000)
    found = verdict(ended(1, ran=1), QUIET, restarts=True, fast=500, launch=many)
    assert found.wait_seconds == 64.0


@pytest.mark.parametrize(
    ("fault", "requeues", "after", "outcome", "counted"),
    [
        (Fault.JOB, 0, AfterStop.FINISH, Outcome.FAILED, 0),
        (Fault.NODE, 0, AfterStop.REQUEUE, Outcome.NODE_LOST, 1),
        (Fault.NODE, 4, AfterStop.REQUEUE, Outcome.NODE_LOST, 5),
        (Fault.NODE, 5, AfterStop.FINISH, Outcome.NODE_LOST, 5),
        (Fault.PLACE, 4, AfterStop.REQUEUE, Outcome.NODE_LOST, 5),
        (Fault.UNCLEAR, 1, AfterStop.REQUEUE, Outcome.FAILED, 2),
        (Fault.UNCLEAR, 2, AfterStop.FINISH, Outcome.FAILED, 2),
        (Fault.REGISTRY, 0, AfterStop.REQUEUE, Outcome.NODE_LOST, 0),
        (Fault.REGISTRY, 5, AfterStop.REQUEUE, Outcome.NODE_LOST, 5),
    ],
)
def test_start_failures(
    fault: Fault, requeues: int, after: AfterStop, outcome: Outcome, counted: int
) -> None:
    one = container(state=State.STARTING, hold=hold(), lost_requeues=requeues)
    found = verdict_on_start_failure(one, "no", fault, LAUNCH)
    assert (found.after, found.outcome) == (after, outcome)
    assert (found.lost_requeues, found.wait_seconds) == (counted, 0.0)
    gave_up = after is AfterStop.FINISH and fault is not Fault.JOB
    times = f"gave up after it was queued again {requeues} times for lost attempts"
    assert found.reason == (f"no; {times}" if gave_up else "no")


def test_a_limit_of_no_requeue_at_all() -> None:
    one = container(state=State.STARTING, hold=hold())
    none = LaunchSettings(lost_requeues_max=0)
    found = verdict_on_start_failure(one, "no", Fault.NODE, none)
    assert (found.after, found.reason) == (AfterStop.FINISH, "no")


def test_lost_runs_have_a_limit() -> None:
    found = verdict(ended(255), REBOOT, requeues=4)
    assert (found.after, found.lost_requeues) == (AfterStop.REQUEUE, 5)
    assert found.told == (
        "the node was restarted; queued again, 5 of at most 5 times for lost attempts"
    )
    over = verdict(ended(255), REBOOT, requeues=5)
    assert (over.after, over.outcome) == (AfterStop.FINISH, Outcome.NODE_LOST)
    assert over.reason == (
        "the node was restarted; gave up after it was queued again 5 times for lost "
        "attempts"
    )


def test_a_long_run_counts_its_losses_anew() -> None:
    long = ended(255, ran=LONG_RUN.total_seconds())
    found = verdict(long, REBOOT, requeues=5)
    assert (found.after, found.lost_requeues) == (AfterStop.REQUEUE, 1)


def test_an_end_of_its_own_keeps_the_count() -> None:
    assert verdict(ended(1), QUIET, requeues=3).lost_requeues == 3


def test_a_start_that_was_lost_is_another_attempt() -> None:
    one = container(state=State.STARTING, hold=hold(), lost_requeues=1)
    found = verdict_on_lost_start(one, LAUNCH)
    assert (found.after, found.outcome) == (AfterStop.REQUEUE, Outcome.NODE_LOST)
    assert found.lost_requeues == 2
