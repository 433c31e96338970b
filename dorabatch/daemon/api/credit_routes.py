"""Routes on credits: an admin's orders, and what is asked of the ledger.

Reads the request and shapes the answer; the rules are in the modules it calls, none is
here.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

import orjson
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse

from dorabatch.clock import Clock
from dorabatch.daemon.api.http import Call, Route, json_answer, text_answer, text_field
from dorabatch.daemon.intake.credit_order import Order
from dorabatch.daemon.intake.credit_orders import CreditOrders
from dorabatch.daemon.views.credit import (
    CreditViews,
    default_period,
    forecast_text,
    text_of,
)
from dorabatch.daemon.views.table_layout import Row
from dorabatch.errors import UserError
from dorabatch.resources.verbs import Verb
from dorabatch.units import credits_number, parse_credits

ASKED = ("balance", "statement", "forecast")
ORDER_KEYS = (
    "account", "amount", "target", "allocation", "reason", "key", "from", "until",
    "on_exhaust",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class CreditRoutes:
    """Credit in one zone; `time_zone` is the one that dates are in."""

    orders: CreditOrders
    views: CreditViews
    clock: Clock
    time_zone: ZoneInfo

    def routes(self) -> tuple[Route, ...]:
        """The routes of this file."""
        return (
            Route(
                method="POST", path="/v1/credits/{verb}", kind="Usercredit",
                verb=Verb.APPLY, handler=self.order, body=ORDER_KEYS,
                summary="grant, transfer, refund or expire credit",
            ),
            Route(
                method="GET", path="/v1/credits/check", kind="Usercredit",
                verb=Verb.APPLY, handler=self.check, answer="application/x-ndjson",
                summary="Whether the ledger is sound",
            ),
            Route(
                method="GET", path="/v1/credits/{what}", kind="Usercredit",
                verb=Verb.GET_ONE, handler=self.ask,
                summary="balance, statement or forecast",
                query=("account", "from", "until", "render"),
            ),
        )  # fmt: skip

    async def order(self, call: Call) -> Response:
        """POST /v1/credits/{verb}: grant, transfer, refund or expire."""
        body = await call.body(frozenset(ORDER_KEYS))
        amount = body.get("amount")
        wanted = Order(
            verb=call.word("verb"),
            account=text_field(body, "account"),
            reason=text_field(body, "reason"),
            amount=None if amount is None else parse_credits(amount, what="amount"),
            target=text_field(body, "target"),
            allocation=text_field(body, "allocation"),
            on_exhaust=text_field(body, "on_exhaust"),
            valid_from=read_moment(text_field(body, "from"), "from", self.time_zone),
            valid_to=read_moment(text_field(body, "until"), "until", self.time_zone),
            key=text_field(body, "key"),
        )
        done = await run_in_threadpool(self.orders.carry_out, call.caller, wanted)
        return json_answer(
            {
                "moved": credits_number(done.moved),
                "repeated": done.is_repeated,
                "message": done.message,
            }
        )

    async def ask(self, call: Call) -> Response:
        """GET /v1/credits/{what}: balance, statement or forecast."""
        what = call.word("what")
        if what not in ASKED:
            raise UserError(f"{what!r} (allowed: {', '.join(ASKED)})")
        account = call.query.get("account") or call.caller.user
        call.require(f"account {account!r}", owner=account)
        record = await run_in_threadpool(self._record, what, account, call)
        if call.query.get("render") == "json":
            return json_answer(record)
        if what == "forecast":
            return text_answer(forecast_text(record))
        return text_answer(text_of(record))

    async def check(self, call: Call) -> Response:
        """GET /v1/credits/check: lines of JSON, the progress and then the result."""
        return StreamingResponse(self._lines(), media_type="application/x-ndjson")

    def _lines(self) -> Iterator[bytes]:
        for row in self.views.check():
            yield orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)

    def _record(self, what: str, account: str, call: Call) -> Row:
        asker = call.caller.user
        if what == "balance":
            return self.views.balance(account, asker=asker)
        if what == "forecast":
            return self.views.forecast(account, asker=asker)
        return self.views.statement(account, *self._period(call.query), asker=asker)

    def _period(self, query: dict[str, str]) -> tuple[datetime, datetime]:
        first, last = default_period(self.clock.now())
        start = read_moment(query.get("from", ""), "from", self.time_zone)
        end = read_moment(query.get("until", ""), "until", self.time_zone)
        if start is None and end is not None and end <= first:
            raise UserError(
                f"--until {end.isoformat()}: is before the last 30 days; say with "
                "--from where the statement begins"
            )
        return start or first, end or last


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
