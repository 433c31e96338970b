"""Routes on reports: one in a form, or by mail.

Each handler reads the request, calls one duty and shapes the answer; none decides.
"""

from collections.abc import Mapping

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from dorabatch.daemon.api.http import (
    Context,
    json_answer,
    known_keys,
    read_body,
    text_field,
)
from dorabatch.daemon.intake.report_mail import mail_report
from dorabatch.daemon.rights import check_admin
from dorabatch.daemon.views.report.gather import Reports
from dorabatch.daemon.views.report.render import MEDIA, render
from dorabatch.daemon.views.report.report_period import Wanted
from dorabatch.errors import UserError

PERIOD_KEYS = ("since", "from", "to", "week")
_MAIL_KEYS = frozenset({*PERIOD_KEYS, "account", "to_mail"})


async def report(context: Context, request: Request) -> Response:
    """GET /v1/reports/{name}: a report as a table, CSV, JSON or a page."""
    query = request.query_params
    form = query.get("format", "table")
    if form not in MEDIA:
        raise UserError(f"--format {form!r} (allowed: {', '.join(MEDIA)})")
    reports = Reports(context.services)
    wanted, account = _wanted(query), query.get("account", "")
    caller, name = context.caller(request), request.path_params["name"]

    def make() -> bytes:
        asked = reports.ask(caller, name, wanted, account)
        return render(reports.make(asked), form, reports.rule.zone)

    return Response(await run_in_threadpool(make), media_type=MEDIA[form])


async def mail(context: Context, request: Request) -> Response:
    """POST /v1/reports/{name}/mail: to an address, or to each user their own."""
    caller = context.caller(request)
    check_admin(caller, "mailing a report")
    body = await read_body(context, request)
    known_keys(body, _MAIL_KEYS)
    texts = {key: text_field(body, key) for key in _MAIL_KEYS}
    reports = Reports(context.services)
    name = request.path_params["name"]

    def put() -> dict[str, object]:
        asked = reports.ask(caller, name, _wanted(texts), texts["account"])
        done = mail_report(context.services, reports, asked, texts["to_mail"])
        return {"put": done.put, "before": done.before, "message": done.message}

    return json_answer(await run_in_threadpool(put))


def _wanted(said: Mapping[str, str]) -> Wanted:
    return Wanted(
        since=said.get("since", ""),
        start=said.get("from", ""),
        end=said.get("to", ""),
        week=said.get("week", ""),
    )
