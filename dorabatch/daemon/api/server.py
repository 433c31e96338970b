"""The HTTP server on a Unix socket; each request carries the caller's uid.

The kernel says who is at the other end (SO_PEERCRED); nothing in a request can.
Knows no route and no rule.
"""

import asyncio
import grp
import pwd
import socket
import struct
import threading
from pathlib import Path
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from dorabatch.clock import Clock
from dorabatch.config import Settings
from dorabatch.daemon.state.private_files import OPEN_FOLDER, make_folder
from dorabatch.errors import ConfigError
from dorabatch.queue.records import Submitter

_PEER = struct.Struct("3i")
_SOCKET_BACKLOG = 1024
ACCOUNT_SECONDS = 60.0
_ACCOUNTS_MAX = 4096


class PeerProtocol(HttpToolsProtocol):
    """Puts the peer's process, user and group ids into each request's state."""

    def connection_made(self, transport: Any) -> None:
        """Call the kernel who connected."""
        super().connection_made(transport)
        peer = transport.get_extra_info("socket")
        raw = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
        _, uid, gid = _PEER.unpack(raw)
        self.app_state = {**self.app_state, "uid": uid, "gid": gid}


class UnixAccounts:
    """Who is behind a uid, as the machine says; looked up again after a minute.

    One that has no name is looked up each time: the name service may have been away.
    Written and read by the API's thread alone.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._known: dict[tuple[int, int], tuple[float, Submitter]] = {}

    def submitter_of(self, uid: int, gid: int) -> Submitter:
        """The account behind a uid; one without a name is called by its number."""
        now = self._clock.monotonic()
        at, known = self._known.get((uid, gid), (now, None))
        if known is not None and now - at < ACCOUNT_SECONDS:
            return known
        found = _named(uid, gid)
        if found is None:
            return Submitter(user=f"uid-{uid}", uid=uid, gid=gid)
        if len(self._known) >= _ACCOUNTS_MAX:
            self._known.clear()
        self._known[uid, gid] = (now, found)
        return found


def _named(uid: int, gid: int) -> Submitter | None:
    try:
        account = pwd.getpwuid(uid)
    except KeyError:
        return None
    groups = tuple(
        group.gr_gid for group in grp.getgrall() if account.pw_name in group.gr_mem
    )
    return Submitter(user=account.pw_name, uid=uid, gid=gid, groups=groups)


class ApiServer:
    """Serves an application on the daemon's socket from a thread of its own."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._socket = _listen(settings.socket, int(settings.socket_mode, 8))
        self._path = settings.socket
        config = uvicorn.Config(
            app,
            http=PeerProtocol,
            loop="uvloop",
            lifespan="off",
            access_log=False,
            log_level="warning",
            timeout_graceful_shutdown=2,
        )
        self._server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self._run, name="api", daemon=True)

    def start(self) -> None:
        """Begin to answer."""
        self.thread.start()

    def stop(self) -> None:
        """Answer what has been asked, then end."""
        self._server.should_exit = True
        self.thread.join(5.0)
        self._path.unlink(missing_ok=True)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=self._loop_factory()) as runner:
            runner.run(self._server.serve(sockets=[self._socket]))

    def _loop_factory(self) -> Any:
        return self._server.config.get_loop_factory()


def _listen(path: Path, mode: int) -> socket.socket:
    make_folder(path.parent, OPEN_FOLDER)
    if path.exists():
        _refuse_if_answered(path)
        path.unlink()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(str(path))
    except OSError as error:
        raise ConfigError(f"socket = {path}: {error}") from error
    path.chmod(mode)
    listener.listen(_SOCKET_BACKLOG)
    return listener


def _refuse_if_answered(path: Path) -> None:
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        probe.connect(str(path))
    except OSError:
        return
    finally:
        probe.close()
    raise ConfigError(f"socket = {path}: another dorad answers there; stop it first")
