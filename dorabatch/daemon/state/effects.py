"""What acts, beside what is kept in memory: database, clock, nodes, mail, signals.

References of one daemon, put together once. Only `assembly` modules take the whole;
everybody else names the few that it needs.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from sqlalchemy import Engine

from dorabatch.clock import Clock
from dorabatch.daemon.state.clock_steps import ClockSteps
from dorabatch.daemon.state.daemon_identity import DaemonIdentity
from dorabatch.daemon.state.image_fetches import ImageFetches
from dorabatch.daemon.state.log_files import LogFiles
from dorabatch.daemon.state.node_view import DeclaredNode
from dorabatch.daemon.state.outbox import Outbox
from dorabatch.daemon.state.start_forecasts import StartForecasts
from dorabatch.daemon.state.threads import WatchedThreads
from dorabatch.daemon.steps import Steps
from dorabatch.db import Writer
from dorabatch.node.driver import NodeDriver


@dataclass(frozen=True, slots=True, kw_only=True)
class Effects:
    """How one daemon acts. `open_driver` connects to a node at its first use."""

    engine: Engine
    writer: Writer
    clock: Clock
    steps: Steps
    outbox: Outbox
    identity: DaemonIdentity
    log_files: LogFiles
    open_driver: Callable[[DeclaredNode], NodeDriver]
    fetches: ImageFetches
    cycle_wanted: threading.Event = field(default_factory=threading.Event)
    mail_wanted: threading.Event = field(default_factory=threading.Event)
    forecasts: StartForecasts = field(default_factory=StartForecasts)
    clock_steps: ClockSteps = field(default_factory=ClockSteps)
    threads: WatchedThreads = field(default_factory=WatchedThreads)
