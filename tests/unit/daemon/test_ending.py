"""Verdicts on the end of an attempt, as a table."""

from dataclasses import replace

import pytest

from dorabatch.config import LaunchSettings
from dorabatch.daemon.runs.end_verdict import (
    EndCircumstances,
    Verdict,
    is_users_fault,
    verdict_on_exit,
    verdict_on_start_failure,
)
from dorabatch.node.facts import ContainerFacts, ContainerState
from dorabatch.queue.states import AfterStop, Outcome, State
from tests.makers import container, hold, later

QUIET = EndCircumstances(is_rebooted=False, was_docker_away=False)
REBOOT = replace(QUIET, is_rebooted=True)
AWAY = replace(QUIET, was_docker_away=True)
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
    facts: ContainerFacts | None, around: EndCircumstances, **options: object
) -> Verdict:
    """The verdict; fast_failures, restarts and launch may be set."""
    one = replace(RUNNING, fast_failures=options.get("fast", 0))
    return verdict_on_exit(
        one,
        facts,
        restarts_always=bool(options.get("restarts", False)),
        circumstances=around,
        launch=options.get("launch", LAUNCH),  # type: ignore[arg-type]
    )


@pytest.mark.mission("M52")
@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize(
    ("facts", "around", "words"),
    [
        (None, QUIET, "removed by somebody else"),
        (None, REBOOT, "node was restarted"),
        (ended(0), REBOOT, "node was restarted"),
        (ended(255), AWAY, "Docker daemon was restarted"),
        (ended(137), AWAY, "Docker daemon was restarted"),
        (ended(143), AWAY, "Docker daemon was restarted"),
    ],
)
def test_an_interruption_goes_back_to_the_queue_or_fails(
    facts: ContainerFacts | None, around: EndCircumstances, words: str, restarts: bool
) -> None:
    found = verdict(facts, around, restarts=restarts)
    assert (found.after, found.outcome) == (AfterStop.REQUEUE, Outcome.NODE_LOST)
    assert words in found.reason
    gives_up = LaunchSettings(interrupted="fail")
    found = verdict(facts, around, restarts=restarts, launch=gives_up)
    assert (found.after, found.outcome) == (AfterStop.FINISH, Outcome.NODE_LOST)


@pytest.mark.mission("M38")
@pytest.mark.parametrize(
    ("facts", "around", "outcome", "reason"),
    [
        (ended(0), QUIET, Outcome.DONE, ""),
        (ended(0), AWAY, Outcome.DONE, ""),
        (ended(1), QUIET, Outcome.FAILED, "exit code 1"),
        (ended(1), AWAY, Outcome.FAILED, "exit code 1"),
        (ended(137), QUIET, Outcome.FAILED, "exit code 137"),
        (ended(None), QUIET, Outcome.FAILED, "exit code 255"),
        (
            ended(137, oom=True),
            QUIET,
            Outcome.FAILED,
            "out of memory: used more than its 1024 MiB (exit code 137)",
        ),
    ],
)
def test_an_end_of_its_own(
    facts: ContainerFacts, around: EndCircumstances, outcome: Outcome, reason: str
) -> None:
    found = verdict(facts, around)
    assert found == Verdict(after=AfterStop.FINISH, outcome=outcome, reason=reason)


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
    ("failures", "is_final", "after", "wait"),
    [
        (0, False, AfterStop.REQUEUE, 1.0),
        (1, False, AfterStop.REQUEUE, 2.0),
        (2, False, AfterStop.FINISH, 0.0),
        (0, True, AfterStop.FINISH, 0.0),
    ],
)
def test_start_failures(
    failures: int, is_final: bool, after: AfterStop, wait: float
) -> None:
    one = container(state=State.STARTING, hold=hold(), start_failures=failures)
    found = verdict_on_start_failure(one, "no", is_final=is_final, launch=LAUNCH)
    assert (found.after, found.wait_seconds) == (after, wait)
    assert (found.outcome, found.reason) == (Outcome.FAILED, "no")


@pytest.mark.parametrize(
    ("message", "is_theirs"),
    [
        ("manifest for x:9 not found: manifest unknown", True),
        ("pull access denied for x", True),
        ('exec: "nosuch": executable file not found in $PATH', True),
        ("Exec: no such file or directory", True),
        ("no space left on device", False),
        ("could not select device driver nvidia", False),
        ("dial tcp: i/o timeout", False),
    ],
)
def test_whose_fault(message: str, is_theirs: bool) -> None:
    assert is_users_fault(message) is is_theirs
