"""The route of what-if: the site's history, played in a process of its own.

Reads the history, hands it to the process and passes its lines on. Decides nothing and
changes nothing; the process ends when the asker goes away.
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse

from dorabatch.clock import Clock
from dorabatch.daemon.api.http import Call, Route, text_field, text_list
from dorabatch.daemon.whatif.ask import HistoryReader
from dorabatch.daemon.whatif.site_history import WhatifQuestion, record_of
from dorabatch.errors import UserError
from dorabatch.fairshare.turn.settings import parse_assignments, read_positive_duration
from dorabatch.resources.verbs import Verb

_KEYS = ("set", "since", "shakes")
SHAKES_MAX = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class WhatifRoutes:
    """What other settings would have done."""

    history: HistoryReader
    clock: Clock

    def routes(self) -> tuple[Route, ...]:
        """The routes of this file."""
        return (
            Route(
                method="POST", path="/v1/whatif", kind="Policy", verb=Verb.APPLY,
                handler=self.play, summary="Play the history under other settings",
                body=_KEYS, answer="application/x-ndjson",
            ),
        )  # fmt: skip

    async def play(self, call: Call) -> Response:
        """POST /v1/whatif: lines of JSON, the progress and then the answer."""
        body = await call.body(frozenset(_KEYS))
        changes = parse_assignments(list(text_list(body, "set")))
        if "nice_max" in changes:
            raise UserError(
                "nice_max cannot be tried: it says what may be submitted, and a replay "
                "plays what was submitted; try half_life, catch_up, age_full, "
                "age_step, weights, lane, qos, queues, limits"
            )
        shakes, span = _shakes(body), _span(body)
        now = self.clock.now()
        question = await run_in_threadpool(
            self.history.ask, changes, now - span, shakes, now
        )
        return StreamingResponse(_lines(question), media_type="application/x-ndjson")


def _shakes(body: dict[str, Any]) -> int:
    shakes = body.get("shakes", 3)
    if not isinstance(shakes, int) or not 1 <= shakes <= SHAKES_MAX:
        raise UserError(f"shakes: {shakes!r} (allowed: 1 to {SHAKES_MAX})")
    return shakes


def _span(body: dict[str, Any]) -> timedelta:
    since = text_field(body, "since", "21d")
    try:
        return timedelta(seconds=read_positive_duration(since))
    except ValueError as error:
        raise UserError(f"--since {since!r}: {error}") from error


async def _lines(question: WhatifQuestion) -> AsyncIterator[bytes]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "dorabatch.daemon.whatif.worker",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=64 * 1024 * 1024,
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        process.stdin.write(json.dumps(record_of(question)).encode())
        await process.stdin.drain()
        process.stdin.close()
        async for line in process.stdout:
            yield line
        await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
