"""Send one request to the daemon over its Unix socket and read the answer.

Speaks HTTP/1.1 on the raw socket: a login node starts these commands by the
thousand, and the HTTP packages cost more than the request. Never prints, retries
or knows what a request means.
"""

import _socket
import os
from _collections_abc import Iterator

from dorabatch.cmds.late import load
from dorabatch.errors import DaemonUnavailable, DorabatchError

DEFAULT_SOCKET = "/run/dorabatch/dorad.sock"
ANSWER_SECONDS_MAX = 60.0
HEAD_BYTES_MAX = 65536
LINE_BYTES_MAX = 8192
READ_BYTES = 65536

Query = list[tuple[str, str]]

_PLAIN = frozenset(
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~,"
)


class DaemonAway(DaemonUnavailable):
    """The daemon does not answer now; it may be back in a moment."""

    def __init__(self, message: str, *, is_sent: bool, is_busy: bool = False) -> None:
        super().__init__(message)
        self.is_sent = is_sent
        self.is_busy = is_busy


class AnsweredError(DorabatchError):
    """The daemon answered that it could not do this."""

    def __init__(self, message: str, *, code: str, exit_status: int) -> None:
        super().__init__(message)
        self.code = code
        self.exit_status = exit_status


def socket_path() -> str:
    """Where the daemon listens."""
    return os.environ.get("DORABATCH_SOCKET") or DEFAULT_SOCKET


def quote(text: str, *, keep: bytes = b"") -> str:
    """Escape a text for a path or a query."""
    raw = text.encode("utf-8", "surrogateescape")
    return "".join(
        chr(byte) if byte in _PLAIN or byte in keep else f"%{byte:02X}" for byte in raw
    )


def unquote(text: str) -> str:
    """Read back what `quote` escaped."""
    head, *pieces = text.encode().split(b"%")
    parts = [head]
    for piece in pieces:
        try:
            parts.append(bytes([int(piece[:2], 16)]) + piece[2:])
        except ValueError:
            parts.append(b"%" + piece)
    return b"".join(parts).decode("utf-8", "replace")


def target(path: str, query: Query) -> str:
    """Join a path and what is asked of it."""
    pairs = "&".join(f"{name}={quote(value)}" for name, value in query)
    return f"{path}?{pairs}" if pairs else path


class Answer:
    """The answer to one request: its status and headers, and its body on demand."""

    __slots__ = ("_buffer", "_socket", "headers", "status")

    def __init__(self, connection: _socket.socket) -> None:
        self._socket = connection
        self._buffer = b""
        self.status = 0
        self.headers: list[tuple[str, str]] = []
        try:
            while self.status < 200:  # 1xx answers only announce the real one
                self._read_head()
        except DaemonUnavailable:
            connection.close()
            raise

    def header(self, name: str) -> str | None:
        """The first header of this name, or None."""
        return next((text for key, text in self.headers if key == name), None)

    def warnings(self) -> list[str]:
        """What the daemon wants said beside the answer."""
        return [unquote(text) for key, text in self.headers if key == "x-dora-warning"]

    def body(self) -> Iterator[bytes]:
        """The body, piece by piece, as it arrives."""
        length = self.header("content-length")
        try:
            if (self.header("transfer-encoding") or "").lower() == "chunked":
                yield from self._chunks()
            elif length is not None:
                yield from self._exactly(_number(length, 10))
            elif self.status != 204:
                yield from self._until_closed()
        finally:
            self._socket.close()

    def read(self) -> bytes:
        """The whole body."""
        return b"".join(self.body())

    def _fill(self) -> bool:
        """Read more from the socket; False at its end."""
        try:
            data = self._socket.recv(READ_BYTES)
        except TimeoutError as error:
            raise DaemonAway(
                f"the daemon at {socket_path()} did not answer within"
                f" {ANSWER_SECONDS_MAX:g} s; see its log, or try again",
                is_sent=True,
            ) from error
        except OSError as error:
            raise _cut(error.strerror) from error
        self._buffer += data
        return bool(data)

    def _read_head(self) -> None:
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            if len(self._buffer) > HEAD_BYTES_MAX:
                raise _not_dorad(self._buffer)
            if not self._fill():
                raise _cut("no answer")
        head, self._buffer = self._buffer[:end], self._buffer[end + 4 :]
        first, *lines = head.decode("utf-8", "replace").split("\r\n")
        words = first.split(" ", 2)
        if len(words) < 2 or words[0][:5] != "HTTP/" or not words[1].isdigit():
            raise _not_dorad(head)
        self.status = int(words[1])
        pairs = (line.partition(":") for line in lines)
        self.headers = [(key.strip().lower(), text.strip()) for key, _, text in pairs]

    def _exactly(self, wanted: int) -> Iterator[bytes]:
        while wanted > 0:
            if not self._buffer and not self._fill():
                raise _cut("the answer is not complete")
            piece, self._buffer = self._buffer[:wanted], self._buffer[wanted:]
            wanted -= len(piece)
            yield piece

    def _until_closed(self) -> Iterator[bytes]:
        while self._buffer or self._fill():
            piece, self._buffer = self._buffer, b""
            yield piece

    def _line(self) -> bytes:
        while (end := self._buffer.find(b"\r\n")) < 0:
            if len(self._buffer) > LINE_BYTES_MAX:
                raise _not_dorad(self._buffer)
            if not self._fill():
                raise _cut("the answer is not complete")
        line, self._buffer = self._buffer[:end], self._buffer[end + 2 :]
        return line

    def _chunks(self) -> Iterator[bytes]:
        while size := _number(self._line().partition(b";")[0].decode("latin-1"), 16):
            yield from self._exactly(size)
            if self._line():
                raise _not_dorad(self._buffer)
        while self._line():  # trailers, which nobody sends us
            pass


def send(
    method: str,
    path: str,
    query: Query | None = None,
    body: bytes | None = None,
    *,
    seconds_max: float | None = ANSWER_SECONDS_MAX,
) -> Answer:
    """Send a request; an answer that is an error is raised as AnsweredError."""
    lines = [
        f"{method} {target(path, query or [])} HTTP/1.1",
        "Host: dorabatch",
        "Connection: close",
    ]
    if body is not None:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    request = "\r\n".join([*lines, "", ""]).encode() + (body or b"")
    connection = _connect(socket_path(), seconds_max)
    try:
        connection.sendall(request, _socket.MSG_NOSIGNAL)
    except (BrokenPipeError, ConnectionResetError):
        pass  # an answer may have been sent before all was read: it says why
    except OSError as error:
        connection.close()
        raise _cut(error.strerror) from error
    answer = Answer(connection)
    if answer.status >= 400:
        raise _answered(answer)
    return answer


def _connect(path: str, seconds_max: float | None) -> _socket.socket:
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0)
    try:
        connection.settimeout(seconds_max)
        connection.connect(path)
    except OSError as error:
        connection.close()
        raise _unreachable(path, error) from error
    return connection


def _unreachable(path: str, error: OSError) -> DaemonUnavailable:
    """Say why nobody answers at a path, and what to do about it."""
    if isinstance(error, PermissionError):
        return DaemonUnavailable(
            f"you may not use the daemon's socket {path}: permission denied;"
            " ask the administrator for access"
        )
    if isinstance(error, FileNotFoundError):
        why = "there is no such socket"
    elif isinstance(error, ConnectionRefusedError):
        why = "nothing listens there any more"
    else:
        why = error.strerror or str(error)
    message = (
        f"no daemon answers at {path}: {why}; is dorad running? If it listens"
        " elsewhere, set DORABATCH_SOCKET"
    )
    # A daemon that restarts may take its socket away, but not the directory.
    is_missing = isinstance(error, FileNotFoundError)
    if is_missing and not os.path.isdir(os.path.dirname(path) or "."):
        return DaemonUnavailable(message)
    return DaemonAway(message, is_sent=False)


def _cut(why: str | None) -> DaemonAway:
    return DaemonAway(
        f"the daemon at {socket_path()} ended the connection ({why or 'no reason'});"
        " it may be restarting: try again",
        is_sent=True,
    )


def _not_dorad(data: bytes) -> DaemonUnavailable:
    return DaemonUnavailable(
        f"what answers at {socket_path()} is not dorad (it said {data[:40]!r});"
        " check DORABATCH_SOCKET"
    )


def _number(text: str, base: int) -> int:
    digits = text.strip()
    if not digits.isalnum():
        raise _not_dorad(text.encode())
    try:
        return int(digits, base)
    except ValueError as error:
        raise _not_dorad(text.encode()) from error


def _answered(answer: Answer) -> DorabatchError:
    """Turn an error answer into the error it describes."""
    text = answer.read().decode("utf-8", "replace")
    message, code, exit_status = load("answers").read_error(answer.status, text)
    if answer.status in (429, 503):  # nothing was done
        return DaemonAway(message, is_sent=False, is_busy=True)
    return AnsweredError(message, code=code, exit_status=exit_status)
