"""Tries registries that did not answer again, from one node and without a job.

Asks for the image that could not be pulled and ends the pull at the first sign of an
answer, so nothing is loaded. Which registry is due, and who waits for it, says
`state.registries`; fails no workload.
"""

import threading
from datetime import datetime

from dorabatch import log
from dorabatch.clock import Clock
from dorabatch.daemon.runs.refusing_nodes import RefusingNodes
from dorabatch.daemon.runs.start_fault import Fault, fault_of
from dorabatch.daemon.state.registries import Registries, SilentRegistry
from dorabatch.errors import DorabatchError, ImagePullFailed, NodeError
from dorabatch.node.driver import NodeDriver, PullProgress
from dorabatch.queue.board import Board
from dorabatch.queue.records import ContainerId
from dorabatch.queue.states import State


class _Answered(DorabatchError):
    """The registry has answered; nothing more is wanted."""


class RegistryTrials:
    """The trials that are made from one node."""

    def __init__(
        self,
        driver: NodeDriver,
        registries: Registries,
        refusing: RefusingNodes,
        board: Board,
        clock: Clock,
        cycle_wanted: threading.Event,
    ) -> None:
        self._driver = driver
        self._registries = registries
        self._refusing = refusing
        self._board = board
        self._clock = clock
        self._cycle_wanted = cycle_wanted

    def next_at(self) -> datetime | None:
        """When a registry is to be tried; None: none is."""
        return self._registries.next_try_at() if self._registries.silent else None

    def take_due(self) -> SilentRegistry | None:
        """A registry to be tried now, from here and from nowhere else."""
        if not self._registries.silent:
            return None
        return self._registries.take_due(self._clock.now(), self._waits)

    def give_back(self, silent: SilentRegistry) -> None:
        """It cannot be tried from here."""
        self._registries.give_back(silent.name)

    def try_again(self, silent: SilentRegistry) -> None:
        """Ask it; what waits for it may start where it answers."""
        name = silent.name
        try:
            self._driver.pull(silent.image, _stop_at_answer)
        except ImagePullFailed as error:
            if fault_of(error) is Fault.REGISTRY:
                self._registries.silent_still(name, error.message, self._clock.now())
                return
        except NodeError as error:
            log.detail("registry-not-tried", registry=name, error=error)
            self._registries.give_back(name)
            return
        except _Answered:
            pass
        log.event("registry-answers", registry=name, node=self._driver.name)
        self._registries.answers(name)
        self._suspect(silent)
        self._cycle_wanted.set()

    def _suspect(self, silent: SilentRegistry) -> None:
        """The network of the one node that got no answer may be what is broken."""
        here = self._driver.name
        words = f"registry {silent.name} answers {here} and not it: {silent.reason}"
        there = [one for one in silent.containers if one.hold and one.hold.node != here]
        # One at a time: the registry may have been away, and not the node's network.
        for one in sorted(there, key=self._refusing.suspects_for)[:1]:
            self._refusing.refused(one, words)

    def _waits(self, key: ContainerId) -> bool:
        container = self._board.containers.get(key)
        return container is not None and container.state is not State.FINISHED


def _stop_at_answer(_progress: PullProgress) -> None:
    raise _Answered
