"""What the daemon keeps in memory beside its database, and decides by.

A bag of references; each book takes over what a commit changed. The what-if keeps the
same books without a database.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from dorabatch.config import Settings
from dorabatch.daemon.billing.charging import Billing
from dorabatch.daemon.billing.desk import CreditDesk
from dorabatch.daemon.fleet import Fleet
from dorabatch.daemon.known_nodes import KnownNodes
from dorabatch.daemon.people import People
from dorabatch.daemon.shares.claim_book import ClaimBook
from dorabatch.daemon.shares.policy_desk import PolicyDesk
from dorabatch.daemon.shares.run_history import RunHistory
from dorabatch.daemon.shares.usage_book import UsageBook
from dorabatch.daemon.snapshot import Snapshot
from dorabatch.placer.arrays import Plan
from dorabatch.placer.memory import Memory
from dorabatch.queue.board import Board


@dataclass(frozen=True, slots=True, kw_only=True)
class LastPlan:
    """The explanations of the latest cycle.

    `snapshot` is what it was planned on, `reserved` the words for each container that
    has a place kept, `held` why containers wait for credit.
    """

    plan: Plan | None = None
    snapshot: Snapshot | None = None
    reserved: Mapping[int, str] = field(default_factory=dict)
    seconds: float = 0.0
    cycles: int = 0
    held: Mapping[int, str] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class Books:
    """What a cycle reads, and the last one's plan."""

    settings: Settings
    board: Board
    fleet: Fleet
    people: People
    credits: CreditDesk
    billing: Billing
    policy: PolicyDesk
    usage: UsageBook
    history: RunHistory
    claims: ClaimBook
    held_claims: ClaimBook
    last_plan: LastPlan = field(default_factory=LastPlan)
    known_nodes: KnownNodes = field(default_factory=KnownNodes)
    plan_memory: Memory = field(default_factory=Memory)
