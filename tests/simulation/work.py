"""A node's keeper without threads: its looks, its events and its work come on call.

Everything else is the daemon's own keeper and launcher.
"""

from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any

from dorabatch.daemon.runs.node_keeper import NodeKeeper


class WaitingWork(Executor):
    """What was submitted and not yet done, in order."""

    def __init__(self, node: str) -> None:
        self.node = node
        self.waiting: list[Callable[[], Any]] = []

    def submit(
        self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> Future[Any]:
        self.waiting.append(lambda: fn(*args, **kwargs))
        return Future()


class SteppedKeeper(NodeKeeper):
    """Looks and works only when it is told to."""

    @property
    def work(self) -> WaitingWork:
        """What waits to be done on the node."""
        workers = self._work.workers
        assert isinstance(workers, WaitingWork)
        return workers

    def start(self) -> None:
        """No thread is started."""
