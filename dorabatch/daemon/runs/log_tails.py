"""Logs of containers while nodes still have them: each is read once for all readers.

A tail has a thread of its own, which waits for the node; its readers wait for the tail
on the API's loop and hold no thread. It reads ahead of its quickest reader only so far,
and ends with the last one. Everything else here is called on the loop alone.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dorabatch.daemon.runs.log_window import LogWindow
from dorabatch.daemon.state.threads import outlived
from dorabatch.errors import NodeError
from dorabatch.node.driver import LogStream, NodeDriver

PIECE_BYTES = 65536
AHEAD_BYTES_MAX = 1 << 20


class LogTail:
    """One log: all that the node has of it, or from its last so many lines on."""

    def __init__(self, window: LogWindow, lines: int | None) -> None:
        self.window = window
        self.lines = lines
        self.is_over = False
        self.readers = 0
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()
        self._read_on = threading.Condition()
        self._furthest = 0
        self._is_left = False
        self._stream: LogStream | None = None
        self._problem = ""

    # -- on the loop ----------------------------------------------------------

    async def pieces(self, place: int) -> AsyncIterator[bytes]:
        """The log from a place on, as it grows, until the node has no more of it.

        A reader who was so slow that a part is kept no more is told of it.
        """
        while True:
            self._has_read_to(place)
            news, start = self._news, self.window.start
            if place < start:
                yield _told(f"{start - place} bytes are left out: read too slowly")
                place = start
            piece = self.window.read(place, PIECE_BYTES)
            if piece:
                place += len(piece)
                yield piece
            elif self.is_over:
                break
            else:
                await news.wait()
        if self._problem:
            yield _told(self._problem)

    def leave(self) -> None:
        """Nobody reads it any more: its thread lets go of the node."""
        with self._read_on:
            self._is_left = True
            self._read_on.notify()
            stream = self._stream
            self._close_when_done()
        if stream is not None:
            # A link that is going down may take its time.
            threading.Thread(target=stream.close, name="tail-end", daemon=True).start()

    def _has_read_to(self, place: int) -> None:
        if place > self._furthest:
            with self._read_on:
                self._furthest = place
                self._read_on.notify()

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    # -- in the tail's thread -------------------------------------------------

    def read(self, driver: NodeDriver, name: str, *, follow: bool) -> None:
        """Read it from the node until it ends or nobody wants it any more."""
        outlived("tail-bug", lambda: self._read(driver, name, follow=follow), log=name)
        with self._read_on:
            self.is_over = True
            self._stream = None
            self._close_when_done()
        self._grown()

    def _read(self, driver: NodeDriver, name: str, *, follow: bool) -> None:
        try:
            with driver.logs(name, follow=follow, tail=self.lines) as stream:
                with self._read_on:
                    self._stream = stream
                    if self._is_left:
                        return
                self._copy(stream)
        except NodeError as error:
            self._problem = error.message

    def _copy(self, stream: LogStream) -> None:
        for piece in stream:
            for begin in range(0, len(piece), PIECE_BYTES):
                if not self._is_wanted():
                    return
                self.window.add(piece[begin : begin + PIECE_BYTES])
                self._grown()

    def _is_wanted(self) -> bool:
        """Wait for the readers; False once there are none."""
        with self._read_on:
            self._read_on.wait_for(
                lambda: (
                    self._is_left or self.window.end < self._furthest + AHEAD_BYTES_MAX
                )
            )
            return not self._is_left

    def _grown(self) -> None:
        # While the daemon ends, there is no loop any more.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._tell)

    def _close_when_done(self) -> None:
        if self.is_over and self._is_left:
            self.window.close()


class LogTails:
    """The tails that are read now; who asks for the same joins the same."""

    def __init__(self, folder: Path, bytes_max: int) -> None:
        self._folder = folder
        # The only reader of a log never misses a part of it.
        self._bytes_max = max(bytes_max, 2 * AHEAD_BYTES_MAX)
        self._tails: dict[tuple[str, int | None], LogTail] = {}

    @contextmanager
    def joined(
        self,
        driver: NodeDriver,
        name: str,
        *,
        follow: bool,
        lines: int | None = None,
        place: int = 0,
    ) -> Iterator[AsyncIterator[bytes]]:
        """A container's output from a place, or from its last so many lines, on."""
        key = (name, lines)
        tail = self._tails.get(key) if follow else None
        if tail is None or tail.is_over or _is_past(tail, place):
            tail = self._begun(driver, name, follow=follow, lines=lines)
            if follow:
                self._tails[key] = tail
        tail.readers += 1
        begin = place if lines is None else tail.window.place_of_last(lines)
        try:
            yield tail.pieces(begin)
        finally:
            tail.readers -= 1
            if tail.readers == 0:
                if self._tails.get(key) is tail:
                    del self._tails[key]
                tail.leave()

    def _begun(
        self, driver: NodeDriver, name: str, *, follow: bool, lines: int | None
    ) -> LogTail:
        tail = LogTail(LogWindow(self._folder, self._bytes_max), lines)
        threading.Thread(
            target=tail.read,
            args=(driver, name),
            kwargs={"follow": follow},
            name=f"tail-{name}",
            daemon=True,
        ).start()
        return tail


def _is_past(tail: LogTail, place: int) -> bool:
    """Whether it has forgotten where a reader of the whole log wants to begin."""
    return tail.lines is None and tail.window.start > place


def _told(sentence: str) -> bytes:
    return f"[dorad: {sentence}]\n".encode()
