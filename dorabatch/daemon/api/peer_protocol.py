"""One connection: who is at its other end, and when it is refused or given up.

The kernel says who it is (SO_PEERCRED); nothing in a request can. What is too large or
too slow is answered and closed before it fills memory. Knows no route.
"""

import asyncio
import socket
import struct
from enum import Enum, auto
from typing import Any

import orjson
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from dorabatch.config import ApiSettings
from dorabatch.daemon.api.crowd import Allowances, error_record
from dorabatch.errors import (
    DaemonBusy,
    DorabatchError,
    HeadTooLarge,
    RequestTooLate,
    TooMuchOpen,
)

_PEER = struct.Struct("3i")
_HEAD_END = b"\r\n\r\n"


class _Part(Enum):
    """What is missing of a request that has begun."""

    NOTHING = auto()
    HEAD = auto()
    BODY = auto()


class PeerProtocol(HttpToolsProtocol):
    """Puts the peer's user and group ids into each request's state."""

    def __init__(
        self, allowances: Allowances, api: ApiSettings, *words: Any, **more: Any
    ) -> None:
        super().__init__(*words, **more)
        self._allowances = allowances
        self._api = api
        self._uid: int | None = None
        self._is_refused = False
        self._timer: asyncio.TimerHandle | None = None
        self._in_head = True
        self._head_bytes = 0
        self._head_tail = b""
        self._awaited = _Part.NOTHING

    # -- the connection -------------------------------------------------------

    def connection_made(self, transport: Any) -> None:
        """Ask the kernel who connected; refuse whoever has too many connections."""
        super().connection_made(transport)
        peer = transport.get_extra_info("socket")
        raw = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
        _, uid, gid = _PEER.unpack(raw)
        self.app_state = {**self.app_state, "uid": uid, "gid": gid}
        try:
            self._allowances.connect(uid)
        except TooMuchOpen as error:
            self._refuse(429, error)
        except DaemonBusy as error:
            self._refuse(503, error)
        else:
            self._uid = uid
            self._give_up_after(self._api.head_seconds_max, self._late)

    def connection_lost(self, exc: Exception | None) -> None:
        """It is open no more."""
        self._wait_on()
        if self._uid is not None:
            self._allowances.disconnect(self._uid)
            self._uid = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on; a head that is too large is not read to its end."""
        if self._is_refused:
            return
        limit = self._api.head_bytes_max
        if self._in_head and self._head_with(data) > limit:
            self._refuse(431, _too_large("line and headers", limit, "head_bytes_max"))
            return
        super().data_received(data)
        self._be_patient()

    def _be_patient(self) -> None:
        """Wait for what is missing of a head or a body, and no longer than allowed."""
        part = _Part.BODY if not self._in_head else _Part.HEAD
        if part is _Part.HEAD and not self._head_bytes:
            part = _Part.NOTHING
        if part is self._awaited or self._is_refused:
            return
        self._awaited = part
        if part is _Part.HEAD:
            self._give_up_after(self._api.head_seconds_max, self._late)
        elif part is _Part.BODY:
            self._give_up_after(self._api.body_seconds_max, self._late)

    def _head_with(self, data: bytes) -> int:
        """How long the head is, as far as it has come."""
        seam = self._head_tail + data
        end = seam.find(_HEAD_END)
        self._head_bytes += len(data) if end < 0 else end + 4 - len(self._head_tail)
        self._head_tail = data[-3:]
        return self._head_bytes

    # -- what the parser tells --------------------------------------------------

    def on_headers_complete(self) -> None:
        """The head of a request is there; its body may be too."""
        self._wait_on()
        self._in_head, self._head_bytes, self._head_tail = False, 0, b""
        api = self._api
        if len(self.url) > api.line_bytes_max:
            what = "first line"
            self._refuse(431, _too_large(what, api.line_bytes_max, "line_bytes_max"))
        elif len(self.headers) > api.headers_max:
            many = HeadTooLarge(
                f"the request has {len(self.headers)} headers (allowed: "
                f"{api.headers_max}, api.headers_max); send fewer"
            )
            self._refuse(431, many)
        else:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A part of its body."""
        if not self._is_refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """It is there; what follows is another one's head."""
        self._wait_on()
        self._in_head = True
        if not self._is_refused:
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """Answered: the connection is kept for another request, for a while."""
        super().on_response_complete()
        # Unless another one has come already.
        if self.cycle.response_complete:
            self._give_up_after(self._api.idle_seconds_max, self.transport.close)

    # -- the end ----------------------------------------------------------------

    def _give_up_after(self, seconds: float, end: Any) -> None:
        self._wait_on()
        if not self.transport.is_closing():
            self._timer = self.loop.call_later(seconds, end)

    def _wait_on(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _late(self) -> None:
        what, setting = "line and headers", "head_seconds_max"
        if self._awaited is _Part.BODY:
            what, setting = "body", "body_seconds_max"
            if self.cycle.response_started:
                self.transport.close()
                return
        late = RequestTooLate(
            f"the request's {what} did not come within {getattr(self._api, setting):g} "
            f"s (api.{setting}); send it again"
        )
        self._refuse(408, late)

    def _refuse(self, status: int, error: DorabatchError) -> None:
        """Answer and close; nothing more is read."""
        self._is_refused = True
        self._wait_on()
        body = orjson.dumps(error_record(error), option=orjson.OPT_APPEND_NEWLINE)
        head = (
            "Content-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        self.transport.write(STATUS_LINE[status] + head.encode() + body)
        self.transport.close()


def _too_large(what: str, limit: int, setting: str) -> HeadTooLarge:
    return HeadTooLarge(
        f"the request's {what} have more than {limit} bytes (api.{setting}); send "
        "less at once"
    )
