"""Moments at which a daemon may be killed, or somebody else may act.

Each write and each step of a container's life is a moment; the world is told of it in
the thread that drives the daemon.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from dataclasses import replace
from typing import Any, TypeVar

from dorabatch.daemon.state.effects import Effects
from dorabatch.daemon.steps import Step, Steps
from dorabatch.db import Tx, Writer

_T = TypeVar("_T")
Moment = Callable[[str], None]


class Killed(BaseException):
    """The daemon is gone: whatever it was doing stops here."""


class ToldSteps(Steps):
    """Tells of each step that the driving thread reaches."""

    def __init__(self, moment: Moment) -> None:
        super().__init__()
        self._moment = moment
        self._thread = threading.current_thread()

    def reach(self, step: Step) -> None:
        if threading.current_thread() is self._thread:
            self._moment(step)


class ToldWriter:
    """Tells of the moments before and after each write."""

    def __init__(self, writer: Writer, moment: Moment) -> None:
        self._writer = writer
        self._moment = moment

    def do(self, action: Callable[[Tx], _T]) -> _T:
        self._moment("before-write")
        answer = self._writer.do(action)
        self._moment("after-write")
        return answer

    def post(self, action: Callable[[Tx], _T]) -> "Future[_T]":
        future = self._writer.post(action)
        # Whoever hears of it does so in the driving thread, not as chance has it.
        wait([future])
        return future

    def __getattr__(self, name: str) -> Any:
        return getattr(self._writer, name)


def telling(effects: Effects, moment: Moment) -> Effects:
    """A daemon's effects, whose writer and steps tell of their moments."""
    writer: Any = ToldWriter(effects.writer, moment)
    return replace(effects, steps=ToldSteps(moment), writer=writer)
