"""How a request waits: for a change of a workload, and no longer than its client.

Runs on the API's loop and holds no thread. Decides nothing.
"""

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request

from dorabatch.queue.board import Board
from dorabatch.queue.records import WorkloadId

_T = TypeVar("_T")


@contextmanager
def changes_of(board: Board, workload_id: WorkloadId) -> Iterator[asyncio.Event]:
    """An event that is set after each change of the workload; clear it, then look."""
    loop, changed = asyncio.get_running_loop(), asyncio.Event()

    def tell() -> None:
        # While the daemon ends, there is no loop any more.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(changed.set)

    board.watch(workload_id, tell)
    try:
        yield changed
    finally:
        board.unwatch(workload_id, tell)


async def while_there(request: Request, work: Coroutine[Any, Any, _T]) -> _T:
    """The result of some work, given up as soon as the client has hung up.

    Raises ClientDisconnect then; the request's body must not be wanted any more.
    """
    doing = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait((doing, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not doing.done():
            raise ClientDisconnect
        return doing.result()
    finally:
        for one in (doing, leaving):
            one.cancel()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
