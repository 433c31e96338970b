"""The route of logs: of a running container from its node, of an ended one from disk.

A reader waits on the API's loop and holds no thread. A log that is being moved from the
node to disk is never seen twice and never missed: the reader goes by the number of
bytes it has.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse

from dorabatch.daemon.api.http import Call, Route
from dorabatch.daemon.api.waiting import changes_of, while_there
from dorabatch.daemon.runs.container_request import ContainerRequests
from dorabatch.daemon.runs.log_tails import PIECE_BYTES, LogTails
from dorabatch.daemon.runs.node_keeper import Keepers
from dorabatch.daemon.state.log_files import LogFiles
from dorabatch.daemon.views.summary import WorkloadFinder
from dorabatch.errors import NotFound, UserError
from dorabatch.queue.records import Container, Workload
from dorabatch.queue.states import State
from dorabatch.resources.verbs import Verb

_DISK_SECONDS_MAX = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRoutes:
    """What containers wrote."""

    finder: WorkloadFinder
    keepers: Keepers
    requests: ContainerRequests
    files: LogFiles
    tails: LogTails

    def routes(self) -> tuple[Route, ...]:
        """The routes of this file."""
        return (
            Route(
                method="GET", path="/v1/workloads/{ref:path}/log", kind="Container",
                verb=Verb.LOG, handler=self.log, summary="A container's output",
                query=("replica", "attempt", "tail", "offset", "follow"),
                answer="application/octet-stream",
            ),
        )  # fmt: skip

    async def log(self, call: Call) -> Response:
        """GET /v1/workloads/{ref}/log."""
        workload = self.finder.find(call.caller, call.word("ref"), call.workspace)
        call.require_run(workload, "the log of workload")
        reading = Reading(self, workload, call.query)
        call.begin_stream()
        await while_there(call.request, reading.begin())
        headers = {"X-Dora-Attempt": str(reading.attempt)} if reading.attempt else {}
        return StreamingResponse(
            reading.pieces(), media_type="application/octet-stream", headers=headers
        )


def _number(query: Mapping[str, str], name: str, least: int = 0) -> int | None:
    text = query.get(name, "")
    if not text:
        return None
    if not (text.isdecimal() and len(text) < 19 and int(text) >= least):
        raise UserError(f"{name}: {text!r} (allowed: a whole number from {least})")
    return int(text)


class Reading:
    """One reader of one attempt's log."""

    def __init__(
        self, logs: LogRoutes, workload: Workload, query: Mapping[str, str]
    ) -> None:
        self._logs = logs
        self._workload = workload
        self._replica = _number(query, "replica", 1) or 1
        self.attempt = _number(query, "attempt", 1) or 0
        self._tail = _number(query, "tail")
        self._offset = _number(query, "offset") or 0
        self._follows = query.get("follow") == "1"
        self._has_last_lines = False

    async def begin(self) -> None:
        """Find the container; wait for its start when the reader follows."""
        key = self._workload.workload_id
        with changes_of(self._logs.finder.board, key) as changed:
            container = self._container()
            while self._follows and not self._has_begun(container):
                if container.state is State.FINISHED:
                    break
                await changed.wait()
                changed.clear()
                container = self._container()
        if self.attempt > container.attempt:
            raise NotFound(
                f"no attempt {self.attempt} of container {self._replica} (it had: "
                f"{container.attempt})"
            )
        self.attempt = self.attempt or container.attempt

    async def pieces(self) -> AsyncIterator[bytes]:
        """The log's bytes from the offset on."""
        path = self._path()
        if not path.exists() and self.attempt:
            async for piece in self._from_node():
                yield piece
        # What came while the log was moved to disk, or all of it; where the last lines
        # were read on the node, nobody knows where in the file they are.
        if path.exists() and not self._has_last_lines:
            async for piece in self._from_disk(path):
                yield piece

    def _has_begun(self, container: Container) -> bool:
        wanted = self.attempt or container.attempt
        if container.attempt > wanted or self._path().exists():
            return True
        is_live = container.state in (State.RUNNING, State.STOPPING)
        return container.attempt == wanted and is_live

    async def _from_node(self) -> AsyncIterator[bytes]:
        container = self._container()
        hold = container.hold
        is_there = container.attempt == self.attempt and hold is not None
        if hold is None or not is_there or container.state is State.PLACED:
            return
        keeper = self._logs.keepers.get(hold.node)
        if keeper is None:
            return
        name = self._logs.requests.name_of(container)
        lines = None if self._offset else self._tail
        with self._logs.tails.joined(
            keeper.driver, name, follow=self._follows, lines=lines, place=self._offset
        ) as pieces:
            async for piece in pieces:
                self._offset += len(piece)
                self._has_last_lines = lines is not None
                yield piece
        if self._follows:
            await self._wait_for_disk()

    async def _wait_for_disk(self) -> None:
        """A followed log ended: the rest of it is on disk once it is settled."""
        key = self._workload.workload_id
        with (
            changes_of(self._logs.finder.board, key) as changed,
            suppress(TimeoutError),
        ):
            async with asyncio.timeout(_DISK_SECONDS_MAX):
                while not (self._path().exists() or self._is_over()):
                    await changed.wait()
                    changed.clear()

    def _is_over(self) -> bool:
        container = self._container()
        return container.attempt != self.attempt or container.hold is None

    async def _from_disk(self, path: Path) -> AsyncIterator[bytes]:
        if self._tail is not None and self._offset == 0:
            yield await run_in_threadpool(_last_lines, path, self._tail)
            return
        with path.open("rb") as content:
            content.seek(self._offset)
            while piece := await run_in_threadpool(content.read, PIECE_BYTES):
                yield piece

    def _path(self) -> Path:
        return self._logs.files.path(
            self._workload.workload_id, self._replica, self.attempt
        )

    def _container(self) -> Container:
        wanted = self._replica
        found = self._logs.finder.containers_of(self._workload)
        for container in found:
            if container.replica == wanted:
                return container
        numbers = ", ".join(str(c.replica) for c in found) or "none"
        raise NotFound(f"no container {wanted} (there are: {numbers})")


def _last_lines(path: Path, count: int) -> bytes:
    with path.open("rb") as lines:
        return b"".join(deque(lines, maxlen=count))
