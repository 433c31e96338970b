"""Clocks: the set one moves only when told; the real one is aware and steady."""

import threading
from datetime import timedelta

from dorabatch.clock import FakeClock, SystemClock
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
