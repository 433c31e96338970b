"""What the daemon keeps in memory beside its database, and decides by.

References only; each book takes over what a commit changed. The what-if keeps the
same books without a database. Only `assembly` modules take the whole; everybody else
names the few that it needs.
"""

from dataclasses import dataclass, field

from dorabatch.config import Settings
from dorabatch.daemon.state.avoided_nodes import AvoidedNodes
from dorabatch.daemon.state.charging import Billing
from dorabatch.daemon.state.claim_book import ClaimBook, RunHistory
from dorabatch.daemon.state.credit_book import CreditBook
from dorabatch.daemon.state.dependency_book import DependencyBook
from dorabatch.daemon.state.fleet import Fleet
from dorabatch.daemon.state.last_plan import LatestPlan
from dorabatch.daemon.state.registries import Registries
from dorabatch.daemon.state.rights_book import RightsBook
from dorabatch.daemon.state.site_policy import SitePolicy
from dorabatch.daemon.state.snapshot import NodeArrays
from dorabatch.daemon.state.usage_book import UsageBook
from dorabatch.daemon.state.users import DeclaredUsers
from dorabatch.placer.plan.no_room import NoRoomMemory
from dorabatch.queue.board import Board


@dataclass(frozen=True, slots=True, kw_only=True)
class Books:
    """What a cycle reads, and the last one's plan."""

    settings: Settings
    board: Board
    fleet: Fleet
    users: DeclaredUsers
    rights: RightsBook
    credits: CreditBook
    billing: Billing
    policy: SitePolicy
    usage: UsageBook
    history: RunHistory
    claims: ClaimBook
    held_claims: ClaimBook
    dependencies: DependencyBook
    registries: Registries
    avoided: AvoidedNodes = field(default_factory=AvoidedNodes)
    latest: LatestPlan = field(default_factory=LatestPlan)
    node_arrays: NodeArrays = field(default_factory=NodeArrays)
    no_room: NoRoomMemory = field(default_factory=NoRoomMemory)
