"""Speaks HTTP with a node's dockerd over SSH channels that are kept and reused.

Never opens an SSH connection itself, never retries and never knows what a call means.
"""

import http.client
import io
import threading
from collections.abc import Callable, Mapping
from typing import Any

import paramiko
import requests
from requests.adapters import BaseAdapter
from requests.structures import CaseInsensitiveDict

from dorabatch.node.ssh import send_all

BODY_BYTES_MAX = 64 << 20
OpenChannel = Callable[[], paramiko.Channel]


class ChannelSocket:
    """As much of a socket as http.client needs, on top of a channel."""

    def __init__(self, channel: paramiko.Channel) -> None:
        self._channel = channel
        self._readers = 0
        self._is_closed = False
        self._unsent = b""

    def settimeout(self, seconds: float | None) -> None:
        """How long one wait for data or room may take."""
        self._channel.settimeout(seconds)

    def sendall(self, data: bytes) -> None:
        """Collect a part of a request; flush() sends it."""
        self._unsent += data

    def flush(self) -> None:
        """Send head and body together: one SSH packet instead of two."""
        data, self._unsent = self._unsent, b""
        send_all(self._channel, data)

    def makefile(self, _mode: str) -> io.BufferedReader:
        """A reader that keeps the channel open until it is closed too."""
        self._readers += 1
        return io.BufferedReader(_ChannelReader(self._channel, self._reader_closed))

    def is_usable(self) -> bool:
        """False once the far side has ended or the link is gone."""
        channel = self._channel
        return not (channel.closed or channel.eof_received or self._is_closed)

    def close(self) -> None:
        """Close the channel, or leave that to the last reader."""
        self._is_closed = True
        if self._readers == 0:
            self._channel.close()

    def abort(self) -> None:
        """Close the channel at once; a reader in another thread wakes up."""
        self._is_closed = True
        self._channel.close()

    def _reader_closed(self) -> None:
        self._readers -= 1
        if self._is_closed and self._readers == 0:
            self._channel.close()


class _ChannelReader(io.RawIOBase):
    """A channel as a raw stream; buffering above it is done in C."""

    def __init__(
        self, channel: paramiko.Channel, when_closed: Callable[[], None]
    ) -> None:
        super().__init__()
        self._channel = channel
        self._when_closed = when_closed

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._channel.recv(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._when_closed()


class DockerConnection(http.client.HTTPConnection):
    """An HTTP connection whose wire is a channel."""

    def __init__(self, open_channel: OpenChannel) -> None:
        super().__init__("docker")
        self._open_channel = open_channel
        self.wire: ChannelSocket | None = None

    def connect(self) -> None:
        """Open the channel; http.client calls this when it has no socket."""
        self._wired()

    def _wired(self) -> ChannelSocket:
        self.wire = ChannelSocket(self._open_channel())
        # http.client needs sendall, makefile and close, which the wire has.
        self.sock = self.wire
        return self.wire

    def is_usable(self) -> bool:
        """True when another request can be sent on it."""
        return self.wire is not None and self.wire.is_usable()

    def ask(
        self,
        method: str,
        target: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None = None,
        timeout_seconds: float | None,
    ) -> http.client.HTTPResponse:
        """Send one request and read the head of its answer."""
        wire = self.wire or self._wired()
        wire.settimeout(timeout_seconds)
        self.request(method, target, body=body, headers=dict(headers))
        wire.flush()
        return self.getresponse()

    def abort(self) -> None:
        """End at once, whatever another thread is waiting for."""
        if self.wire is not None:
            self.wire.abort()


class ChannelPool:
    """Connections for short calls: so many at once, the freshest used first."""

    def __init__(self, open_channel: OpenChannel, size: int) -> None:
        self._open_channel = open_channel
        self._slots = threading.BoundedSemaphore(size)
        self._lock = threading.Lock()
        self._idle: list[DockerConnection] = []

    def take(self, timeout_seconds: float | None) -> DockerConnection:
        """Wait for a turn; TimeoutError when it does not come."""
        if not self._slots.acquire(timeout=timeout_seconds):
            raise TimeoutError("every channel to this node stayed busy")
        with self._lock:
            while self._idle:
                connection = self._idle.pop()
                if connection.is_usable():
                    return connection
                connection.abort()
        return DockerConnection(self._open_channel)

    def give_back(self, connection: DockerConnection) -> None:
        """Keep it for the next call when it is still good."""
        if connection.is_usable():
            with self._lock:
                self._idle.append(connection)
        else:
            connection.abort()
        self._slots.release()


class ChannelAdapter(BaseAdapter):
    """Carries the requests of the Docker SDK over the pool; bodies are small."""

    def __init__(self, pool: ChannelPool) -> None:
        super().__init__()
        self._pool = pool

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: Any = True,
        cert: Any = None,
        proxies: Any = None,
    ) -> requests.Response:
        """Send one request and read the whole answer."""
        del stream, verify, cert, proxies
        body = request.body
        data = body.encode() if isinstance(body, str) else body
        connection = self._pool.take(timeout)
        is_done = False
        try:
            answer = connection.ask(
                request.method or "GET",
                request.path_url,
                headers=request.headers,
                body=data,
                timeout_seconds=timeout,
            )
            content = answer.read(BODY_BYTES_MAX + 1)
            if len(content) > BODY_BYTES_MAX:
                raise http.client.HTTPException(
                    f"an answer of more than {BODY_BYTES_MAX} bytes"
                )
            is_done = answer.isclosed()
        finally:
            if not is_done:
                connection.abort()
            self._pool.give_back(connection)
        response = requests.Response()
        response.status_code = answer.status
        response.reason = answer.reason
        response.headers = CaseInsensitiveDict(answer.getheaders())
        response.encoding = "utf-8"
        response.raw = io.BytesIO(content)
        response.url = request.url or ""
        response.request = request
        return response

    def close(self) -> None:
        """Nothing to do: channels end with their SSH connection."""
