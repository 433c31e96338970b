"""What a change of containers calls for: nodes stop what is to stop, the cycle looks.

Tells others and waits for none of them; writes nothing.
"""

import threading
from collections.abc import Iterable
from dataclasses import dataclass

from dorabatch.daemon.runs.node_keeper import Keepers
from dorabatch.queue.records import Container
from dorabatch.queue.states import State


@dataclass(frozen=True, slots=True, kw_only=True)
class HandOver:
    """Hands changed containers to those who act on them."""

    keepers: Keepers
    cycle_wanted: threading.Event

    def changed(self, containers: Iterable[Container]) -> None:
        """These were changed, and it is on disk."""
        for container in containers:
            if container.state is State.STOPPING:
                self.keepers.conclude(container)
        self.cycle_wanted.set()
