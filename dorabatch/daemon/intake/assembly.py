"""Puts together what people ask to change. Holds no rule."""

from dataclasses import dataclass, replace

from dorabatch.daemon.cycle.queue_order import QueueOrder
from dorabatch.daemon.intake.account_kind import AccountKind
from dorabatch.daemon.intake.admit import Intake
from dorabatch.daemon.intake.cancel import Cancelling
from dorabatch.daemon.intake.credit_orders import CreditOrders
from dorabatch.daemon.intake.dependencies import DependencyNames
from dorabatch.daemon.intake.grants import Grants
from dorabatch.daemon.intake.hand_over import HandOver
from dorabatch.daemon.intake.holds import Holds
from dorabatch.daemon.intake.homes import Homes
from dorabatch.daemon.intake.kind_table import KindTable
from dorabatch.daemon.intake.lost_nodes import LostNodes
from dorabatch.daemon.intake.node_entries import NodeEntries
from dorabatch.daemon.intake.node_kind import Nodes
from dorabatch.daemon.intake.offers import Offers
from dorabatch.daemon.intake.policy_changes import PolicyChanges
from dorabatch.daemon.intake.possible import Possible
from dorabatch.daemon.intake.price_kind import PriceKind
from dorabatch.daemon.intake.quote import Quotes
from dorabatch.daemon.intake.quoted_turn import QuotedTurns
from dorabatch.daemon.intake.report_mail import ReportMail
from dorabatch.daemon.intake.role_kind import RoleKind
from dorabatch.daemon.intake.stored_kinds import StoredKinds
from dorabatch.daemon.intake.stored_nodes import StoredNodes
from dorabatch.daemon.intake.submissions import Submissions
from dorabatch.daemon.intake.user_kind import UserKind, WeeksOfUsers
from dorabatch.daemon.intake.workload_entries import WorkloadEntries
from dorabatch.daemon.intake.workload_kind import WorkloadApplier
from dorabatch.daemon.intake.workspace_kind import WorkspaceKind
from dorabatch.daemon.intake.zone_kind import ZoneKind
from dorabatch.daemon.runs.assembly import lost_runs_of
from dorabatch.daemon.runs.node_keeper import Keepers
from dorabatch.daemon.state.books import Books
from dorabatch.daemon.state.claim_book import ClaimBook
from dorabatch.daemon.state.effects import Effects
from dorabatch.daemon.views.assembly import Views


@dataclass(frozen=True, slots=True, kw_only=True)
class IntakeParts:
    """What takes in each thing that people ask for."""

    admission: Intake
    submissions: Submissions
    applier: WorkloadApplier
    quotes: Quotes
    cancelling: Cancelling
    holds: Holds
    nodes: Nodes
    lost_nodes: LostNodes
    kinds: KindTable
    credit_orders: CreditOrders
    policy_changes: PolicyChanges
    report_mail: ReportMail


def intake_of(
    books: Books, effects: Effects, views: Views, keepers: Keepers, order: QueueOrder
) -> IntakeParts:
    """The intake of one daemon."""
    admission = _admission(books, effects, views)
    nodes = _nodes(books, effects, keepers)
    submissions = Submissions(
        limits=books.settings.limits,
        board=books.board,
        writer=effects.writer,
        steps=effects.steps,
        cycle_wanted=effects.cycle_wanted,
    )
    hand_over = HandOver(keepers=keepers, cycle_wanted=effects.cycle_wanted)
    applier = WorkloadApplier(
        intake=admission,
        submissions=submissions,
        board=books.board,
        writer=effects.writer,
        clock=effects.clock,
        hand_over=hand_over,
    )
    return IntakeParts(
        admission=admission,
        submissions=submissions,
        applier=applier,
        quotes=_quotes(books, effects, views, order, admission),
        cancelling=_cancelling(books, effects, views, hand_over),
        holds=Holds(
            writer=effects.writer,
            clock=effects.clock,
            cycle_wanted=effects.cycle_wanted,
        ),
        nodes=nodes,
        lost_nodes=LostNodes(
            zone=books.settings.zone,
            board=books.board,
            fleet=books.fleet,
            lost_runs=lost_runs_of(books, effects),
            clock=effects.clock,
            cycle_wanted=effects.cycle_wanted,
        ),
        kinds=kind_table_of(books, effects, views, applier, nodes),
        credit_orders=_credit_orders(books, effects, views),
        policy_changes=_policy_changes(books, effects),
        report_mail=ReportMail(
            outbox=effects.outbox,
            engine=effects.engine,
            writer=effects.writer,
            clock=effects.clock,
        ),
    )


def kind_table_of(
    books: Books, effects: Effects, views: Views, applier: WorkloadApplier, nodes: Nodes
) -> KindTable:
    """The table of kinds: a new kind is one more entry here."""
    workloads = WorkloadEntries(
        applier=applier,
        finder=views.finder,
        listing=views.listing,
        records=views.records,
    )
    machines = NodeEntries(
        nodes=nodes, fleet=books.fleet, shown=views.nodes, devices=views.devices
    )
    stored = StoredKinds(
        engine=effects.engine, writer=effects.writer, clock=effects.clock
    )
    return KindTable(
        (
            workloads.workload(),
            workloads.container(),
            machines.node(),
            machines.gpu(),
            machines.cpu(),
            ZoneKind(served=books.settings.zone, stored=stored).entry(),
            _workspaces(books, stored).entry(),
            RoleKind(rights=books.rights, users=books.users, stored=stored).entry(),
            _users(books, effects, views, stored).entry(),
            _prices(books, effects, views).entry(),
            AccountKind(accounts=views.accounts).entry(),
        )
    )


def _workspaces(books: Books, stored: StoredKinds) -> WorkspaceKind:
    return WorkspaceKind(
        zone=books.settings.zone,
        stored=stored,
        rights=books.rights,
        users=books.users,
        board=books.board,
    )


def _users(
    books: Books, effects: Effects, views: Views, stored: StoredKinds
) -> UserKind:
    return UserKind(
        settings=books.settings,
        grants=Grants(zone=books.settings.zone, rights=books.rights, users=books.users),
        weeks=WeeksOfUsers(
            settings=books.settings, credits=books.credits, billing=books.billing
        ),
        accounts=views.accounts,
        stored=stored,
        cycle_wanted=effects.cycle_wanted,
    )


def _prices(books: Books, effects: Effects, views: Views) -> PriceKind:
    return PriceKind(
        credits=books.credits,
        accounts=views.accounts,
        writer=effects.writer,
        clock=effects.clock,
        cycle_wanted=effects.cycle_wanted,
    )


def _policy_changes(books: Books, effects: Effects) -> PolicyChanges:
    return PolicyChanges(
        policy=books.policy,
        usage=books.usage,
        writer=effects.writer,
        clock=effects.clock,
        cycle_wanted=effects.cycle_wanted,
    )


def _admission(books: Books, effects: Effects, views: Views) -> Intake:
    return Intake(
        settings=books.settings,
        policy=books.policy,
        clock=effects.clock,
        homes=Homes(zone=books.settings.zone, users=books.users, rights=books.rights),
        possible=Possible(books.fleet, books.board),
        dependencies=DependencyNames(finder=views.finder),
    )


def _cancelling(
    books: Books, effects: Effects, views: Views, hand_over: HandOver
) -> Cancelling:
    return Cancelling(
        board=books.board,
        users=books.users,
        finder=views.finder,
        writer=effects.writer,
        clock=effects.clock,
        hand_over=hand_over,
    )


def _credit_orders(books: Books, effects: Effects, views: Views) -> CreditOrders:
    return CreditOrders(
        credits=books.credits,
        accounts=views.accounts,
        billing=books.billing,
        writer=effects.writer,
        clock=effects.clock,
        cycle_wanted=effects.cycle_wanted,
    )


def _quotes(
    books: Books, effects: Effects, views: Views, order: QueueOrder, admission: Intake
) -> Quotes:
    claims = ClaimBook(books.policy, books.history)
    return Quotes(
        intake=admission,
        offers=Offers(credits=books.credits, billing=books.billing, fleet=books.fleet),
        turns=QuotedTurns(
            board=books.board,
            order=replace(order, claims=claims),
            starts=views.starts,
        ),
        credits=books.credits,
        forecasts=effects.forecasts,
        clock=effects.clock,
    )


def _nodes(books: Books, effects: Effects, keepers: Keepers) -> Nodes:
    return Nodes(
        settings=books.settings,
        fleet=books.fleet,
        keepers=keepers,
        stored=StoredNodes(
            zone=books.settings.zone,
            engine=effects.engine,
            writer=effects.writer,
            clock=effects.clock,
        ),
        cycle_wanted=effects.cycle_wanted,
    )
