"""What one user may have open, what all may, and what is kept for the operators."""

import os
import pwd
from collections.abc import Callable

import pytest

from dorabatch.config import ApiSettings
from dorabatch.daemon.api.crowd import Allowances, fitted, operators
from dorabatch.errors import DaemonBusy, TooMuchOpen

ROOT, ANA, BEN = 0, 2001, 2002


def allowances(**limits: int) -> Allowances:
    usual = {
        "connections_max": 10,
        "connections_reserved": 2,
        "connections_per_user": 5,
    }
    return Allowances(ApiSettings(**{**usual, **limits}), frozenset({ROOT}))


def count(do: Callable[[], object], error: type[Exception]) -> int:
    """How often it works before it is refused."""
    done = 0
    while True:
        try:
            do()
        except error:
            return done
        done += 1


def test_connections_of_one_user_of_all_and_the_reserve() -> None:
    here = allowances()
    assert count(lambda: here.connect(ANA), TooMuchOpen) == 5
    assert count(lambda: here.connect(BEN), DaemonBusy) == 3
    with pytest.raises(DaemonBusy, match=r"8 connections .*all users together: 8"):
        here.connect(2003)
    assert count(lambda: here.connect(ROOT), DaemonBusy) == 2
    here.disconnect(ROOT)
    here.disconnect(ROOT)
    here.disconnect(ANA)
    here.connect(ANA)
    with pytest.raises(TooMuchOpen, match=r"5, api\.connections_per_user\); end some"):
        here.connect(ANA)


def test_requests_at_work() -> None:
    here = allowances(requests_per_user=2)
    first, _ = here.visit(ANA), here.visit(ANA)
    with pytest.raises(TooMuchOpen, match=r"2 requests at work .*requests_per_user"):
        here.visit(ANA)
    here.visit(BEN)
    assert [here.visit(ROOT) for _ in range(9)]
    first.end()
    here.visit(ANA)


def test_a_stream_is_not_at_work() -> None:
    here = allowances(requests_per_user=1, streams_per_user=2)
    streams = []
    for _ in range(2):
        streams.append(here.visit(ANA))
        streams[-1].begin_stream()
    third = here.visit(ANA)
    with pytest.raises(TooMuchOpen, match=r"2 streams open .*dlog -f.*streams_per_u"):
        third.begin_stream()
    third.end()
    streams[0].end()
    again = here.visit(ANA)
    again.begin_stream()
    for _ in range(9):
        here.visit(ROOT).begin_stream()


def test_few_open_files_lower_the_limits_and_leave_half_to_others() -> None:
    usual = ApiSettings()
    assert fitted(usual, 1 << 20) == usual
    few = fitted(usual, 1024)
    assert (few.connections_max, few.connections_reserved) == (384, 64)
    assert few.connections_per_user == 160
    least = fitted(usual, 10)
    assert (least.connections_max, least.connections_per_user) == (4, 1)


def test_one_user_may_not_be_allowed_everything() -> None:
    with pytest.raises(ValueError, match="must be below 8, connections_max"):
        ApiSettings(connections_max=10, connections_reserved=2, connections_per_user=8)


def test_operators_are_root_and_the_admins_whom_the_machine_knows() -> None:
    assert operators(["nobody-here"]) == {0}
    name = pwd.getpwuid(os.getuid()).pw_name
    assert operators(["root", name]) == {0, os.getuid()}
