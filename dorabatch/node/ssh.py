"""Does the SSH part: one authenticated connection to a node, and channels on it.

Never trusts a host key on its own, never authenticates before the key is checked,
never waits without a limit and never raises anything but a NodeError.
"""

import logging
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import paramiko
from paramiko.common import cMSG_CHANNEL_OPEN

from dorabatch.clock import Clock, SystemClock
from dorabatch.errors import (
    HostKeyChanged,
    NodeAuthRefused,
    NodeError,
    NodeUnreachable,
    UserError,
)
from dorabatch.node.facts import HostKey, host_key_of, is_fingerprint
from dorabatch.resources.names import host_and_port

DEFAULT_DOCKER_SOCKET = "/var/run/docker.sock"
OUTPUT_BYTES_MAX = 16 << 20
STREAMLOCAL_KIND = "direct-streamlocal@openssh.com"
# Authenticated encryption in one pass of OpenSSL is the cheapest for the processor.
PREFERRED_CIPHERS = (
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    "aes128-ctr",
    "aes256-ctr",
)
_LINK_ERRORS = (paramiko.SSHException, OSError, EOFError)

# Every failure is raised with its cause; paramiko would report it a second time.
logging.getLogger("paramiko").setLevel(logging.CRITICAL)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeAddress:
    """Where a node is and how it proves itself."""

    name: str
    host: str
    port: int = 22
    user: str = "root"
    key_file: str
    fingerprint: str
    docker_socket: str = ""

    def __post_init__(self) -> None:
        """Refuse what no node can have."""
        check_host(self.host, self.port)
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}", self.user):
            raise UserError(f"node {self.name}: user {self.user!r} is not a login name")
        if self.docker_socket and not self.docker_socket.startswith("/"):
            raise UserError(
                f"node {self.name}: Docker socket {self.docker_socket!r} is not an "
                "absolute path"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class SshTimeouts:
    """How long each part of talking SSH may take."""

    connect_seconds: float = 10.0
    answer_seconds: float = 15.0
    keepalive_seconds: float = 10.0
    dead_link_seconds: float = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandResult:
    """What a command on the node gave back."""

    status: int
    stdout: bytes
    stderr: bytes


class _Transport(paramiko.Transport):
    """A transport that can also open channels to a Unix socket of the far side."""

    socket_path = ""

    def _send_user_message(self, data: Any) -> None:
        # paramiko writes kind, number, window and packet size of any channel kind;
        # only the fields that this kind adds are missing: path, a reserved string
        # and a reserved number.
        if data.packet.getbuffer()[: len(_STREAMLOCAL_OPEN)] == _STREAMLOCAL_OPEN:
            data.add_string(self.socket_path)
            data.add_string("")
            data.add_int(0)
        super()._send_user_message(data)  # type: ignore[misc]  # absent from the stubs


def _streamlocal_start() -> bytes:
    message = paramiko.Message()
    message.add_byte(cMSG_CHANNEL_OPEN)
    message.add_string(STREAMLOCAL_KIND)
    return message.asbytes()


_STREAMLOCAL_OPEN = _streamlocal_start()


def check_host(host: str, port: int) -> None:
    """Stop with UserError unless the host and the port can be a node's."""
    if not re.fullmatch(r"[A-Za-z0-9:][A-Za-z0-9.:_-]{0,253}", host):
        raise UserError(f"host {host!r} is not a host name or an address")
    if not 1 <= port <= 65535:
        raise UserError(f"port {port} of host {host} is not in 1..65535")


def scan_host_key(host: str, port: int, timeout_seconds: float) -> HostKey:
    """Read the key that a node's SSH server presents, without logging in."""
    check_host(host, port)
    timeouts = SshTimeouts(connect_seconds=timeout_seconds)
    where = host_and_port(host, port)
    transport = _negotiate(where, host, port, timeouts)
    try:
        return _presented_key(transport)
    finally:
        transport.close()


class NodeConnection:
    """One SSH connection that many threads share; once it has died it stays dead."""

    def __init__(
        self,
        address: NodeAddress,
        timeouts: SshTimeouts,
        clock: Clock | None = None,
    ) -> None:
        """Connect, check the host key, then log in."""
        self._address = address
        self._timeouts = timeouts
        self._clock = clock or SystemClock()
        self._where = (
            f"node {address.name} ({host_and_port(address.host, address.port)})"
        )
        self._socket_lock = threading.Lock()
        self._transport = _negotiate(self._where, address.host, address.port, timeouts)
        try:
            self.host_key = _presented_key(self._transport)
            _check_pinned(self._where, address.fingerprint, self.host_key)
            _log_in(self._where, self._transport, address)
        except NodeError:
            self._transport.close()
            raise
        self._transport.set_keepalive(max(1, int(timeouts.keepalive_seconds)))

    @property
    def where(self) -> str:
        """The node's name and address, for sentences."""
        return self._where

    @property
    def cipher(self) -> str:
        """The cipher that both ends agreed on."""
        return str(self._transport.local_cipher)

    def is_alive(self) -> bool:
        """True while nobody has noticed an end; asks nobody."""
        return bool(self._transport.is_active())

    def close(self) -> None:
        """End the connection and with it every channel."""
        self._transport.close()

    def answers(self, timeout_seconds: float) -> bool:
        """Ask the far side for a sign of life; a refusal is one too."""
        try:
            self._transport.open_session(timeout=timeout_seconds).close()
        except paramiko.ChannelException:
            return True
        except _LINK_ERRORS as error:
            return self.is_alive() and "Timeout" not in str(error)
        return True

    def run(
        self, command: str, timeout_seconds: float, stdin: bytes = b""
    ) -> CommandResult:
        """Run one command, feed it stdin and collect what it says."""
        deadline = self._clock.monotonic() + timeout_seconds
        with self._translated(f"run {command[:60]!r}"):
            channel = self._transport.open_session(
                timeout=min(timeout_seconds, self._timeouts.answer_seconds)
            )
            try:
                channel.settimeout(timeout_seconds)
                channel.exec_command(command)
                # A command may end without reading what it was offered.
                with suppress(BrokenPipeError):
                    send_all(channel, stdin)
                    channel.shutdown_write()
                stdout = self._read_all(channel, "stdout", deadline)
                stderr = self._read_all(channel, "stderr", deadline)
                left = max(0.0, deadline - self._clock.monotonic())
                if not channel.status_event.wait(left):
                    raise TimeoutError("no exit status")
                return CommandResult(
                    status=channel.exit_status, stdout=stdout, stderr=stderr
                )
            finally:
                channel.close()

    def open_docker_channel(self) -> paramiko.Channel:
        """Open a byte stream to the node's Docker socket."""
        path = self.docker_socket()
        timeout = self._timeouts.answer_seconds
        try:
            # The stubs name paramiko's own channel kinds only.
            return self._transport.open_channel(STREAMLOCAL_KIND, timeout=timeout)
        except paramiko.ChannelException as error:
            raise NodeUnreachable(self._refusal(path, error)) from error
        except _LINK_ERRORS as error:
            if self.is_alive() and "Timeout" not in str(error):
                raise NodeUnreachable(self._refusal(path, error)) from error
            raise self._lost(f"open a channel to {path}", error) from error

    def docker_socket(self) -> str:
        """The path of the node's Docker socket; asked from the node once."""
        with self._socket_lock:
            if not self._transport.socket_path:
                self._transport.socket_path = (
                    self._address.docker_socket or self._ask_docker_socket()
                )
            return self._transport.socket_path

    def _ask_docker_socket(self) -> str:
        result = self.run('printf %s "$DOCKER_HOST"', self._timeouts.answer_seconds)
        answer = result.stdout.decode("utf-8", "replace").strip()
        if not answer or result.status != 0:
            return DEFAULT_DOCKER_SOCKET
        if not answer.startswith("unix:///"):
            raise NodeError(
                f"{self._where}: its DOCKER_HOST is {answer!r}; only unix:///PATH is "
                "used, set the Docker socket of this node by hand"
            )
        return answer.removeprefix("unix://")

    def _read_all(
        self, channel: paramiko.Channel, stream: str, deadline: float
    ) -> bytes:
        parts: list[bytes] = []
        total = 0
        receive = channel.recv if stream == "stdout" else channel.recv_stderr
        while True:
            channel.settimeout(max(0.001, deadline - self._clock.monotonic()))
            part = receive(65536)
            if not part:
                return b"".join(parts)
            parts.append(part)
            total += len(part)
            if total > OUTPUT_BYTES_MAX:
                raise NodeError(
                    f"{self._where}: a command wrote more than {OUTPUT_BYTES_MAX} "
                    f"bytes to its {stream}"
                )

    def _refusal(self, path: str, error: Exception) -> str:
        # OpenSSH gives one and the same code for a refusal and for a dead socket.
        return (
            f"{self._where}: no connection to the Docker socket {path}: {error}; is "
            f"dockerd running, may user {self._address.user} open its socket, and does "
            "sshd_config there say 'AllowStreamLocalForwarding yes' (its default)?"
        )

    def _lost(self, doing: str, error: Exception) -> NodeUnreachable:
        if isinstance(error, TimeoutError) or "Timeout" in str(error):
            return NodeUnreachable(f"{self._where}: no answer in time to: {doing}")
        cause = str(error) or type(error).__name__
        return NodeUnreachable(f"{self._where}: connection lost at: {doing}: {cause}")

    @contextmanager
    def _translated(self, doing: str) -> Iterator[None]:
        try:
            yield
        except _LINK_ERRORS as error:
            raise self._lost(doing, error) from error


def send_all(channel: paramiko.Channel, data: bytes | memoryview) -> None:
    """Send everything or raise; a closed channel is a broken pipe."""
    rest = memoryview(data)
    while rest:
        try:
            sent = channel.send(bytes(rest[:32768]))
        except TimeoutError:
            raise
        except OSError as error:
            raise BrokenPipeError(str(error)) from error
        if sent == 0:
            raise BrokenPipeError("the far side has closed the channel")
        rest = rest[sent:]


def _negotiate(where: str, host: str, port: int, timeouts: SshTimeouts) -> _Transport:
    """Connect and agree on keys; the far side is not known to be the node yet."""
    seconds = timeouts.connect_seconds
    try:
        link = socket.create_connection((host, port), timeout=seconds)
    except OSError as error:
        cause = "no answer" if isinstance(error, TimeoutError) else str(error)
        raise NodeUnreachable(f"{where}: no connection: {cause}") from error
    _watch_link(link, timeouts)
    try:
        transport = _Transport(link)
    except (*_LINK_ERRORS, ValueError) as error:
        link.close()
        raise NodeUnreachable(f"{where}: no SSH connection: {error}") from error
    options = transport.get_security_options()
    rest = [name for name in options.ciphers if name not in PREFERRED_CIPHERS]
    options.ciphers = (*PREFERRED_CIPHERS, *rest)
    transport.banner_timeout = seconds
    transport.handshake_timeout = seconds
    transport.auth_timeout = seconds
    try:
        transport.start_client(timeout=seconds)
        if not transport.initial_kex_done:
            raise TimeoutError("no answer in time")
    except (*_LINK_ERRORS, ValueError) as error:
        transport.close()
        cause = str(error) or "the far side hung up"
        raise NodeUnreachable(f"{where}: no SSH connection: {cause}") from error
    return transport


def _watch_link(link: socket.socket, timeouts: SshTimeouts) -> None:
    """Let the kernel notice a cut: unanswered data or probes end the connection."""
    dead = max(2, int(timeouts.dead_link_seconds))
    idle = max(1, dead // 2)
    every = max(1, dead // 6)
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, idle)
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, every)
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, dead * 1000)


def _presented_key(transport: paramiko.Transport) -> HostKey:
    key = transport.get_remote_server_key()
    return host_key_of(key.get_name(), key.asbytes())


def _check_pinned(where: str, pinned: str, presented: HostKey) -> None:
    if not is_fingerprint(pinned):
        raise HostKeyChanged(
            f"{where}: no host key is pinned (got {pinned!r}); it presents "
            f"{presented.key_type} {presented.fingerprint}: compare that on the "
            "machine itself, then pin it"
        )
    if pinned != presented.fingerprint:
        raise HostKeyChanged(
            f"{where}: presents the {presented.key_type} host key "
            f"{presented.fingerprint}, pinned is {pinned}; nothing was sent. If the "
            "machine was installed anew, compare and pin the new key"
        )


def _log_in(where: str, transport: paramiko.Transport, address: NodeAddress) -> None:
    try:
        key = paramiko.PKey.from_path(address.key_file)
    except (OSError, ValueError, TypeError, paramiko.SSHException) as error:
        raise NodeAuthRefused(
            f"{where}: the daemon's SSH key {address.key_file} cannot be used: {error}"
        ) from error
    except paramiko.pkey.UnknownKeyType as error:
        raise NodeAuthRefused(
            f"{where}: the daemon's SSH key {address.key_file} is of an unknown kind"
        ) from error
    try:
        missing = transport.auth_publickey(address.user, key)
    except paramiko.AuthenticationException as error:
        if "timeout" in str(error).lower() or "EOF" in str(error):
            raise NodeUnreachable(f"{where}: hung up at the login: {error}") from error
        raise NodeAuthRefused(
            f"{where}: refuses user {address.user} with the key {address.key_file} "
            f"({error}); add its public half to that user's authorized_keys"
        ) from error
    except _LINK_ERRORS as error:
        raise NodeUnreachable(f"{where}: hung up at the login: {error}") from error
    if missing:
        raise NodeAuthRefused(
            f"{where}: the key alone is not enough for user {address.user}; sshd also "
            f"asks for {', '.join(missing)}"
        )
