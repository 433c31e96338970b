"""What no node would start is refused when it is submitted, in a sentence."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dorabatch.config import ContainerSettings
from dorabatch.daemon.rights import Caller
from dorabatch.daemon.runs.container_request import check_startable
from dorabatch.errors import Refused
from dorabatch.queue.records import Submitter
from dorabatch.queue.states import State
from tests.makers import ALICE, ZONE, document
from tests.simulation.hands import states, turn, work
from tests.simulation.world import World

LOGINS = ("CORP\\anna", "anna@corp.example.com", "Anna", "svc$", "müller")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A zone without credits."""
    made = World(1, tmp_path, credits="")
    yield made
    made.close()


def check(who: Submitter = ALICE, **options: object) -> None:
    """What a submission of somebody's goes through."""
    spec = document(**options).spec
    check_startable(spec, who, (ZONE, who.user), ContainerSettings())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"workdir": "/proc/self/fd/8"}, "'/proc/self/fd/8' is inside a kernel file"),
        ({"workdir": "/sys"}, "could not start: workdir '/sys'"),
        ({"workdir": "/dev/shm"}, "could not start: workdir"),
        ({"env": ["LD_PRELOAD=/x.so"]}, "LD_PRELOAD cannot be set from outside"),
        ({"env": ["A=1", "DORA_X=2"]}, r"env DORA_X=... PROGRAM"),
        ({"env": ["NVIDIA_GDS=enabled"]}, "NVIDIA_GDS"),
    ],
)
def test_what_would_not_start(options: dict[str, object], words: str) -> None:
    with pytest.raises(Refused, match=words):
        check(**options)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"groups": (0,)}, "group 0"),
        ({"uid": 1 << 31}, "out of range"),
        ({"user": "a/b"}, "'a/b' cannot be"),
        ({"user": "\udcff"}, "label"),
    ],
)
def test_who_could_not_start(changes: dict[str, object], words: str) -> None:
    with pytest.raises(Refused, match=words):
        check(replace(ALICE, **changes))  # type: ignore[arg-type]  # fields by name


@pytest.mark.parametrize("user", LOGINS)
def test_whom_the_kernel_vouches_for_can_work(user: str, world: World) -> None:
    who, intake = Submitter(user=user, uid=2005, gid=2005), world.parts.intake
    asked = document(
        name="job", image="busybox", cpus=1, volumes=["data:/data"], env=["A=b"]
    )
    new, _ = intake.admission.admit(Caller(submitter=who, is_admin=False), asked)
    assert new.workspace == user
    key = intake.submissions.submit(new).result(20).workload_id
    turn(world)
    work(world)
    assert states(world, key) == [State.RUNNING]
