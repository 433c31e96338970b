"""The route of what-if: the site's history, played in a process of its own.

Reads the history, hands it to the process and passes its lines on. Decides nothing and
changes nothing; the process ends when the asker goes away.
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from dataclasses import asdict
from datetime import datetime, timedelta

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from dorabatch.daemon.api.context import Context, known_keys, read_body, text_field
from dorabatch.daemon.rights import check_admin
from dorabatch.daemon.services import Services
from dorabatch.daemon.specs import spec_of_text
from dorabatch.daemon.whatif.compare import PastJob, Question
from dorabatch.errors import NotFound, UserError
from dorabatch.fairshare.settings import (
    parse_assignments,
    policy_settings,
    read_positive_duration,
)
from dorabatch.queue.past import JobRun, job_runs
from dorabatch.units import CREDIT

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
    shakes = body.get("shakes", 5)
    if not isinstance(shakes, int) or not 1 <= shakes <= SHAKES_MAX:
        raise UserError(f"shakes: {shakes!r} (allowed: 1 to {SHAKES_MAX})")
    since = text_field(body, "since", "21d")
    try:
        span = timedelta(seconds=read_positive_duration(since))
    except ValueError as error:
        raise UserError(f"since = {since!r}: {error}") from error
    services = context.services
    if served := [
        key for key in changes if key.startswith(("nice_max", "qos.", "queues."))
    ]:
        raise UserError(
            f"{served[0]} cannot be tried: a replay knows neither nice nor the QOS and "
            "the queue of a workload; try half_life, catch_up, age_full, weights, lane"
        )
    start = services.clock.now() - span
    question = await run_in_threadpool(ask, services, changes, start, shakes)
    return StreamingResponse(_lines(question), media_type="application/x-ndjson")


def ask(
    services: Services, changes: dict[str, str], start: datetime, shakes: int
) -> Question:
    """The question about what was submitted since a moment."""
    zone = services.settings.zone
    then = dict(services.policy.settings.texts)
    now = policy_settings(then, changes).texts
    with services.engine.connect() as connection:
        runs = list(job_runs(connection, zone, start))
    runs = [run for run in runs if run.gpu_models]
    if not runs:
        raise NotFound(
            f"nothing with GPUs was submitted since {start:%Y-%m-%d %H:%M} and has "
            "ended; name a longer --since"
        )
    views = services.fleet.views()
    total = sum(len(view.facts.gpus) for view in views if view.facts)
    weekly = services.people.weekly(zone)
    return Question(
        jobs=tuple(_job(run, start) for run in runs),
        accounts=tuple(services.policy.rows),
        then=then,
        now=now,
        credits={one.account: one.amount / CREDIT for one in weekly},
        price=_mean_price(services, runs),
        capacity=max([total, *(len(run.gpu_models) for run in runs)]),
        shakes=shakes,
    )


def _job(run: JobRun, start: datetime) -> PastJob:
    spec = spec_of_text(run.spec_json)
    return PastJob(
        user=run.user,
        submit=(run.submitted_at - start).total_seconds(),
        seconds=(run.ended_at - run.started_at).total_seconds(),
        limit=spec.config.run_seconds_max,
        gpus=len(run.gpu_models),
        may_try=spec.restartable,
    )


def _mean_price(services: Services, runs: list[JobRun]) -> float:
    """Credits a GPU hour, the mean over the GPU hours of the history."""
    zone, book = services.settings.zone, services.credits.prices
    cost = hours = 0.0
    for run in runs:
        took = (run.ended_at - run.started_at).total_seconds() / 3600
        for model in run.gpu_models:
            cost += book.price_at(zone, model, run.started_at) / CREDIT * took
            hours += took
    return cost / hours if hours else 0.0


async def _lines(question: Question) -> AsyncIterator[bytes]:
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
        process.stdin.write(json.dumps(asdict(question)).encode())
        await process.stdin.drain()
        process.stdin.close()
        async for line in process.stdout:
            yield line
        await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
