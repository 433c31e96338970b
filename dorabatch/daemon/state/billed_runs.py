"""What is billed right now, and when whose credit runs out.

One moment's running containers with their meters and balances, from memory or from a
transaction. Reads only; decides nothing that `fairshare` decides.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from dorabatch.daemon.state.charging import Billing
from dorabatch.daemon.state.credit_book import CreditBook, run_name
from dorabatch.fairshare.money.book import Book
from dorabatch.fairshare.money.meter import Draw, Meter, runs_out_at
from dorabatch.queue.board import Board
from dorabatch.queue.records import Container, ContainerId
from dorabatch.queue.states import State
from dorabatch.units import microseconds_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Billed:
    """A running container and the meters of its run."""

    container: Container
    meters: tuple[Meter, ...]

    @property
    def last(self) -> Meter:
        """What it is billed for at present."""
        return self.meters[-1]

    @property
    def is_open_ended(self) -> bool:
        """Whether it draws on what is available: with a limit its lien covers all."""
        return self.last.is_billed and self.last.limit_us is None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOut:
    """An account whose credit pays up to `at` for what draws on it."""

    account: str
    at: int
    runs: tuple[Billed, ...]


class BilledRuns:
    """The running containers of a zone that have meters."""

    def __init__(
        self,
        desk: CreditBook,
        billing: Billing,
        book: Book,
        running: Iterable[Container],
        meters: Mapping[str, tuple[Meter, ...]],
    ) -> None:
        self._desk = desk
        self._billing = billing
        self._book = book
        self.billed = [
            Billed(container=container, meters=found)
            for container in running
            if container.state is State.RUNNING
            for found in [meters.get(run_name(container), ())]
            if found
        ]

    def run_outs(self, now: int) -> list[RunOut]:
        """When each account with something open-ended has spent all, soonest first."""
        drawing: dict[str, list[Billed]] = {}
        for one in self.billed:
            for account in one.last.chain if one.last.is_billed else ():
                if self._book.budgeted(self._desk.zone, account):
                    drawing.setdefault(account, []).append(one)
        found = [self._run_out(name, runs, now) for name, runs in drawing.items()]
        return sorted((one for one in found if one), key=lambda one: one.at)

    def covers(self, one: Billed, need: int, at: int) -> bool:
        """Whether everybody who pays for a run could pay this beside."""
        return all(
            self._desk.standing_in(self._book, name, at).covers(need)
            for name in one.last.chain
        )

    def paid_until(self, now: int) -> dict[ContainerId, int]:
        """The last moment that present credit pays for, of what is charged and limited.

        With a time limit that is its end; what is open-ended shares what is there.
        """
        found: dict[ContainerId, int] = {}
        for out in self.run_outs(now):
            for one in out.runs:
                found.setdefault(one.container.container_id, out.at)
        for one in self.billed:
            started, limit = one.container.started_at, one.last.limit_us
            if not one.last.is_billed or limit is None or started is None:
                continue
            if any(self._book.budgeted(one.last.zone, n) for n in one.last.chain):
                key = one.container.container_id
                found[key] = microseconds_of(started) + limit
        return found

    def _run_out(self, account: str, runs: list[Billed], now: int) -> RunOut | None:
        funds = self._book.available(self._desk.zone, account, now) or 0
        draws: list[Draw] = []
        drawing = []
        for one in runs:
            until = self._billing.seen_until(one.container, now)
            posted = self._book.run_total(one.last.run, "charged")
            total = self._billing.total(one.container, one.meters, until)
            held = self._held(one, account)
            owed = total - posted
            if one.is_open_ended:
                funds += held - owed
                drawing.append(one)
                if until == now:
                    draws += self._billing.draws(one.container, one.meters, now)
            else:
                funds -= max(0, owed - held)
        at = runs_out_at(now, draws=draws, funds=funds)
        if at is None:
            return None
        return RunOut(account=account, at=at, runs=tuple(drawing))

    def _held(self, one: Billed, account: str) -> int:
        side = f"lien:{self._desk.zone}:{account}|"
        slots = self._book.run_slots(one.last.run, "lien")
        return sum(ucr for slot, ucr in slots.items() if slot.startswith(side))


def present_scene(desk: CreditBook, billing: Billing, board: Board) -> BilledRuns:
    """What is billed now, by memory."""
    held = (c for node in board.nodes_in_use() for c in board.on_node(node))
    return BilledRuns(desk, billing, desk.book, held, desk.meters)
