"""Keeps one connection to a node for its driver: connects, counts and translates.

Every call to the node passes through NodeLink.call. Never decides what is called
and never repeats a call: the result of a failed one is the caller's to find out.
"""

import http.client
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlencode

import docker
import orjson
import paramiko
import requests
from docker.constants import DEFAULT_DOCKER_API_VERSION

from dorabatch.clock import Clock, SystemClock
from dorabatch.errors import NodeError, NodeUnreachable
from dorabatch.node.channel_http import ChannelAdapter, ChannelPool, DockerConnection
from dorabatch.node.ssh import NodeAddress, NodeConnection, SshTimeouts
from dorabatch.resources.names import host_and_port

OnCall = Callable[[int, str], None]
API_VERSION_MIN = (1, 40)
_API_VERSION_MAX = tuple(int(part) for part in DEFAULT_DOCKER_API_VERSION.split("."))
_LINK_ERRORS = (
    OSError,
    EOFError,
    paramiko.SSHException,
    http.client.HTTPException,
    requests.RequestException,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverLimits:
    """How much at once and how long."""

    channels: int = 8
    answer_seconds: float = 120.0
    probe_seconds: float = 60.0
    pull_seconds: float = 3600.0
    pull_silence_seconds: float = 300.0
    retry_connect_seconds: float = 1.0


class DockerSession:
    """One live connection and the Docker API spoken over it."""

    def __init__(self, connection: NodeConnection, limits: DriverLimits) -> None:
        self.connection = connection
        self._seconds = limits.answer_seconds
        self._boot_id = ""
        pool = ChannelPool(connection.open_docker_channel, limits.channels)
        self.api_version = self._negotiated()
        self.api = docker.APIClient(
            base_url="tcp://docker:2375",
            version=self.api_version,
            timeout=limits.answer_seconds,  # type: ignore[arg-type]  # also a float
        )
        # Neither the environment's proxies nor its credentials concern a node.
        self.api.trust_env = False
        self.api.headers["Accept-Encoding"] = "identity"
        self.api.mount("http://docker", ChannelAdapter(pool))

    def boot_id(self) -> str:
        """Which boot this connection reaches: no connection outlives one."""
        if not self._boot_id:
            command = "cat /proc/sys/kernel/random/boot_id"
            result = self.connection.run(command, self._seconds)
            self._boot_id = result.stdout.decode("utf-8", "replace").strip()
        return self._boot_id

    def open_stream(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str],
        headers: Mapping[str, str],
        timeout_seconds: float | None,
    ) -> tuple[DockerConnection, http.client.HTTPResponse]:
        """Ask for an answer that goes on, on a channel of its own."""
        connection = DockerConnection(self.connection.open_docker_channel)
        target = f"/v{self.api_version}{path}?{urlencode(query)}"
        try:
            response = connection.ask(
                method, target, headers=headers, timeout_seconds=timeout_seconds
            )
        except BaseException:
            connection.abort()
            raise
        return connection, response

    def _negotiated(self) -> str:
        """The newest API version that both sides know."""
        connection = DockerConnection(self.connection.open_docker_channel)
        try:
            answer = connection.ask(
                "GET", "/_ping", headers={}, timeout_seconds=self._seconds
            )
            offered = answer.getheader("Api-Version", "")
            body = answer.read(200)
        finally:
            connection.abort()
        where = self.connection.where
        if answer.status != 200:
            raise NodeError(
                f"{where}: dockerd answers {answer.status} to a ping: {body!r}"
            )
        try:
            major, minor = (int(part) for part in offered.split("."))
        except ValueError as error:
            raise NodeError(
                f"{where}: dockerd names no API version (got {offered!r})"
            ) from error
        if (major, minor) < API_VERSION_MIN:
            raise NodeError(
                f"{where}: its Docker API is {offered}; the oldest that works is "
                "1.40 (Docker 19.03)"
            )
        used = min((major, minor), _API_VERSION_MAX)
        return ".".join(str(part) for part in used)


class NodeLink:
    """The kept connection of one node; makes a new one when it has died."""

    def __init__(
        self,
        address: NodeAddress,
        *,
        timeouts: SshTimeouts,
        limits: DriverLimits,
        on_call: OnCall | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.address = address
        self.limits = limits
        self.clock = clock or SystemClock()
        self._timeouts = timeouts
        self._on_call = on_call
        self._count_lock = threading.Lock()
        self._count = 0
        self._lock = threading.Lock()
        self._session: DockerSession | None = None
        self._failure: NodeError | None = None
        self._failed_at = 0.0
        self._is_closed = False

    @contextmanager
    def call(self, operation: str, subject: str = "") -> Iterator[DockerSession]:
        """The one place where calls are counted, connected and translated."""
        self.count(operation)
        session = self._current()
        doing = f"{operation} {subject}".strip()
        try:
            yield session
        except docker.errors.APIError as error:
            raise self.refused(doing, error) from error
        except _LINK_ERRORS as error:
            raise self.lost(session, doing, error) from error

    def count(self, operation: str) -> None:
        """Number the call and let a test or a guard stop it."""
        with self._count_lock:
            self._count += 1
            number = self._count
        if self._on_call is not None:
            self._on_call(number, operation)

    def refused(self, doing: str, error: docker.errors.APIError) -> NodeError:
        """Docker's own sentence, with the node and what was asked."""
        return NodeError(f"{self._where()}: {doing}: {plain_words(error)}")

    def lost(
        self, session: DockerSession, doing: str, error: Exception
    ) -> NodeUnreachable:
        """Find out whether only dockerd is silent; a dead link is closed for all."""
        connection = session.connection
        is_late = isinstance(error, TimeoutError)
        if is_late and connection.answers(self._timeouts.answer_seconds):
            return NodeUnreachable(
                f"{self._where()}: {doing}: dockerd did not answer in time; the node "
                f"itself does ({error or 'no data'})"
            )
        cause = str(error) or type(error).__name__
        if connection.is_alive() and not is_late:
            return NodeUnreachable(
                f"{self._where()}: {doing}: dockerd broke the connection: {cause}"
            )
        connection.close()
        return NodeUnreachable(f"{self._where()}: {doing}: connection lost: {cause}")

    def is_alive(self) -> bool:
        """True while the connection stands."""
        session = self._session
        return session is not None and session.connection.is_alive()

    def disconnect(self) -> None:
        """Drop the connection; the next call makes another."""
        with self._lock:
            session, self._session = self._session, None
        if session is not None:
            session.connection.close()

    def close(self) -> None:
        """Drop the connection for good."""
        self._is_closed = True
        self.disconnect()

    def _where(self) -> str:
        address = self.address
        place = host_and_port(address.host, address.port)
        return f"node {address.name} ({place})"

    def _current(self) -> DockerSession:
        with self._lock:
            if self._is_closed:
                raise NodeUnreachable(f"{self._where()}: its driver is closed")
            session = self._session
            if session is not None and session.connection.is_alive():
                return session
            self._session = None
            self._stop_if_failed_lately()
            try:
                self._session = self._connected()
            except NodeError as error:
                self._failure = error
                self._failed_at = self.clock.monotonic()
                raise
            self._failure = None
            return self._session

    def _stop_if_failed_lately(self) -> None:
        """Threads that waited for one attempt share its result."""
        failure = self._failure
        if failure is None:
            return
        waited = self.clock.monotonic() - self._failed_at
        if waited < self.limits.retry_connect_seconds:
            raise type(failure)(failure.message)

    def _connected(self) -> DockerSession:
        connection = NodeConnection(self.address, self._timeouts, self.clock)
        try:
            return DockerSession(connection, self.limits)
        except NodeError:
            connection.close()
            raise
        except _LINK_ERRORS as error:
            connection.close()
            cause = str(error) or type(error).__name__
            raise NodeUnreachable(
                f"{self._where()}: dockerd does not answer a ping: {cause}"
            ) from error


def plain_words(error: docker.errors.APIError) -> str:
    """What Docker says, without the HTTP around it."""
    text = error.explanation
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    return (text or str(error)).strip()


def words_of_answer(response: http.client.HTTPResponse) -> str:
    """What Docker says in a refusal of a stream."""
    body = response.read(4096)
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return body.decode("utf-8", "replace").strip() or response.reason
    if isinstance(document, dict) and isinstance(document.get("message"), str):
        return str(document["message"]).strip()
    return body.decode("utf-8", "replace").strip()
