"""Routes on reports: one in a form, or by mail.

Each handler reads the request, calls one duty and shapes the answer; none decides.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from dorabatch.daemon.api.http import Call, Route, json_answer, text_field
from dorabatch.daemon.intake.report_mail import ReportMail
from dorabatch.daemon.views.report.gather import Reports
from dorabatch.daemon.views.report.render import MEDIA, render
from dorabatch.daemon.views.report.report_period import Wanted
from dorabatch.errors import UserError
from dorabatch.resources.verbs import Verb

_PERIOD = ("since", "from", "to", "week")
_MAIL = (*_PERIOD, "account", "to_mail")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportRoutes:
    """Reports of one zone."""

    reports: Reports
    mail: ReportMail

    def routes(self) -> tuple[Route, ...]:
        """The routes of this file."""
        return (
            Route(
                method="GET", path="/v1/reports/{name}", kind="Report",
                verb=Verb.GET_ONE, handler=self.report, answer="text/plain",
                summary="A report of a period", query=(*_PERIOD, "account", "format"),
            ),
            Route(
                method="POST", path="/v1/reports/{name}/mail", kind="Report",
                verb=Verb.APPLY, handler=self.send, body=_MAIL,
                summary="Mail a report, or each user their own statement",
            ),
        )  # fmt: skip

    async def report(self, call: Call) -> Response:
        """GET /v1/reports/{name}: a report as a table, CSV, JSON or a page."""
        form = call.query.get("format", "table")
        if form not in MEDIA:
            raise UserError(f"--format {form!r} (allowed: {', '.join(MEDIA)})")
        wanted, account = _wanted(call.query), call.query.get("account", "")

        def make() -> bytes:
            asked = self.reports.ask(call.caller, call.word("name"), wanted, account)
            return render(self.reports.make(asked), form, self.reports.rule.zone)

        return Response(await run_in_threadpool(make), media_type=MEDIA[form])

    async def send(self, call: Call) -> Response:
        """POST /v1/reports/{name}/mail: to an address, or to each user their own."""
        body = await call.body(frozenset(_MAIL))
        texts = {key: text_field(body, key) for key in _MAIL}

        def put() -> dict[str, object]:
            name, wanted = call.word("name"), _wanted(texts)
            asked = self.reports.ask(call.caller, name, wanted, texts["account"])
            done = self.mail.mail(self.reports, asked, texts["to_mail"])
            return {"put": done.put, "before": done.before, "message": done.message}

        return json_answer(await run_in_threadpool(put))


def _wanted(said: Mapping[str, str]) -> Wanted:
    return Wanted(
        since=said.get("since", ""),
        start=said.get("from", ""),
        end=said.get("to", ""),
        week=said.get("week", ""),
    )
