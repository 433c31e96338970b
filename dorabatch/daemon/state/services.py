"""What the daemon's parts share: settings, books, writer, clock.

A bag of references put together by `main`; no behaviour of its own beyond waking the
cycle.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import Engine

from dorabatch.clock import Clock
from dorabatch.daemon.state.books import Books
from dorabatch.daemon.state.node_view import DeclaredNode
from dorabatch.daemon.state.outbox import Outbox
from dorabatch.daemon.state.start_forecasts import StartForecasts
from dorabatch.daemon.steps import Steps
from dorabatch.db import Writer
from dorabatch.node.driver import NodeDriver


@dataclass(slots=True, kw_only=True)
class Services(Books):
    """References of one daemon."""

    engine: Engine
    writer: Writer
    clock: Clock
    steps: Steps
    cluster_id: str
    epoch: int
    open_driver: Callable[[DeclaredNode], NodeDriver]
    outbox: Outbox
    cycle_wanted: threading.Event = field(default_factory=threading.Event)
    mail_wanted: threading.Event = field(default_factory=threading.Event)
    outlook: StartForecasts = field(default_factory=StartForecasts)

    @property
    def log_dir(self) -> Path:
        """Where the logs of ended attempts are kept."""
        return self.settings.state_dir / "logs"

    def log_path(self, workload_id: int, replica: int, attempt: int) -> Path:
        """The kept log of one attempt."""
        folder = self.log_dir / str(workload_id // 1000) / str(workload_id)
        return folder / f"{replica}.{attempt}.log"
