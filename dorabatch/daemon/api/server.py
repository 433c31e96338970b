"""The HTTP server on a Unix socket, and how much each user may have open there.

Knows no route, and no rule but the limits that `crowd` keeps.
"""

import asyncio
import resource
import socket
import threading
from functools import partial
from math import ceil
from pathlib import Path
from typing import Any, cast

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from dorabatch import log
from dorabatch.config import ApiSettings, Settings
from dorabatch.daemon.api.crowd import Allowances, fitted, operators
from dorabatch.daemon.api.http import error_answer
from dorabatch.daemon.api.peer_protocol import PeerProtocol
from dorabatch.daemon.state.private_files import OPEN_FOLDER, make_folder
from dorabatch.errors import ConfigError, TooMuchOpen

_SOCKET_BACKLOG = 1024


class Gate:
    """Lets requests through to the application, as many of each user as may be."""

    def __init__(self, app: ASGIApp, allowances: Allowances) -> None:
        self._app = app
        self._allowances = allowances

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, from its head to the end of its answer."""
        try:
            visit = self._allowances.visit(scope["state"]["uid"])
        except TooMuchOpen as error:
            await error_answer(error)(scope, receive, send)
            return
        scope["state"]["visit"] = visit
        try:
            await self._app(scope, receive, send)
        finally:
            visit.end()


class ApiServer:
    """Serves an application on the daemon's socket from a thread of its own."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._socket = _listen(settings.socket, int(settings.socket_mode, 8))
        self._path = settings.socket
        api = _within_open_files(settings.api)
        allowances = Allowances(api, operators(settings.admins))
        protocol = partial(PeerProtocol, allowances, api)
        config = uvicorn.Config(
            Gate(app, allowances),
            # A class by its use: uvicorn only calls it.
            http=cast(type[PeerProtocol], protocol),
            loop="uvloop",
            lifespan="off",
            access_log=False,
            log_level="warning",
            timeout_keep_alive=ceil(api.idle_seconds_max),
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


def raise_open_files() -> None:
    """Let this process have as many files open as it may."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _within_open_files(api: ApiSettings) -> ApiSettings:
    """The limits, lower where the process may not have so many files open."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    fits = fitted(api, files)
    if fits.connections_max < api.connections_max:
        log.warning(
            "few-open-files",
            open_files=files,
            connections_max=fits.connections_max,
            wanted=api.connections_max,
        )
    return fits


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
