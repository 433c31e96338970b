"""Puts together what is due by itself: charges, time limits, forecasts, mail.

Holds no rule; only this module of its wing takes the whole.
"""

from dataclasses import dataclass
from datetime import timedelta

from dorabatch.daemon.cycle.queue_order import QueueOrder
from dorabatch.daemon.runs.assembly import lost_runs_of
from dorabatch.daemon.runs.node_keeper import Keepers
from dorabatch.daemon.state.books import Books
from dorabatch.daemon.state.effects import Effects
from dorabatch.daemon.timers.credit_charges import CreditCharges, CreditPostings
from dorabatch.daemon.timers.credit_due import CreditDue
from dorabatch.daemon.timers.credit_letters import CreditLetters
from dorabatch.daemon.timers.credit_warnings import CreditWarnings
from dorabatch.daemon.timers.forecasts import Forecaster
from dorabatch.daemon.timers.kept_forecasts import KeptForecasts
from dorabatch.daemon.timers.lost_gpus import LostGpus
from dorabatch.daemon.timers.mail_sender import MailSender
from dorabatch.daemon.timers.silent_runs import SilentRuns
from dorabatch.daemon.timers.time_limits import TimeLimits
from dorabatch.daemon.views.expected_starts import ExpectedStarts


@dataclass(frozen=True, slots=True, kw_only=True)
class Timers:
    """What one daemon does as time goes by."""

    credit_charges: CreditCharges
    credit_letters: CreditLetters
    time_limits: TimeLimits
    silent_runs: SilentRuns
    forecaster: Forecaster
    mail_sender: MailSender


def timers_of(
    books: Books,
    effects: Effects,
    keepers: Keepers,
    order: QueueOrder,
    starts: ExpectedStarts,
) -> Timers:
    """The timers of one daemon; their threads are not started."""
    return Timers(
        credit_charges=credit_charges_of(books, effects),
        credit_letters=CreditLetters(
            board=books.board,
            outbox=effects.outbox,
            writer=effects.writer,
            clock=effects.clock,
        ),
        time_limits=TimeLimits(
            board=books.board,
            writer=effects.writer,
            clock=effects.clock,
            keepers=keepers,
        ),
        silent_runs=SilentRuns(
            board=books.board,
            fleet=books.fleet,
            clock=effects.clock,
            lost_runs=lost_runs_of(books, effects),
            began=effects.clock.now(),
        ),
        forecaster=forecaster_of(books, effects, order, starts),
        mail_sender=mail_sender_of(books, effects),
    )


def credit_charges_of(books: Books, effects: Effects) -> CreditCharges:
    """What charges and stops for credit."""
    credits, billing, settings = books.credits, books.billing, books.settings
    lost_gpus = LostGpus(
        billing=billing,
        fleet=books.fleet,
        probe=timedelta(seconds=settings.node.probe_seconds),
    )
    tick = timedelta(seconds=settings.credits.tick_seconds)
    grace = timedelta(seconds=settings.credits.grace_seconds)
    return CreditCharges(
        credits=credits,
        billing=billing,
        board=books.board,
        due=CreditDue(credits, billing, books.fleet, lost_gpus, tick),
        warnings=CreditWarnings(credits, grace),
        postings=CreditPostings(
            credits=credits,
            billing=billing,
            lost_gpus=lost_gpus,
            writer=effects.writer,
            steps=effects.steps,
        ),
    )


def forecaster_of(
    books: Books, effects: Effects, order: QueueOrder, starts: ExpectedStarts
) -> Forecaster:
    """What forecasts starts."""
    zone = effects.identity.zone
    return Forecaster(
        board=books.board,
        clock=effects.clock,
        order=order,
        starts=starts,
        forecasts=effects.forecasts,
        kept=KeptForecasts(effects.engine, effects.writer, books.board, zone),
    )


def mail_sender_of(books: Books, effects: Effects) -> MailSender:
    """What sends mail."""
    return MailSender(
        books.settings.mail,
        effects.engine,
        effects.writer,
        effects.clock,
        effects.mail_wanted,
    )
