"""Verdicts on the end of an attempt, as a table."""

from dataclasses import replace

import pytest

from dorabatch.config import LaunchSettings
from dorabatch.daemon.runs.end_verdict import (
    Verdict,
    is_open,
    is_users_fault,
    verdict_on_exit,
    verdict_on_start_failure,
)
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
    """The verdict; fast_failures, restarts and launch may be set."""
    one = replace(RUNNING, fast_failures=options.get("fast", 0))
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
    done = Verdict(after=AfterStop.FINISH, outcome=Outcome.DONE, reason="")
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
    assert found == Verdict(after=AfterStop.FINISH, outcome=outcome, reason=reason)


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


RUNC = (
    "failed to create shim task: OCI runtime create failed: runc create failed: "
    "unable to start container process: "
)
HOOK = (
    "OCI runtime create failed: container_linux.go:380: starting container process "
    "caused: process_linux.go:545: container init caused: Running hook #0:: error "
    "running hook: exit status 1, stdout: , stderr: nvidia-container-cli: "
)


@pytest.mark.parametrize(
    ("message", "is_theirs"),
    [
        ("manifest for x:9 not found: manifest unknown: manifest unknown", True),
        (
            "pull access denied for x, repository does not exist or may require "
            "'docker login': denied: requested access to the resource is denied",
            True,
        ),
        ("name unknown: repository name not known to registry", True),
        (
            'failed to resolve reference "docker.io/library/x:9": '
            "docker.io/library/x:9: not found",
            True,
        ),
        ("invalid reference format: repository name must be lowercase", True),
        ("Minimum memory limit allowed is 6MB", True),
        (f'{RUNC}exec: "nosuch": executable file not found in $PATH: unknown', True),
        (f'{RUNC}exec: "/x": stat /x: no such file or directory: unknown', False),
        (f'{RUNC}exec: "/data/x": permission denied: unknown', False),
        (f"{HOOK}initialization error: driver error: failed to process request", False),
        (f"{HOOK}ldcache error: open failed: /sbin/ldconfig: no such file", False),
        (
            'error running hook #0: fork/exec: exec: "nvidia-ctk": executable file '
            "not found in $PATH: unknown",
            False,
        ),
        (
            "failed to create shim: OCI runtime create failed: unable to retrieve OCI "
            "runtime error (open /run/containerd/x/log.json: no such file or "
            'directory): exec: "nvidia-container-runtime": executable file not found '
            "in $PATH: unknown",
            False,
        ),
        (
            'failed to start shim: start failed: exec: "containerd-shim-runc-v2": '
            "executable file not found in $PATH: unknown",
            False,
        ),
        (
            "Head https://ghcr.io/v2/x/manifests/1: denied: too many requests",
            False,
        ),
        ("open /var/lib/docker/overlay2/x: permission denied", False),
        ("error mounting nfs: mount.nfs: access denied by server", False),
        ("No such image: x:1", False),
        ("no space left on device", False),
        ("could not select device driver nvidia", False),
        ("dial tcp: lookup registry: no such host", False),
        ("dial tcp: i/o timeout", False),
    ],
)
def test_whose_fault(message: str, is_theirs: bool) -> None:
    assert is_users_fault(message) is is_theirs
