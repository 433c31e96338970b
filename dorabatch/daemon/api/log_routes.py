"""The route of logs: of a running container from its node, of an ended one from disk.

Streams; keeps nothing. A log that is being moved from the node to disk is never seen
twice and never missed: the reader goes by the number of bytes it has.
"""

import threading
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse

from dorabatch.clock import Clock
from dorabatch.daemon.api.http import Call, Route
from dorabatch.daemon.runs.container_request import ContainerRequests
from dorabatch.daemon.runs.node_keeper import Keepers
from dorabatch.daemon.state.log_files import LogFiles
from dorabatch.daemon.views.summary import WorkloadFinder
from dorabatch.errors import NodeError, NotFound, UserError
from dorabatch.queue.records import Container, Workload
from dorabatch.queue.states import State
from dorabatch.resources.verbs import Verb

_PIECE_BYTES = 65536
_POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRoutes:
    """What containers wrote."""

    finder: WorkloadFinder
    keepers: Keepers
    requests: ContainerRequests
    files: LogFiles
    clock: Clock

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
        await run_in_threadpool(reading.begin)
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
        self._never = threading.Event()

    def begin(self) -> None:
        """Find the container; wait for its start when the reader follows."""
        container = self._container()
        clock = self._logs.clock
        while self._follows and not self._has_begun(container):
            if container.state is State.FINISHED:
                break
            clock.wait(self._never, _POLL_SECONDS)
            container = self._container()
        if self.attempt > container.attempt:
            raise NotFound(
                f"no attempt {self.attempt} of container {self._replica} (it had: "
                f"{container.attempt})"
            )
        self.attempt = self.attempt or container.attempt

    def pieces(self) -> Iterator[bytes]:
        """The log's bytes from the offset on."""
        path = self._path()
        if not path.exists() and self.attempt:
            yield from self._from_node()
        # What came while the log was moved to disk, or all of it.
        if path.exists():
            yield from self._from_disk(path)

    def _has_begun(self, container: Container) -> bool:
        wanted = self.attempt or container.attempt
        if container.attempt > wanted or self._path().exists():
            return True
        is_live = container.state in (State.RUNNING, State.STOPPING)
        return container.attempt == wanted and is_live

    def _from_node(self) -> Iterator[bytes]:
        container = self._container()
        hold = container.hold
        is_there = container.attempt == self.attempt and hold is not None
        if hold is None or not is_there or container.state is State.PLACED:
            return
        keeper = self._logs.keepers.get(hold.node)
        if keeper is None:
            return
        name = self._logs.requests.name_of(container)
        skip = self._offset
        try:
            with keeper.driver.logs(
                name, follow=self._follows, tail=self._tail
            ) as stream:
                for piece in stream:
                    kept = piece[skip:] if skip else piece
                    skip = max(0, skip - len(piece))
                    self._offset += len(kept)
                    if kept:
                        yield kept
        except NodeError as error:
            yield f"[dorad: {error.message}]\n".encode()
        if self._follows:
            self._wait_for_disk()

    def _wait_for_disk(self) -> None:
        """A followed log ended: the rest of it is on disk once it is settled."""
        clock = self._logs.clock
        for _ in range(100):
            container = self._container()
            is_over = container.attempt != self.attempt or container.hold is None
            if self._path().exists() or is_over:
                return
            clock.wait(self._never, _POLL_SECONDS)

    def _from_disk(self, path: Path) -> Iterator[bytes]:
        if self._tail is not None and self._offset == 0:
            with path.open("rb") as lines:
                yield b"".join(deque(lines, maxlen=self._tail))
            return
        with path.open("rb") as content:
            content.seek(self._offset)
            while piece := content.read(_PIECE_BYTES):
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
