"""Gives the fake node's output and events as streams that block like real ones.

Never waits once the stream is closed or its node is lost.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Self

from dorabatch.node.facts import ContainerEvent
from dorabatch.node.identity import CLUSTER_LABEL


class FakeLogStream:
    """A container's output; the condition tells about every change of the node."""

    def __init__(
        self,
        changed: threading.Condition,
        output: bytearray,
        start: int,
        *,
        is_over: Callable[[], bool],
        check: Callable[[], None],
    ) -> None:
        self._changed = changed
        self._output = output
        self._at = start
        self._is_over = is_over
        self._check = check
        self._is_closed = False

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *details: object) -> None:
        self.close()

    def __next__(self) -> bytes:
        """What was written since the last look."""
        with self._changed:
            while not self._is_closed:
                self._check()
                piece = bytes(self._output[self._at :])
                self._at += len(piece)
                if piece:
                    return piece
                if self._is_over():
                    break
                self._changed.wait()
            raise StopIteration

    def close(self) -> None:
        """End the iteration."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()


class FakeEventStream:
    """Events of one cluster's containers."""

    def __init__(
        self,
        changed: threading.Condition,
        cluster_id: str,
        check: Callable[[], None],
    ) -> None:
        self._changed = changed
        self._cluster_id = cluster_id
        self._check = check
        self._waiting: deque[ContainerEvent] = deque()
        self._is_closed = False

    def __iter__(self) -> Iterator[ContainerEvent]:
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *details: object) -> None:
        self.close()

    def __next__(self) -> ContainerEvent:
        """The next event."""
        with self._changed:
            while not self._is_closed:
                self._check()
                if self._waiting:
                    return self._waiting.popleft()
                self._changed.wait()
            raise StopIteration

    def offer(self, event: ContainerEvent) -> bool:
        """Take the event if it is ours; False once nobody reads any more."""
        if event.labels.get(CLUSTER_LABEL) == self._cluster_id:
            self._waiting.append(event)
        return not self._is_closed

    def close(self) -> None:
        """End the iteration."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
