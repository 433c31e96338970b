"""Reads Docker's endless answers: a container's output, events, a pull's progress.

Never opens a connection itself and never ends quietly when the node was lost.
"""

import base64
import http.client
import json
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

import orjson
import paramiko

from dorabatch.errors import ImagePullFailed, NodeUnreachable
from dorabatch.node.channel_http import DockerConnection
from dorabatch.node.driver import PullProgress, RegistryAuth, SavedLog
from dorabatch.node.facts import ContainerEvent, parse_event

PART_BYTES = 65536
LINE_BYTES_MAX = 1 << 20
SEEN_ACTIONS = frozenset(
    [
        "create",
        "start",
        "die",
        "oom",
        "kill",
        "stop",
        "destroy",
        "pause",
        "unpause",
        "restart",
        "rename",
    ]
)
_READ_ERRORS = (OSError, EOFError, paramiko.SSHException, http.client.HTTPException)


class _Stream:
    """An answer that goes on until it ends, is closed or its node is lost."""

    def __init__(
        self,
        connection: DockerConnection,
        response: http.client.HTTPResponse,
        lost: Callable[[Exception], NodeUnreachable],
    ) -> None:
        self._connection = connection
        self._response = response
        self._lost = lost
        self._closed = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *details: object) -> None:
        self.close()

    def close(self) -> None:
        """End the stream; a reader in another thread stops."""
        self._closed.set()
        self._connection.abort()

    def _failed(self, error: Exception) -> NodeUnreachable | StopIteration:
        if self._closed.is_set():
            return StopIteration()
        self.close()
        return self._lost(error)


class DockerLogStream(_Stream):
    """Output frames of a container without a terminal, both streams in order."""

    _left = 0

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        """The next piece; a frame that ends too early means a lost node."""
        try:
            while self._left == 0:
                head = self._response.read(8)
                if not head:
                    self.close()
                    raise StopIteration
                if len(head) < 8:
                    raise EOFError("the output ends inside a frame")
                self._left = int.from_bytes(head[4:8], "big")
            piece = self._response.read(min(self._left, PART_BYTES))
            if not piece:
                raise EOFError("the output ends inside a frame")
        except _READ_ERRORS as error:
            raise self._failed(error) from error
        self._left -= len(piece)
        return piece


class DockerEventStream(_Stream):
    """What happens to containers, one JSON object a line."""

    def __iter__(self) -> Iterator[ContainerEvent]:
        return self

    def __next__(self) -> ContainerEvent:
        """The next event that means something for a run."""
        while True:
            try:
                line = self._response.readline(LINE_BYTES_MAX)
                if not line:
                    raise EOFError("dockerd ended the event stream")
                document = orjson.loads(line)
            except (*_READ_ERRORS, orjson.JSONDecodeError) as error:
                raise self._failed(error) from error
            if document.get("Action") in SEEN_ACTIONS:
                return parse_event(document)


def read_pull(
    image: str,
    response: http.client.HTTPResponse,
    on_progress: Callable[[PullProgress], None] | None,
    check_time: Callable[[], None],
) -> None:
    """Follow a pull to its end; the registry's refusal becomes ImagePullFailed."""
    while line := response.readline(LINE_BYTES_MAX):
        check_time()
        if not line.strip():
            continue
        try:
            document = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise ImagePullFailed(
                f"image {image}: dockerd's progress is not readable: {line[:120]!r}"
            ) from error
        if "error" in document:
            raise ImagePullFailed(f"image {image}: {str(document['error']).strip()}")
        if on_progress is not None:
            on_progress(_progress(document))


def registry_header(auth: RegistryAuth | None) -> dict[str, str]:
    """The header by which dockerd logs in at a registry."""
    if auth is None:
        return {}
    document = {
        "username": auth.username,
        "password": auth.password,
        "serveraddress": auth.server,
    }
    text = base64.urlsafe_b64encode(json.dumps(document).encode()).decode("ascii")
    return {"X-Registry-Auth": text}


def write_tail(pieces: Iterator[bytes], path: Path, max_bytes: int) -> SavedLog:
    """Write the last max_bytes of the pieces to path, all or nothing."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.part")
    flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    handle = os.open(partial, flags, 0o640)
    try:
        size = total = 0
        for piece in pieces:
            size += _write_all(handle, piece)
            total += len(piece)
            # Twice the room, so that dropping the start stays rare.
            if size > 2 * max_bytes + PART_BYTES:
                size = _drop_start(handle, size, max_bytes)
        if size > max_bytes:
            size = _drop_start(handle, size, max_bytes)
        os.fsync(handle)
        os.rename(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    finally:
        os.close(handle)
    _sync_directory(path.parent)
    return SavedLog(byte_count=size, is_truncated=total > size)


def _progress(document: dict[str, object]) -> PullProgress:
    detail = document.get("progressDetail")
    numbers = detail if isinstance(detail, dict) else {}
    current, total = numbers.get("current"), numbers.get("total")
    return PullProgress(
        status=str(document.get("status", "")),
        layer=str(document.get("id", "")),
        current_bytes=current if isinstance(current, int) else None,
        total_bytes=total if isinstance(total, int) else None,
    )


def _write_all(handle: int, data: bytes) -> int:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(handle, rest) :]
    return len(data)


def _drop_start(handle: int, size: int, keep: int) -> int:
    """Move the last bytes to the start of the file and cut the rest off."""
    start = size - keep
    for offset in range(0, keep, PART_BYTES):
        part = os.pread(handle, min(PART_BYTES, keep - offset), start + offset)
        os.pwrite(handle, part, offset)
    os.ftruncate(handle, keep)
    os.lseek(handle, keep, os.SEEK_SET)
    return keep


def _sync_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
