"""What the daemon's parts share: settings, board, writer, fleet, clock.

A bag of references put together by `main`; no behaviour of its own beyond waking the
cycle.
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import Engine

from dorabatch.clock import Clock
from dorabatch.config import Settings
from dorabatch.daemon.billing.charging import Billing
from dorabatch.daemon.billing.desk import CreditDesk
from dorabatch.daemon.fleet import Fleet, NodeSettings
from dorabatch.daemon.known_nodes import KnownNodes
from dorabatch.daemon.outbox import Outbox
from dorabatch.daemon.outlook import Outlook
from dorabatch.daemon.people import People
from dorabatch.daemon.shares.claim_book import ClaimBook
from dorabatch.daemon.shares.policy_desk import PolicyDesk
from dorabatch.daemon.shares.run_history import RunHistory
from dorabatch.daemon.shares.usage_book import UsageBook
from dorabatch.daemon.snapshot import Snapshot
from dorabatch.daemon.steps import Steps
from dorabatch.db import Writer
from dorabatch.node.driver import NodeDriver
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
class Services:
    """References of one daemon."""

    settings: Settings
    engine: Engine
    writer: Writer
    board: Board
    fleet: Fleet
    clock: Clock
    steps: Steps
    people: People
    credits: CreditDesk
    billing: Billing
    cluster_id: str
    epoch: int
    open_driver: Callable[[NodeSettings], NodeDriver]
    outbox: Outbox
    policy: PolicyDesk
    usage: UsageBook
    history: RunHistory
    claims: ClaimBook
    held_claims: ClaimBook
    cycle_wanted: threading.Event = field(default_factory=threading.Event)
    mail_wanted: threading.Event = field(default_factory=threading.Event)
    last_plan: LastPlan = field(default_factory=LastPlan)
    outlook: Outlook = field(default_factory=Outlook)
    known_nodes: KnownNodes = field(default_factory=KnownNodes)
    plan_memory: Memory = field(default_factory=Memory)

    @property
    def log_dir(self) -> Path:
        """Where the logs of ended attempts are kept."""
        return self.settings.state_dir / "logs"

    def log_path(self, workload_id: int, replica: int, attempt: int) -> Path:
        """The kept log of one attempt."""
        folder = self.log_dir / str(workload_id // 1000) / str(workload_id)
        return folder / f"{replica}.{attempt}.log"
