"""Clocks: the set one moves only when told; the real one is aware and steady."""

import logging
import threading
from datetime import timedelta

import pytest

from dorabatch.clock import FakeClock, SystemClock
from dorabatch.daemon.state.clock_steps import ClockSteps
from tests.makers import START


def test_a_set_clock_moves_only_when_told() -> None:
    clock = FakeClock(START)
    assert (clock.now(), clock.monotonic()) == (START, 0.0)
    clock.advance(1.5)
    assert clock.now() - START == timedelta(seconds=1.5)
    assert clock.monotonic() == 1.5


def test_waiting_on_a_set_clock_lets_the_time_pass_at_once() -> None:
    clock, event = FakeClock(START), threading.Event()
    assert clock.wait(event, 3600) is False
    assert clock.monotonic() == 3600
    event.set()
    assert clock.wait(event, 1) is True


def test_the_machines_clock() -> None:
    clock, event = SystemClock(), threading.Event()
    first = clock.monotonic()
    assert clock.now().utcoffset() == timedelta(0)
    assert clock.monotonic() >= first
    event.set()
    assert clock.wait(event, 60) is True
    assert clock.wait(threading.Event(), 0.001) is False


def test_a_step_of_the_wall_clock_is_told_and_not_followed() -> None:
    wall, passed = [START], [100.0]
    clock = SystemClock(wall=lambda: wall[0], passed=lambda: passed[0])
    for hours in (1, -3):
        wall[0] += timedelta(hours=hours, seconds=10)
        passed[0] += 10
        steps = [1, -2][hours < 0]
        assert clock.wall_lead() == pytest.approx(steps * 3600)
    assert clock.now() - START == timedelta(seconds=20)


def test_steps_are_counted_and_small_ones_are_not(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("dorabatch"), "propagate", True)
    caplog.set_level(logging.WARNING, logger="dorabatch")
    clock, steps = FakeClock(START), ClockSteps()
    for lead in (0.0, 0.4, 3600.2, 3600.3, -7200.0, -7200.0):
        clock.lead = lead
        steps.look(clock)
    assert (steps.count, steps.lead) == (2, -7200.0)
    told = [one for one in caplog.records if one.getMessage() == "clock-step"]
    # Several handlers may show the same record.
    assert len({id(one) for one in told}) == 2
