"""A node's keeper without threads: its looks, its events and its work come on call.

Everything else is the daemon's own keeper and launcher.
"""

from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any

from dorabatch.daemon.runs.node_keeper import NodeKeeper
from dorabatch.daemon.state.services import Services
from dorabatch.node.driver import NodeDriver


class WaitingWork(Executor):
    """What was submitted and not yet done, in order."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], Any]] = []

    def submit(
        self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> Future[Any]:
        self.waiting.append(lambda: fn(*args, **kwargs))
        return Future()


class SteppedKeeper(NodeKeeper):
    """Looks and works only when it is told to."""

    def __init__(self, services: Services, node: str, driver: NodeDriver) -> None:
        self.work = WaitingWork()
        super().__init__(services, node, driver, self.work)

    def start(self) -> None:
        """No thread is started."""
