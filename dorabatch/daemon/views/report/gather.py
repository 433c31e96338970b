"""Reports: reads what a period left behind, and hands it to the pure reports.

Users see their own, admins everything. Reads one consistent state of the database;
changes nothing and renders nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from fractions import Fraction

from sqlalchemy import Connection

from dorabatch.daemon.rights import Caller
from dorabatch.daemon.state.credit_book import reset_rule
from dorabatch.daemon.state.services import Services
from dorabatch.daemon.views.report.report_period import Wanted, read_period
from dorabatch.db import one_state
from dorabatch.errors import NotAllowed, NotFound, UserError
from dorabatch.fairshare.money.credit_forecast import DAYS, CreditForecast, forecast
from dorabatch.fairshare.money.week_start import Period
from dorabatch.fairshare.report import report_credit, report_use
from dorabatch.fairshare.report.report_audit import (
    audit_sheet,
    done_by_hand,
    done_to_policy,
    done_to_price,
)
from dorabatch.fairshare.report.report_credit import CreditBooks
from dorabatch.fairshare.report.sheet import Chart, Report, Sheet
from dorabatch.fairshare.store import accounts, report_store
from dorabatch.fairshare.turn.account_tree import build_tree, share_fractions
from dorabatch.queue.spans import known_users, owners_of, runs_between
from dorabatch.units import microseconds_of, render_credits


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportQuestion:
    """One report of one period; `who` None means everybody."""

    name: str
    period: Period
    who: frozenset[str] | None

    @property
    def span(self) -> tuple[int, int]:
        """The period in microseconds since 1970."""
        return microseconds_of(self.period.start), microseconds_of(self.period.end)

    def sees(self, *names: str) -> bool:
        """Whether one of these is shown."""
        return self.who is None or bool(self.who.intersection(names))


_Made = tuple[list[Sheet], list[Chart], list[str]]
_Maker = Callable[["Reports", Connection, ReportQuestion], _Made]


class Reports:
    """The reports of one zone."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self.rule = reset_rule(services.settings.credits)

    def ask(
        self, caller: Caller, name: str, wanted: Wanted, account: str
    ) -> ReportQuestion:
        """What a request means; raises UserError, NotAllowed or NotFound."""
        if name not in MAKERS:
            raise UserError(f"no report {name!r} (known: {', '.join(MAKERS)})")
        now = self._services.clock.now()
        if name == "forecast":
            if wanted != Wanted():
                raise UserError(
                    f"forecast looks at the last {DAYS} days; leave out the period"
                )
            wanted = Wanted(since=f"{DAYS}d")
        period = read_period(wanted, now, self.rule)
        return ReportQuestion(
            name=name, period=period, who=self._scope(caller, account)
        )

    def make(self, asked: ReportQuestion) -> Report:
        """The report."""
        with one_state(self._services.engine) as connection:
            sheets, charts, notes = MAKERS[asked.name](self, connection, asked)
        whose = "" if asked.who is None else f" of {', '.join(sorted(asked.who))}"
        return Report(
            name=asked.name,
            title=f"{TITLES[asked.name]}{whose}, zone {self._services.settings.zone}",
            start=asked.period.start,
            end=asked.period.end,
            sheets=tuple(sheets),
            charts=tuple(chart for chart in charts if any(chart.values)),
            notes=tuple(notes),
        )

    def accounts_with_moves(self, asked: ReportQuestion) -> list[str]:
        """Declared users and users that the period's statement speaks of."""
        with one_state(self._services.engine) as connection:
            sheets, _, _ = _statement(self, connection, asked)
        spoken = {str(row[1]) for row in sheets[0].rows}
        users = {*self._services.people.names(), *self._users()}
        return sorted(users & spoken)

    def _users(self) -> set[str]:
        with one_state(self._services.engine) as connection:
            return known_users(connection, self._services.settings.zone)

    def _scope(self, caller: Caller, account: str) -> frozenset[str] | None:
        if not account:
            return None if caller.is_admin else frozenset({caller.user})
        if not caller.is_admin and account != caller.user:
            raise NotAllowed(
                f"account {account!r}: only an admin may see another's report "
                f"({caller.user} is none)"
            )
        self._check_known(account)
        return frozenset({account})

    def _check_known(self, account: str) -> None:
        known = {*self._services.people.names(), *self._users()}
        known |= {row.name for row in self._services.policy.rows}
        known |= {name for _, name in self._services.credits.book.owned}
        if account not in known:
            some = ", ".join(sorted(known)[:10]) or "none"
            raise NotFound(f"no account or user {account!r} (known: {some})")

    def books(self, connection: Connection, asked: ReportQuestion) -> CreditBooks:
        """The ledger over the period."""
        start, end = asked.span
        return CreditBooks(
            opening=report_store.balances_before(connection, start),
            moves=report_store.moves(connection, start, end),
            later=report_store.credit_later(connection, end),
            head=report_store.head_before(connection, end),
        )

    def spans(
        self, connection: Connection, asked: ReportQuestion
    ) -> list[report_use.Span]:
        """What ran in the period, up to now."""
        period, zone = asked.period, self._services.settings.zone
        return [
            report_use.Span(
                user=one.user,
                models=one.gpu_models,
                start=one.started_at,
                end=one.ended_at or period.end,
                waited=(
                    max(timedelta(), one.started_at - one.submitted_at)
                    if one.attempt == 1 and one.started_at >= period.start
                    else None
                ),
            )
            for one in runs_between(connection, zone, period.start, period.end)
        ]

    def capacity(self) -> dict[str, int]:
        """GPUs by model, as the nodes tell today."""
        found: dict[str, int] = {}
        for view in self._services.fleet.views():
            for gpu in view.facts.gpus if view.facts else ():
                found[gpu.model] = found.get(gpu.model, 0) + 1
        return found

    def fractions(self) -> dict[str, Fraction]:
        """The part of the whole that each in the share tree is promised."""
        rows = self._services.policy.rows
        return share_fractions(build_tree(rows)) if rows else {}

    def forecasts(
        self, connection: Connection, asked: ReportQuestion
    ) -> dict[tuple[str, str], tuple[int, CreditForecast]]:
        """(zone, account) -> balance and forecast, where credit is limited."""
        desk, now = self._services.credits, asked.period.end
        daily = accounts.daily_use(connection, self.zone, end=microseconds_of(now))
        found = {}
        for zone, account in desk.book.owned:
            if asked.sees(account):
                balance = desk.standing_of(account, now).balance
                used = daily.get(account, [0] * DAYS)
                found[zone, account] = balance, forecast(used, balance, now)
        return found

    @property
    def zone(self) -> str:
        """The zone's name."""
        return self._services.settings.zone


def _statement(
    reports: Reports, connection: Connection, asked: ReportQuestion
) -> _Made:
    books = reports.books(connection, asked)
    sheets = report_credit.statement_sheets(books, asked.who)
    notes = [
        report_credit.closing_line(books, sheets[0])
        if asked.who is None
        else report_credit.head_line(books)
    ]
    return sheets, [report_credit.bars(sheets[0], 1, 4, "Charges by account")], notes


def _charge_back(
    _reports: Reports, connection: Connection, asked: ReportQuestion
) -> _Made:
    revenue = [
        one
        for one in report_store.run_revenue(connection, *asked.span)
        if asked.sees(one.payer)
    ]
    workloads = {one.run: int(one.run.partition(".")[0]) for one in revenue if one.run}
    owners = owners_of(connection, workloads.values())
    places = {
        run: owners[workload][0]
        for run, workload in workloads.items()
        if workload in owners
    }
    sheets = report_credit.charge_back_sheets(revenue, places)
    total = sum(one.ucr for one in revenue)
    charts = [
        report_credit.bars(sheets[0], 1, 3, "Charged by account"),
        report_credit.bars(sheets[0], 2, 3, "Charged by model"),
    ]
    note = f"Charges less refunds: {render_credits(total)} credits ({total} ucr)."
    return sheets, charts, [note]


def _usage(reports: Reports, connection: Connection, asked: ReportQuestion) -> _Made:
    spans = [one for one in reports.spans(connection, asked) if asked.sees(one.user)]
    sheets = report_use.usage_sheets(
        spans,
        reports.capacity(),
        start=asked.period.start,
        end=asked.period.end,
        zone=reports.rule.zone,
    )
    charts = [
        report_credit.bars(sheets[0], 2, 3, "GPU hours by day", by_label=True),
        report_credit.bars(sheets[0], 0, 3, "GPU hours by user"),
    ]
    return sheets if asked.who is None else sheets[:1], charts, []


def _fairness(reports: Reports, connection: Connection, asked: ReportQuestion) -> _Made:
    found = report_use.fairness(
        reports.spans(connection, asked),
        {name: float(part) for name, part in reports.fractions().items()},
        start=asked.period.start,
        end=asked.period.end,
    )
    rows = tuple(row for row in found.sheet.rows if asked.sees(str(row[0])))
    sheet = replace(found.sheet, rows=rows)
    notes = [f"Jain's index over all users: {found.jain:.3f} (1 is even)."]
    if found.worst and asked.sees(found.worst):
        notes.append(f"Furthest below what was promised: {found.worst}.")
    return [sheet], [report_credit.bars(sheet, 0, 4, "Got / entitled")], notes


def _forecast(reports: Reports, connection: Connection, asked: ReportQuestion) -> _Made:
    sheet = report_credit.forecast_sheet(reports.forecasts(connection, asked))
    notes = ["Accounts without any credit of their own are not limited."]
    return [sheet], [report_credit.bars(sheet, 1, 3, f"Spent in {DAYS} days")], notes


def _accuracy(reports: Reports, connection: Connection, asked: ReportQuestion) -> _Made:
    found = report_store.forecasts_between(connection, reports.zone, *asked.span)
    if asked.who is not None:
        owners = owners_of(connection, [one.workload_id for one in found])
        found = [
            one
            for one in found
            if one.workload_id in owners and asked.sees(owners[one.workload_id][1])
        ]
    sheets = report_use.accuracy_sheets(found, reports.rule.zone)
    days = replace(sheets[0], rows=sheets[0].rows[:-1])
    chart = report_credit.bars(days, 0, 6, "Hit rate by day", by_label=True)
    return sheets, [chart], []


def _audit(reports: Reports, connection: Connection, asked: ReportQuestion) -> _Made:
    start, end = asked.span
    done = [
        *map(done_by_hand, report_store.hand_entries(connection, start, end)),
        *map(
            done_to_policy,
            report_store.changes_between(connection, reports.zone, start, end),
        ),
        *map(done_to_price, report_store.prices_between(connection, start, end)),
    ]
    shown = [one for one in done if asked.sees(one.actor, one.subject)]
    return [audit_sheet(shown)], [], []


MAKERS: dict[str, _Maker] = {
    "statement": _statement,
    "chargeback": _charge_back,
    "usage": _usage,
    "fairness": _fairness,
    "forecast": _forecast,
    "accuracy": _accuracy,
    "audit": _audit,
}
TITLES = {
    "statement": "Statement of credits",
    "chargeback": "Charge-back",
    "usage": "GPU usage",
    "fairness": "Fairness",
    "forecast": "Credit forecast",
    "accuracy": "Accuracy of start forecasts",
    "audit": "Audit",
}
