"""Fetches the images of one node: each once for all who wait for it.

In threads of its own, so that what needs no image starts meanwhile. Written and read by
the node's workers and by those threads, under a lock. Does not know who waits but by
name, and decides nothing about a refusal.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial

from dorabatch import log
from dorabatch.daemon.state.image_fetches import ImageFetches
from dorabatch.daemon.state.threads import outlived
from dorabatch.errors import NodeError
from dorabatch.node.driver import NodeDriver

Attempt = tuple[int, int]
"""Who waits: a container and the number of its attempt."""


class _Pull:
    """One image on its way, or just there, and who has not heard of that yet."""

    def __init__(self) -> None:
        self.waiting: set[Attempt] = set()
        self.is_over = False
        self.error: NodeError | None = None


class ImagePulls:
    """What one node fetches; `tell` is called when something is there or refused."""

    def __init__(
        self,
        driver: NodeDriver,
        pool: Executor,
        fetches: ImageFetches,
        tell: Callable[[], None],
    ) -> None:
        self._driver = driver
        self._pool = pool
        self._fetches = fetches
        self._tell = tell
        self._lock = threading.Lock()
        self._pulls: dict[str, _Pull] = {}

    def has(self, image: str, attempt: Attempt) -> bool:
        """Whether this attempt waits for the image already."""
        with self._lock:
            pull = self._pulls.get(image)
            return pull is not None and attempt in pull.waiting

    def is_done(self, image: str, attempt: Attempt) -> bool:
        """Whether it was fetched for this attempt; else it is being fetched: ask again.

        Raises the node's or the registry's refusal, once for each who waited.
        """
        with self._lock:
            pull = self._pulls.get(image)
            if pull is not None and pull.is_over and attempt in pull.waiting:
                return self._told(image, pull, attempt)
            if pull is None or pull.is_over:
                pull = self._pulls[image] = _Pull()
                self._fetches.ask(self._driver.name, image)
                self._pool.submit(self._fetch, image, pull)
            pull.waiting.add(attempt)
            return False

    def stop(self) -> None:
        """Begin nothing more; what is being fetched ends with its connection."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _told(self, image: str, pull: _Pull, attempt: Attempt) -> bool:
        pull.waiting.discard(attempt)
        if not pull.waiting:
            del self._pulls[image]
        if pull.error is not None:
            raise type(pull.error)(pull.error.message)
        return True

    def _fetch(self, image: str, pull: _Pull) -> None:
        outlived("pull-bug", partial(self._pull, image, pull), node=self._driver.name)
        with self._lock:
            pull.is_over = True
        self._fetches.end(self._driver.name, image)
        self._tell()

    def _pull(self, image: str, pull: _Pull) -> None:
        node = self._driver.name
        log.event("image-pull", node=node, image=image)
        self._fetches.begin(node, image)
        try:
            self._driver.pull(image, partial(self._fetches.note, node, image))
        except NodeError as error:
            pull.error = error
