"""Routes on credits: an admin's orders, and what is asked of the ledger.

Reads the request and shapes the answer; the rules are in the modules it calls, none is
here.
"""

from collections.abc import Mapping
from datetime import datetime
from zoneinfo import ZoneInfo

import orjson
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from dorabatch.daemon.api.http import (
    Context,
    json_answer,
    known_keys,
    read_body,
    text_answer,
    text_field,
)
from dorabatch.daemon.intake.credit_order import Order
from dorabatch.daemon.intake.credit_orders import CreditOrders
from dorabatch.daemon.rights import Caller, check_admin
from dorabatch.daemon.views.credit import (
    CreditAnswers,
    default_period,
    forecast_text,
    text_of,
)
from dorabatch.daemon.views.rows import Row
from dorabatch.errors import UserError
from dorabatch.units import credits_number, parse_credits

ASKED = ("balance", "statement", "forecast")
ORDER_KEYS = (
    "account", "amount", "target", "allocation", "reason", "key", "from", "until",
    "on_exhaust",
)  # fmt: skip


async def order(context: Context, request: Request) -> Response:
    """POST /v1/credits/{verb}: grant, transfer, refund or expire."""
    body = await read_body(context, request)
    known_keys(body, frozenset(ORDER_KEYS))
    zone = ZoneInfo(context.services.settings.credits.reset.time_zone)
    amount = body.get("amount")
    wanted = Order(
        verb=request.path_params["verb"],
        account=text_field(body, "account"),
        reason=text_field(body, "reason"),
        amount=None if amount is None else parse_credits(amount, what="amount"),
        target=text_field(body, "target"),
        allocation=text_field(body, "allocation"),
        on_exhaust=text_field(body, "on_exhaust"),
        valid_from=read_moment(text_field(body, "from"), "from", zone),
        valid_to=read_moment(text_field(body, "until"), "until", zone),
        key=text_field(body, "key"),
    )
    orders = CreditOrders(context.services)
    done = await run_in_threadpool(orders.carry_out, context.caller(request), wanted)
    return json_answer(
        {
            "moved": credits_number(done.moved),
            "repeated": done.is_repeated,
            "message": done.message,
        }
    )


async def ask(context: Context, request: Request) -> Response:
    """GET /v1/credits/{what}: balance, statement or forecast."""
    what = request.path_params["what"]
    if what not in ASKED:
        raise UserError(f"{what!r} (allowed: {', '.join(ASKED)})")
    caller, query = context.caller(request), request.query_params
    record = await run_in_threadpool(_record, context, caller, what, query)
    if query.get("render") == "json":
        return json_answer(record)
    if what == "forecast":
        return text_answer(forecast_text(record))
    return text_answer(text_of(record))


async def check(context: Context, request: Request) -> Response:
    """GET /v1/credits/check: lines of JSON, the progress and then the result."""
    check_admin(context.caller(request), "dcredit check")
    lines = (
        orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)
        for row in CreditAnswers(context.services).check()
    )
    return StreamingResponse(lines, media_type="application/x-ndjson")


def _record(
    context: Context, caller: Caller, what: str, query: Mapping[str, str]
) -> Row:
    answers = CreditAnswers(context.services)
    account = query.get("account") or caller.user
    if what == "balance":
        return answers.balance(caller, account)
    if what == "forecast":
        return answers.forecast(caller, account)
    zone = ZoneInfo(context.services.settings.credits.reset.time_zone)
    first, last = default_period(context.services.clock.now())
    start = read_moment(query.get("from", ""), "from", zone)
    end = read_moment(query.get("until", ""), "until", zone)
    if start is None and end is not None and end <= first:
        raise UserError(
            f"--until {end.isoformat()}: is before the last 30 days; say with --from "
            "where the statement begins"
        )
    start, end = start or first, end or last
    return answers.statement(caller, account, start, end)


def read_moment(text: str, what: str, zone: ZoneInfo) -> datetime | None:
    """A date or moment, in the site's time zone unless it names one; "" is None."""
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise UserError(
            f"--{what} {text!r}: is no moment; write 2026-07-01 or 2026-07-01T12:00"
        ) from error
    return moment if moment.tzinfo else moment.replace(tzinfo=zone)
