"""Names of Docker volumes: one for each volume of each workspace."""

from hypothesis import given
from hypothesis import strategies as st

from dorabatch.daemon.runs.container_request import volume_name
from dorabatch.node.container_spec import MountRequest, check_mount
from dorabatch.resources.names import check_name

PART = st.from_regex(r"[a-z0-9]{1,2}", fullmatch=True)
NAME = st.lists(PART, min_size=1, max_size=3).map(".".join)


@given(st.tuples(NAME, NAME), st.tuples(NAME, NAME))
def test_two_volumes_never_share_a_name(
    one: tuple[str, str], other: tuple[str, str]
) -> None:
    for name in (*one, *other):
        assert check_name(name) == name
    assert (volume_name(*one) == volume_name(*other)) is (one == other)


def test_the_pair_that_was_one() -> None:
    assert volume_name("u", "x.v") != volume_name("u.x", "v")
    assert volume_name("ana", "home") == "dora.volume.ana.home"


def test_homes_that_docker_cannot_write() -> None:
    logins = ["CORP\\anna", "corp\\anna", "anna@corp", "svc$", "müller", "a b", "Anna"]
    names = {volume_name(login, "data") for login in logins}
    assert len(names) == len(logins)
    for name in names:
        check_mount(MountRequest(volume=name, target="/data"))
