"""Puts the application together: the routes of every file, behind the one border.

Holds no rule; only this module of its wing takes the whole.
"""

from zoneinfo import ZoneInfo

from starlette.applications import Starlette

from dorabatch.daemon.api.app import make_app
from dorabatch.daemon.api.credit_routes import CreditRoutes
from dorabatch.daemon.api.health import Health
from dorabatch.daemon.api.hold_routes import HoldRoutes
from dorabatch.daemon.api.http import Border, Route
from dorabatch.daemon.api.kind_routes import KindRoutes
from dorabatch.daemon.api.log_routes import LogRoutes
from dorabatch.daemon.api.node_routes import NodeRoutes
from dorabatch.daemon.api.policy_routes import PolicyRoutes
from dorabatch.daemon.api.report_routes import ReportRoutes
from dorabatch.daemon.api.share_routes import ShareRoutes
from dorabatch.daemon.api.status_routes import StatusRoutes
from dorabatch.daemon.api.submit_routes import SubmitRoutes
from dorabatch.daemon.api.unix_accounts import UnixAccounts
from dorabatch.daemon.api.whatif_routes import WhatifRoutes
from dorabatch.daemon.api.workload_routes import WorkloadRoutes
from dorabatch.daemon.intake.assembly import IntakeParts
from dorabatch.daemon.runs.assembly import requests_of
from dorabatch.daemon.runs.log_tails import LogTails
from dorabatch.daemon.runs.node_keeper import Keepers
from dorabatch.daemon.state.books import Books
from dorabatch.daemon.state.effects import Effects
from dorabatch.daemon.views.assembly import Views
from dorabatch.daemon.whatif.ask import HistoryReader


def app_of(
    books: Books, effects: Effects, views: Views, intake: IntakeParts, keepers: Keepers
) -> Starlette:
    """The application of one daemon."""
    border = Border(
        accounts=UnixAccounts(effects.clock),
        rights=books.rights,
        kind_of=lambda word: intake.kinds.meant(word).name,
        home_of=books.users.default_workspace,
        zone=books.settings.zone,
        body_bytes_max=books.settings.limits.body_bytes_max,
    )
    return make_app(border, routes_of(books, effects, views, intake, keepers))


def routes_of(
    books: Books, effects: Effects, views: Views, intake: IntakeParts, keepers: Keepers
) -> tuple[Route, ...]:
    """Every route that this daemon answers."""
    return (
        *_workload_routes(books, effects, views, intake, keepers),
        *KindRoutes(kinds=intake.kinds).routes(),
        *NodeRoutes(
            nodes=intake.nodes,
            lost=intake.lost_nodes,
            advice=views.defrag,
            ssh_user=books.settings.ssh.user,
        ).routes(),
        *_policy_routes(books, effects, views, intake),
        *_money_routes(books, effects, views, intake),
        *StatusRoutes(
            board=books.board,
            fleet=books.fleet,
            latest=books.latest,
            identity=effects.identity,
            health=Health(
                threads=effects.threads,
                writer=effects.writer,
                clock_steps=effects.clock_steps,
            ),
        ).routes(),
    )


def _workload_routes(
    books: Books, effects: Effects, views: Views, intake: IntakeParts, keepers: Keepers
) -> tuple[Route, ...]:
    submitting = SubmitRoutes(
        intake=intake.admission,
        submissions=intake.submissions,
        quotes=intake.quotes,
        cancelling=intake.cancelling,
        finder=views.finder,
    )
    showing = WorkloadRoutes(
        finder=views.finder,
        listing=views.listing,
        records=views.records,
        reasons=views.why,
    )
    logs = LogRoutes(
        finder=views.finder,
        keepers=keepers,
        requests=requests_of(books, effects),
        files=effects.log_files,
        tails=LogTails(
            books.settings.state_dir, books.settings.containers.log_bytes_max
        ),
    )
    holding = HoldRoutes(holds=intake.holds, finder=views.finder)
    # A path that ends in /log or /why is theirs before it is a workload's name.
    return (
        *submitting.routes(),
        *holding.routes(),
        *logs.routes(),
        *showing.routes(),
    )


def _policy_routes(
    books: Books, effects: Effects, views: Views, intake: IntakeParts
) -> tuple[Route, ...]:
    policy = PolicyRoutes(
        policy=books.policy,
        changes=intake.policy_changes,
        turns=views.turns,
        finder=views.finder,
        engine=effects.engine,
    )
    shares = ShareRoutes(
        tree=views.share_tree, changes=intake.policy_changes, clock=effects.clock
    )
    history = HistoryReader(
        engine=effects.engine,
        policy=books.policy,
        users=books.users,
        fleet=books.fleet,
        credits=books.credits,
        settings=books.settings,
    )
    whatif = WhatifRoutes(history=history, clock=effects.clock)
    return (*policy.routes(), *shares.routes(), *whatif.routes())


def _money_routes(
    books: Books, effects: Effects, views: Views, intake: IntakeParts
) -> tuple[Route, ...]:
    credits = CreditRoutes(
        orders=intake.credit_orders,
        views=views.credit,
        clock=effects.clock,
        time_zone=ZoneInfo(books.settings.credits.reset.time_zone),
    )
    reports = ReportRoutes(reports=views.reports, mail=intake.report_mail)
    return (*credits.routes(), *reports.routes())
