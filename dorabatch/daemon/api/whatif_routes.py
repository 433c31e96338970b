"""The route of what-if: the site's history, played in a process of its own.

Reads the history, hands it to the process and passes its lines on. Decides nothing and
changes nothing; the process ends when the asker goes away.
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from datetime import timedelta

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from dorabatch.daemon.api.http import Context, known_keys, read_body, text_field
from dorabatch.daemon.rights import check_admin
from dorabatch.daemon.whatif.ask import ask
from dorabatch.daemon.whatif.site_history import WhatifQuestion, record_of
from dorabatch.errors import UserError
from dorabatch.fairshare.turn.settings import parse_assignments, read_positive_duration

_KEYS = frozenset({"set", "since", "shakes"})
SHAKES_MAX = 50


async def whatif(context: Context, request: Request) -> Response:
    """POST /v1/whatif: lines of JSON, the progress and then the answer."""
    check_admin(context.caller(request), "playing everybody's history")
    body = await read_body(context, request)
    known_keys(body, _KEYS)
    words = body.get("set")
    if not isinstance(words, list) or not all(isinstance(one, str) for one in words):
        raise UserError(f"set: {words!r} (allowed: a list of KEY=VALUE)")
    changes = parse_assignments(words)
    shakes = body.get("shakes", 3)
    if not isinstance(shakes, int) or not 1 <= shakes <= SHAKES_MAX:
        raise UserError(f"shakes: {shakes!r} (allowed: 1 to {SHAKES_MAX})")
    since = text_field(body, "since", "21d")
    try:
        span = timedelta(seconds=read_positive_duration(since))
    except ValueError as error:
        raise UserError(f"--since {since!r}: {error}") from error
    services = context.services
    if "nice_max" in changes:
        raise UserError(
            "nice_max cannot be tried: it says what may be submitted, and a replay "
            "plays what was submitted; try half_life, catch_up, age_full, age_step, "
            "weights, lane, qos, queues"
        )
    start = services.clock.now() - span
    question = await run_in_threadpool(ask, services, changes, start, shakes)
    return StreamingResponse(_lines(question), media_type="application/x-ndjson")


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
