"""Puts the views together from what is kept in memory and what acts.

Holds no rule; only this module of its wing takes the whole.
"""

from dataclasses import dataclass

from dorabatch.daemon.cycle.queue_order import QueueOrder
from dorabatch.daemon.runs.assembly import lost_runs_of
from dorabatch.daemon.state.books import Books
from dorabatch.daemon.state.credit_book import reset_rule
from dorabatch.daemon.state.effects import Effects
from dorabatch.daemon.views.account_rows import Accounts
from dorabatch.daemon.views.credit import CreditViews
from dorabatch.daemon.views.credit_columns import CreditColumns
from dorabatch.daemon.views.defrag_advice import DefragAdvice
from dorabatch.daemon.views.describe import WorkloadRecords
from dorabatch.daemon.views.device_rows import DeviceRows
from dorabatch.daemon.views.expected_starts import ExpectedStarts
from dorabatch.daemon.views.kept_rows import KeptRows
from dorabatch.daemon.views.last_places import LastPlaces
from dorabatch.daemon.views.listing import WorkloadListing, WorkloadSearch
from dorabatch.daemon.views.node_answers import NodeAnswers
from dorabatch.daemon.views.node_rows import NodeRows
from dorabatch.daemon.views.outlook import Outlook
from dorabatch.daemon.views.report.gather import ReportReaders, Reports
from dorabatch.daemon.views.report.report_sources import ReportSources
from dorabatch.daemon.views.share_tree import ShareTreeView
from dorabatch.daemon.views.silence import Silences
from dorabatch.daemon.views.summary import WorkloadFinder
from dorabatch.daemon.views.turn_columns import TurnColumns
from dorabatch.daemon.views.turns import Turns
from dorabatch.daemon.views.why import Why


@dataclass(frozen=True, slots=True, kw_only=True)
class Views:
    """What one daemon shows to people."""

    finder: WorkloadFinder
    listing: WorkloadListing
    records: WorkloadRecords
    why: Why
    nodes: NodeRows
    devices: DeviceRows
    share_tree: ShareTreeView
    turns: Turns
    starts: ExpectedStarts
    defrag: DefragAdvice
    accounts: Accounts
    credit: CreditViews
    reports: Reports


def views_of(books: Books, effects: Effects, order: QueueOrder) -> Views:
    """The views of one daemon."""
    board, clock, engine = books.board, effects.clock, effects.engine
    zone, see_others = effects.identity.zone, books.settings.rights.see_others
    finder = WorkloadFinder(
        board=board, engine=engine, zone=zone, see_others=see_others
    )
    places = LastPlaces(engine)
    share_tree = ShareTreeView(usage=books.usage, board=board)
    turns = Turns(
        order=order, board=board, tree=share_tree, clock=clock, see_others=see_others
    )
    starts = ExpectedStarts(
        board=board,
        fleet=books.fleet,
        history=books.history,
        latest=books.latest,
        forecasts=effects.forecasts,
    )
    columns = CreditColumns(board=board, billing=books.billing, credits=books.credits)
    accounts = Accounts(engine=engine, credits=books.credits, clock=clock)
    return Views(
        finder=finder,
        listing=WorkloadListing(
            search=WorkloadSearch(
                board=board,
                finder=finder,
                users=books.users,
                places=places,
                kept=KeptRows(),
            ),
            turn_columns=TurnColumns(
                turns=turns, credit=columns, forecasts=effects.forecasts
            ),
            latest=books.latest,
            clock=clock,
        ),
        records=WorkloadRecords(
            finder=finder,
            places=places,
            latest=books.latest,
            engine=engine,
            clock=clock,
            credit=columns,
        ),
        why=_why(books, effects, finder, turns, starts),
        nodes=NodeRows(board=board, clock=clock, zone=zone),
        devices=DeviceRows(board=board, fleet=books.fleet, see_others=see_others),
        share_tree=share_tree,
        turns=turns,
        starts=starts,
        defrag=DefragAdvice(board=board, fleet=books.fleet, latest=books.latest),
        accounts=accounts,
        credit=CreditViews(
            accounts=accounts, engine=engine, clock=clock, credits=books.credits
        ),
        reports=_reports(books, effects),
    )


def _why(
    books: Books,
    effects: Effects,
    finder: WorkloadFinder,
    turns: Turns,
    starts: ExpectedStarts,
) -> Why:
    latest = books.latest
    return Why(
        finder=finder,
        answers=NodeAnswers(
            board=books.board,
            fleet=books.fleet,
            latest=latest,
            avoided=books.avoided,
        ),
        outlook=Outlook(turns=turns, starts=starts, dependencies=books.dependencies),
        latest=latest,
        fetches=effects.fetches,
        silences=Silences(
            latest=latest,
            clock=effects.clock,
            policy_of=lost_runs_of(books, effects).policy_of,
        ),
    )


def _reports(books: Books, effects: Effects) -> Reports:
    sources = ReportSources(
        credits=books.credits,
        policy=books.policy,
        fleet=books.fleet,
        rule=reset_rule(books.settings.credits),
    )
    engine = effects.engine
    readers = ReportReaders(users=books.users, sources=sources, engine=engine)
    return Reports(sources=sources, readers=readers, engine=engine, clock=effects.clock)
