"""Puts together what is kept in memory, empty or as the database has it.

Holds no rule. The order in which the books take over what was stored, and what a commit
changed, is said here once: new use is never seen without the policy by which it was
counted.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Protocol

from sqlalchemy import Engine

from dorabatch.config import Settings
from dorabatch.daemon.state.books import Books
from dorabatch.daemon.state.charging import Asks, Billing
from dorabatch.daemon.state.claim_book import ClaimBook, RunHistory
from dorabatch.daemon.state.credit_book import CreditBook
from dorabatch.daemon.state.dependency_book import DependencyBook
from dorabatch.daemon.state.fleet import Fleet
from dorabatch.daemon.state.registries import Registries
from dorabatch.daemon.state.rights_book import RightsBook
from dorabatch.daemon.state.site_policy import SitePolicy
from dorabatch.daemon.state.spec_units import claim_of, demand_of, seconds_max
from dorabatch.daemon.state.usage_book import UsageBook
from dorabatch.daemon.state.users import DeclaredUsers
from dorabatch.db import transaction
from dorabatch.queue import store
from dorabatch.queue.board import Board
from dorabatch.queue.demand import Demand
from dorabatch.queue.records import Workload


class CommitListener(Protocol):
    """What is kept in memory, equal to the database after each commit."""

    def apply(self, changes: Iterable[object]) -> None:
        """Take over what a commit changed."""


def empty_books(
    settings: Settings,
    *,
    fleet: Fleet | None = None,
    ended_max: int | None = None,
    demand: Callable[[Workload, int], Demand] = demand_of,
    policy_file: Mapping[str, object] | None = None,
) -> Books:
    """The books of a zone in which nothing has happened yet.

    What is not given is as the settings say.
    """
    limit = settings.limits.ended_kept_in_memory if ended_max is None else ended_max
    board = Board(ended_max=limit, demand_of=demand, claim_of=claim_of)
    said = settings.policy if policy_file is None else policy_file
    policy = SitePolicy(settings.zone, said)
    users = DeclaredUsers(settings.credits)
    credits = CreditBook(settings.zone, settings.credits, users)
    credits.chain_of = lambda user: (user, *policy.accounts_of(user))
    fleet = fleet or Fleet(skips_used_gpus=settings.node.skip_used_gpus)
    history = RunHistory()
    asks = Asks(demand_of=demand, seconds_max=seconds_max)
    return Books(
        settings=settings,
        board=board,
        fleet=fleet,
        users=users,
        rights=RightsBook(settings, users, policy.accounts_of),
        credits=credits,
        billing=Billing(credits, fleet, asks),
        policy=policy,
        usage=UsageBook(settings.zone, policy, board, lambda: credits.prices),
        history=history,
        claims=ClaimBook(policy, history),
        held_claims=ClaimBook(policy, history),
        dependencies=DependencyBook(board),
        registries=Registries(settings.launch.registry_retry_seconds),
    )


def load_books(books: Books, engine: Engine, now: datetime) -> None:
    """Let empty books take over what the database has."""
    zone, board = books.settings.zone, books.board
    with transaction(engine) as tx:
        books.policy.load(tx.connection, now)
    with engine.connect() as connection:
        ended = books.settings.limits.ended_kept_in_memory
        board.apply(store.load_ended(connection, zone, ended))
        live = list(store.load_live(connection, zone))
        board.apply(live)
        books.dependencies.load(connection, live)
        books.usage.load(connection)
        books.history.load(connection, zone)
        books.users.load(connection)
        books.rights.load(connection)
        held = [one for node in board.nodes_in_use() for one in board.on_node(node)]
        books.credits.load(connection, held, now)
    meters = [one for mine in books.credits.meters.values() for one in mine]
    books.usage.apply([*meters, *live])


def in_order(books: Books) -> tuple[CommitListener, ...]:
    """The books in the order in which they take over what a commit changed."""
    return (
        books.policy,
        books.board,
        books.dependencies,
        books.usage,
        books.history,
        books.users,
        books.rights,
        books.credits,
    )
