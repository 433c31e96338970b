"""What the daemon keeps in memory beside its database, and decides by.

A bag of references; each book takes over what a commit changed. The what-if keeps the
same books without a database.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from dorabatch.config import Settings
from dorabatch.daemon.state.charging import Billing
from dorabatch.daemon.state.claim_book import ClaimBook
from dorabatch.daemon.state.credit_book import CreditBook
from dorabatch.daemon.state.fleet import Fleet
from dorabatch.daemon.state.node_arrays import NodeArrays
from dorabatch.daemon.state.run_history import RunHistory
from dorabatch.daemon.state.site_policy import SitePolicy
from dorabatch.daemon.state.snapshot import Snapshot
from dorabatch.daemon.state.usage_book import UsageBook
from dorabatch.daemon.state.users import DeclaredUsers
from dorabatch.placer.arrays.types import Plan
from dorabatch.placer.plan.no_room import NoRoomMemory
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
    people: DeclaredUsers
    credits: CreditBook
    billing: Billing
    policy: SitePolicy
    usage: UsageBook
    history: RunHistory
    claims: ClaimBook
    held_claims: ClaimBook
    last_plan: LastPlan = field(default_factory=LastPlan)
    known_nodes: NodeArrays = field(default_factory=NodeArrays)
    plan_memory: NoRoomMemory = field(default_factory=NoRoomMemory)
