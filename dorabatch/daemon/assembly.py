"""Puts a daemon together: its database, what it keeps, how it acts, wing by wing.

Holds no rule of its own; only here, in the `assembly` modules of the wings and in
`main` is the whole taken.
"""

import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from sqlalchemy import Engine

from dorabatch.clock import Clock, SystemClock
from dorabatch.config import Settings
from dorabatch.daemon.cycle.assembly import cycle_of, queue_order_of
from dorabatch.daemon.cycle.queue_order import QueueOrder
from dorabatch.daemon.cycle.run_cycle import Cycle
from dorabatch.daemon.intake.assembly import IntakeParts, intake_of
from dorabatch.daemon.runs.assembly import keepers_of
from dorabatch.daemon.runs.connect import open_driver
from dorabatch.daemon.runs.node_keeper import Keepers
from dorabatch.daemon.schema import require_current
from dorabatch.daemon.state.assembly import (
    CommitListener,
    empty_books,
    in_order,
    load_books,
)
from dorabatch.daemon.state.books import Books
from dorabatch.daemon.state.daemon_identity import DaemonIdentity
from dorabatch.daemon.state.effects import Effects
from dorabatch.daemon.state.image_fetches import ImageFetches
from dorabatch.daemon.state.log_files import LogFiles
from dorabatch.daemon.state.outbox import Mail, Outbox
from dorabatch.daemon.steps import Step, Steps
from dorabatch.daemon.timers.assembly import Timers, timers_of
from dorabatch.daemon.timers.mail_notices import Notifier
from dorabatch.daemon.views.assembly import Views, views_of
from dorabatch.db import Writer, open_engine
from dorabatch.queue.daemons import refuse_when_overtaken, take_over

CRASH_VARIABLE = "DORABATCH_FAULT_CRASH_AT"
"""Set by fault tests: the step at which the daemon kills itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonParts:
    """All parts of one daemon; none of its threads but the writer's is started."""

    books: Books
    effects: Effects
    order: QueueOrder
    keepers: Keepers
    cycle: Cycle
    views: Views
    timers: Timers
    intake: IntakeParts


def compose(settings: Settings, clock: Clock | None = None) -> tuple[Books, Effects]:
    """Open the database and take the zone over; the writer runs after this."""
    engine = open_engine(settings.database_url)
    require_current(engine, settings.database_url)
    clock = clock or SystemClock()
    epoch, cluster_id = take_over(engine, settings.zone, clock.now())
    books = empty_books(settings)
    load_books(books, engine, clock.now())
    outbox, mail_wanted = Outbox(settings.mail), threading.Event()
    writer = _writer(engine, outbox, in_order(books), mail_wanted, settings.zone, epoch)
    effects = Effects(
        engine=engine,
        writer=writer,
        clock=clock,
        steps=Steps(_crash_step()),
        outbox=outbox,
        identity=DaemonIdentity(zone=settings.zone, cluster_id=cluster_id, epoch=epoch),
        log_files=LogFiles(folder=settings.state_dir / "logs"),
        open_driver=partial(open_driver, settings, clock),
        fetches=ImageFetches(clock),
        mail_wanted=mail_wanted,
    )
    writer.start()
    return books, effects


def parts_of(
    books: Books,
    effects: Effects,
    keepers_of: Callable[[Books, Effects], Keepers] = keepers_of,
) -> DaemonParts:
    """The parts that go by these books and act by these effects."""
    order, keepers = queue_order_of(books), keepers_of(books, effects)
    views = views_of(books, effects, order)
    return DaemonParts(
        books=books,
        effects=effects,
        order=order,
        keepers=keepers,
        cycle=cycle_of(books, effects, keepers),
        views=views,
        timers=timers_of(books, effects, keepers, order, views.starts),
        intake=intake_of(books, effects, views, keepers, order),
    )


def _writer(
    engine: Engine,
    outbox: Outbox,
    books: Sequence[CommitListener],
    mail_wanted: threading.Event,
    zone: str,
    epoch: int,
) -> Writer:
    def take_over_changes(changes: list[object]) -> None:
        for book in books:
            book.apply(changes)
        if any(isinstance(change, Mail) for change in changes):
            mail_wanted.set()

    return Writer(
        engine,
        on_commit=take_over_changes,
        guard=lambda tx: refuse_when_overtaken(tx, zone, epoch),
        before_commit=Notifier(outbox),
    )


def _crash_step() -> Step | None:
    name = os.environ.get(CRASH_VARIABLE)
    return Step(name) if name else None
