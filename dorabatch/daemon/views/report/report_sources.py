"""What reports are made from: the ledger, the runs, the nodes, the share tree, credit.

Reads one consistent state of the database and what is kept in memory; decides neither
what a report shows nor to whom.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from fractions import Fraction

from sqlalchemy import Connection

from dorabatch.daemon.state.credit_book import CreditBook
from dorabatch.daemon.state.fleet import Fleet
from dorabatch.daemon.state.site_policy import SitePolicy
from dorabatch.fairshare.money.credit_forecast import DAYS, CreditForecast, forecast
from dorabatch.fairshare.money.week_start import Period, ResetRule
from dorabatch.fairshare.report.report_credit import CreditBooks
from dorabatch.fairshare.report.report_use import Span
from dorabatch.fairshare.store import accounts, report_store
from dorabatch.fairshare.turn.account_tree import build_tree, share_fractions
from dorabatch.queue.spans import runs_between
from dorabatch.units import microseconds_of


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportSources:
    """What is known in one zone; `rule` says when its weeks begin."""

    credits: CreditBook
    policy: SitePolicy
    fleet: Fleet
    rule: ResetRule

    @property
    def zone(self) -> str:
        """The zone's name."""
        return self.credits.zone

    def books(self, connection: Connection, start: int, end: int) -> CreditBooks:
        """The ledger over a period in microseconds."""
        return CreditBooks(
            opening=report_store.balances_before(connection, start),
            moves=report_store.moves(connection, start, end),
            later=report_store.credit_later(connection, end),
            head=report_store.head_before(connection, end),
        )

    def spans(self, connection: Connection, period: Period) -> list[Span]:
        """What ran in the period, up to now."""
        return [
            Span(
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
            for one in runs_between(connection, self.zone, period.start, period.end)
        ]

    def capacity(self) -> dict[str, int]:
        """GPUs by model, as the nodes tell today."""
        found: dict[str, int] = {}
        for view in self.fleet.views():
            for gpu in view.facts.gpus if view.facts else ():
                found[gpu.model] = found.get(gpu.model, 0) + 1
        return found

    def fractions(self) -> dict[str, Fraction]:
        """The part of the whole that each in the share tree is promised."""
        rows = self.policy.rows
        return share_fractions(build_tree(rows)) if rows else {}

    def forecasts(
        self, connection: Connection, now: datetime, sees: Callable[[str], bool]
    ) -> dict[tuple[str, str], tuple[int, CreditForecast]]:
        """(zone, account) -> balance and forecast, where credit is limited."""
        daily = accounts.daily_use(connection, self.zone, end=microseconds_of(now))
        found = {}
        for zone, account in self.credits.book.owned:
            if sees(account):
                balance = self.credits.standing_of(account, now).balance
                used = daily.get(account, [0] * DAYS)
                found[zone, account] = balance, forecast(used, balance, now)
        return found
