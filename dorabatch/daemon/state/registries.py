"""Registries that do not answer, when each is tried again, and what waits for it.

Written by the nodes' workers under a lock, read by everybody. Lost at a restart: then
the first pull that fails tells again, and costs no attempt. Asks no registry itself.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Self

from dorabatch.daemon.state.avoided_nodes import DOUBLINGS_MAX
from dorabatch.queue.records import Container, ContainerId

DOCKER_HUB = "docker.io"
_KEPT_MAX = 100


def registry_of(image: str) -> str:
    """Host and port of an image's registry: `ghcr.io` of `ghcr.io/a/b:1`."""
    first, slash, _ = image.partition("/")
    is_host = "." in first or ":" in first or first == "localhost"
    return first if slash and is_host else DOCKER_HUB


@dataclass(frozen=True, slots=True, kw_only=True)
class SilentRegistry:
    """A registry that did not answer when `image` was pulled; `reason` is the answer.

    It was for `containers`, the first of each workload, on the nodes of their holds. It
    is tried again at `try_at`, after `tries` times in vain; `is_tried` while somebody
    does.
    """

    name: str
    image: str
    containers: tuple[Container, ...]
    reason: str
    tries: int
    try_at: datetime
    is_tried: bool = False

    def with_one_more(self, container: Container) -> Self:
        """The same, asked for another container; one of each workload is kept."""
        known = {one.workload_id for one in self.containers}
        if container.workload_id in known or len(known) >= _KEPT_MAX:
            return self
        return replace(self, containers=(*self.containers, container))

    @property
    def words(self) -> str:
        """`registry ghcr.io does not answer; tried again at 12:00:04 (...)`."""
        again = f"tried again at {self.try_at.astimezone():%H:%M:%S}"
        told = "being tried again" if self.is_tried else again
        return f"registry {self.name} does not answer; {told} ({self.reason})"


class Registries:
    """The registries of a zone; `first_seconds` is the first wait, then doubled.

    `silent` has those that do not answer, waiting[container] the one it waits for.
    """

    def __init__(self, first_seconds: float) -> None:
        self._first_seconds = first_seconds
        self._lock = threading.Lock()
        self.silent: dict[str, SilentRegistry] = {}
        self.waiting: dict[int, str] = {}

    def keep(
        self, container: Container, image: str, reason: str, now: datetime
    ) -> SilentRegistry:
        """Let a container wait for its image's registry, which does not answer."""
        name = registry_of(image)
        with self._lock:
            found = self.silent.get(name) or SilentRegistry(
                name=name,
                image=image,
                containers=(),
                reason=reason,
                tries=0,
                try_at=self._after(now),
            )
            found = found.with_one_more(container)
            self.silent[name] = found
            self.waiting[container.container_id] = name
        return found

    def take_due(
        self, now: datetime, waits: Callable[[ContainerId], bool]
    ) -> SilentRegistry | None:
        """One that is to be tried now, by who asks and by nobody else.

        What nothing `waits` for any more is forgotten.
        """
        with self._lock:
            self.waiting = {
                key: name
                for key, name in self.waiting.items()
                if waits(ContainerId(key))
            }
            wanted = set(self.waiting.values())
            self.silent = {k: one for k, one in self.silent.items() if k in wanted}
            for name, one in self.silent.items():
                if not one.is_tried and one.try_at <= now:
                    self.silent[name] = replace(one, is_tried=True)
                    return one
        return None

    def silent_still(self, name: str, reason: str, now: datetime) -> None:
        """It was tried in vain."""

        def later(one: SilentRegistry) -> SilentRegistry:
            tries = one.tries + 1
            at = self._after(now, tries)
            return replace(one, reason=reason, tries=tries, try_at=at, is_tried=False)

        self._change(name, later)

    def give_back(self, name: str) -> None:
        """Who took it could not try it; somebody else may."""
        self._change(name, lambda one: replace(one, is_tried=False))

    def answers(self, name: str) -> None:
        """It answers: what waits for it may start."""
        with self._lock:
            self.silent.pop(name, None)
            self.waiting = {k: v for k, v in self.waiting.items() if v != name}

    def next_try_at(self) -> datetime | None:
        """When the next one is to be tried; None: none."""
        with self._lock:
            due = [one.try_at for one in self.silent.values() if not one.is_tried]
        return min(due, default=None)

    def _change(
        self, name: str, change: Callable[[SilentRegistry], SilentRegistry]
    ) -> None:
        with self._lock:
            found = self.silent.get(name)
            if found is not None:
                self.silent[name] = change(found)

    def _after(self, now: datetime, tries: int = 0) -> datetime:
        wait = self._first_seconds * 2 ** min(tries, DOUBLINGS_MAX)
        return now + timedelta(seconds=wait)
