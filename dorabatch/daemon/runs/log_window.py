"""The last part of a log that grows, in a file without a name.

Written by the thread that reads the log and read by the API's, under a lock. Keeps so
many bytes and forgets what came before them; knows neither nodes nor readers.
"""

import os
import threading
from pathlib import Path
from tempfile import mkstemp

_STEP_BYTES = 65536


class LogWindow:
    """A ring of bytes; places in the log count from its first byte."""

    def __init__(self, folder: Path, bytes_max: int) -> None:
        self._handle, path = mkstemp(prefix=".log-", dir=folder)
        Path(path).unlink()
        self._bytes_max = bytes_max
        self._lock = threading.Lock()
        self._end = 0

    @property
    def end(self) -> int:
        """How long the log is."""
        return self._end

    @property
    def start(self) -> int:
        """The first place that is still kept."""
        return max(0, self._end - self._bytes_max)

    def add(self, piece: bytes) -> None:
        """The log went on."""
        handle, size = self._handle, self._bytes_max
        with self._lock:
            rest = memoryview(piece)
            while rest:
                place = self._end % size
                done = os.pwrite(handle, rest[: size - place], place)
                self._end += done
                rest = rest[done:]

    def read(self, place: int, bytes_max: int) -> bytes:
        """What lies at a place that is kept; nothing at the log's end."""
        with self._lock:
            begin = place % self._bytes_max
            wanted = min(bytes_max, self._end - place, self._bytes_max - begin)
            return os.pread(self._handle, wanted, begin) if wanted > 0 else b""

    def place_of_last(self, lines: int) -> int:
        """Where the last so many lines begin, as far as they are kept."""
        at = self.end
        if lines == 0 or at == self.start:
            return at
        wanted = lines + (self.read(at - 1, 1) == b"\n")
        while at > self.start:
            begin = max(self.start, at - _STEP_BYTES)
            piece = self.read(begin, at - begin)
            piece += self.read(begin + len(piece), at - begin - len(piece))
            if piece.count(b"\n") >= wanted:
                return begin + _nth_from_the_end(piece, wanted) + 1
            wanted -= piece.count(b"\n")
            at = begin
        return at

    def close(self) -> None:
        """Forget it all."""
        os.close(self._handle)


def _nth_from_the_end(piece: bytes, count: int) -> int:
    place = len(piece)
    for _ in range(count):
        place = piece.rfind(b"\n", 0, place)
    return place
