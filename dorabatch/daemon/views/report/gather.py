"""Reports: reads what a period left behind, and hands it to the pure reports.

Shows each caller what `rights` lets them see. Reads one consistent state of the
database; changes nothing and renders nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from sqlalchemy import Connection, Engine

from dorabatch.clock import Clock
from dorabatch.daemon.rights import Caller, Place, may, require
from dorabatch.daemon.state.users import DeclaredUsers
from dorabatch.daemon.views.report.report_period import Wanted, read_period
from dorabatch.daemon.views.report.report_sources import ReportSources
from dorabatch.db import one_state
from dorabatch.errors import NotFound, UserError
from dorabatch.fairshare.money.credit_forecast import DAYS
from dorabatch.fairshare.money.week_start import Period, ResetRule
from dorabatch.fairshare.report import report_credit, report_use
from dorabatch.fairshare.report.report_audit import (
    audit_sheet,
    done_by_hand,
    done_to_policy,
    done_to_price,
)
from dorabatch.fairshare.report.sheet import Chart, Report, Sheet
from dorabatch.fairshare.store import report_store
from dorabatch.queue.spans import known_users, owners_of
from dorabatch.resources.verbs import Verb
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
_Maker = Callable[[ReportSources, Connection, ReportQuestion], _Made]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportReaders:
    """Whose report one may see, and who can be asked about."""

    users: DeclaredUsers
    sources: ReportSources
    engine: Engine

    def scope(self, caller: Caller, account: str) -> frozenset[str] | None:
        """Whom a report shows; None: everybody. Raises NotAllowed or NotFound.

        Where nobody is named: whomever the caller may see, the head of an account its
        members too.
        """
        if account:
            place = self._place(account)
            require(
                caller,
                Verb.GET_ONE,
                "Report",
                place,
                f"the report of account {account!r}",
            )
            self._check_known(account)
            return frozenset({account})
        if may(caller, Verb.GET, "Report", self._place(None)):
            return None
        seen = (one for one in self.known() if self._is_seen(caller, one))
        return frozenset({caller.user, *seen})

    def _is_seen(self, caller: Caller, user: str) -> bool:
        return may(caller, Verb.GET, "Report", self._place(user))

    def _place(self, owner: str | None) -> Place:
        return Place(zone=self.sources.zone, owner=owner)

    def known(self) -> set[str]:
        """Declared users and those who ever submitted."""
        with one_state(self.engine) as connection:
            submitted = known_users(connection, self.sources.zone)
        return {*self.users.names(), *submitted}

    def _check_known(self, account: str) -> None:
        known = self.known()
        known |= {row.name for row in self.sources.policy.rows}
        known |= {name for _, name in self.sources.credits.book.owned}
        if account not in known:
            some = ", ".join(sorted(known)[:10]) or "none"
            raise NotFound(f"no account or user {account!r} (known: {some})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reports:
    """The reports of one zone."""

    sources: ReportSources
    readers: ReportReaders
    engine: Engine
    clock: Clock

    @property
    def rule(self) -> ResetRule:
        """When the site's weeks begin, and its time zone."""
        return self.sources.rule

    def ask(
        self, caller: Caller, name: str, wanted: Wanted, account: str
    ) -> ReportQuestion:
        """What a request means; raises UserError, NotAllowed or NotFound."""
        if name not in MAKERS:
            raise UserError(f"no report {name!r} (known: {', '.join(MAKERS)})")
        if name == "forecast":
            if wanted != Wanted():
                raise UserError(
                    f"forecast looks at the last {DAYS} days; leave out the period"
                )
            wanted = Wanted(since=f"{DAYS}d")
        period = read_period(wanted, self.clock.now(), self.rule)
        who = self.readers.scope(caller, account)
        return ReportQuestion(name=name, period=period, who=who)

    def make(self, asked: ReportQuestion) -> Report:
        """The report."""
        with one_state(self.engine) as connection:
            sheets, charts, notes = MAKERS[asked.name](self.sources, connection, asked)
        whose = "" if asked.who is None else f" of {', '.join(sorted(asked.who))}"
        return Report(
            name=asked.name,
            title=f"{TITLES[asked.name]}{whose}, zone {self.sources.zone}",
            start=asked.period.start,
            end=asked.period.end,
            sheets=tuple(sheets),
            charts=tuple(chart for chart in charts if any(chart.values)),
            notes=tuple(notes),
        )

    def accounts_with_moves(self, asked: ReportQuestion) -> list[str]:
        """Declared users and users that the period's statement speaks of."""
        with one_state(self.engine) as connection:
            sheets, _, _ = _statement(self.sources, connection, asked)
        spoken = {str(row[1]) for row in sheets[0].rows}
        return sorted(self.readers.known() & spoken)


def _statement(
    sources: ReportSources, connection: Connection, asked: ReportQuestion
) -> _Made:
    books = sources.books(connection, *asked.span)
    sheets = report_credit.statement_sheets(books, asked.who)
    notes = [
        report_credit.closing_line(books, sheets[0])
        if asked.who is None
        else report_credit.head_line(books)
    ]
    return sheets, [report_credit.bars(sheets[0], 1, 4, "Charges by account")], notes


def _charge_back(
    _sources: ReportSources, connection: Connection, asked: ReportQuestion
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


def _usage(
    sources: ReportSources, connection: Connection, asked: ReportQuestion
) -> _Made:
    spans = [
        one for one in sources.spans(connection, asked.period) if asked.sees(one.user)
    ]
    sheets = report_use.usage_sheets(
        spans,
        sources.capacity(),
        start=asked.period.start,
        end=asked.period.end,
        zone=sources.rule.zone,
    )
    charts = [
        report_credit.bars(sheets[0], 2, 3, "GPU hours by day", by_label=True),
        report_credit.bars(sheets[0], 0, 3, "GPU hours by user"),
    ]
    return sheets if asked.who is None else sheets[:1], charts, []


def _fairness(
    sources: ReportSources, connection: Connection, asked: ReportQuestion
) -> _Made:
    found = report_use.fairness(
        sources.spans(connection, asked.period),
        {name: float(part) for name, part in sources.fractions().items()},
        start=asked.period.start,
        end=asked.period.end,
    )
    rows = tuple(row for row in found.sheet.rows if asked.sees(str(row[0])))
    sheet = replace(found.sheet, rows=rows)
    notes = [f"Jain's index over all users: {found.jain:.3f} (1 is even)."]
    if found.worst and asked.sees(found.worst):
        notes.append(f"Furthest below what was promised: {found.worst}.")
    return [sheet], [report_credit.bars(sheet, 0, 4, "Got / entitled")], notes


def _forecast(
    sources: ReportSources, connection: Connection, asked: ReportQuestion
) -> _Made:
    sheet = report_credit.forecast_sheet(
        sources.forecasts(connection, asked.period.end, asked.sees)
    )
    notes = ["Accounts without any credit of their own are not limited."]
    return [sheet], [report_credit.bars(sheet, 1, 3, f"Spent in {DAYS} days")], notes


def _accuracy(
    sources: ReportSources, connection: Connection, asked: ReportQuestion
) -> _Made:
    found = report_store.forecasts_between(connection, sources.zone, *asked.span)
    if asked.who is not None:
        owners = owners_of(connection, [one.workload_id for one in found])
        found = [
            one
            for one in found
            if one.workload_id in owners and asked.sees(owners[one.workload_id][1])
        ]
    sheets = report_use.accuracy_sheets(found, sources.rule.zone)
    days = replace(sheets[0], rows=sheets[0].rows[:-1])
    chart = report_credit.bars(days, 0, 6, "Hit rate by day", by_label=True)
    return sheets, [chart], []


def _audit(
    sources: ReportSources, connection: Connection, asked: ReportQuestion
) -> _Made:
    start, end = asked.span
    done = [
        *map(done_by_hand, report_store.hand_entries(connection, start, end)),
        *map(
            done_to_policy,
            report_store.changes_between(connection, sources.zone, start, end),
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
