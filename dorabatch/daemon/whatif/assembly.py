"""A site for one play, put together from books of its own.

Holds no rule of its own.
"""

from collections.abc import Mapping

from dorabatch.daemon.cycle.assembly import lane_of, planner_of
from dorabatch.daemon.whatif.make_books import open_books
from dorabatch.daemon.whatif.simulated_credit import SimulatedCredit
from dorabatch.daemon.whatif.simulated_cycle import SimulatedCycle, SimulatedReturns
from dorabatch.daemon.whatif.simulated_runs import SimulatedRuns
from dorabatch.daemon.whatif.site_history import WhatifQuestion


def stage_of(question: WhatifQuestion, texts: Mapping[str, str]) -> SimulatedCycle:
    """A site at the beginning of its history, under policy settings by key."""
    books = open_books(question, texts)
    board, usage = books.board, books.usage
    purse = SimulatedCredit(
        books.credits, books.billing, usage, board, question.close_us
    )
    return SimulatedCycle(
        planner_of(books),
        lane_of(books),
        SimulatedReturns(usage, books.fleet),
        SimulatedRuns(board, usage, books.history, purse),
        purse,
        books.latest,
    )
