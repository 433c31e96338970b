"""What each user has used: ended runs as a cache in the database, live ones by formula.

The cache is written in the transaction that ends a run, so a crash loses nothing; it
can be made anew from the runs at any time. In memory it is written by the writer's
thread after each commit and read by everybody, both under the lock. Counts only;
orders nobody.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import islice

import numpy as np
from sqlalchemy import Connection

from dorabatch.daemon.state.credit_book import RunClosed, run_name
from dorabatch.daemon.state.site_policy import SitePolicy
from dorabatch.daemon.state.spec_units import spec_of_text
from dorabatch.db import Tx
from dorabatch.fairshare.money.meter import Meter
from dorabatch.fairshare.money.price import PriceBook
from dorabatch.fairshare.store import share_store
from dorabatch.fairshare.store.share_store import Raise, UsageRow
from dorabatch.fairshare.store.terms import load_meters
from dorabatch.fairshare.turn.account_tree import (
    Account,
    AccountTree,
    build_tree,
    seat_name,
    seated,
)
from dorabatch.fairshare.turn.usage import (
    Fading,
    Usage,
    caught_up,
    counted_spans,
    use_rate,
)
from dorabatch.queue.board import Board
from dorabatch.queue.past import PastRun, ended_runs
from dorabatch.queue.records import Container, ContainerId, Workload, WorkloadId
from dorabatch.queue.states import Outcome
from dorabatch.units import CREDIT, microseconds_of

_MICRO = 1_000_000
_AT_ONCE = 1000
_FAR = datetime.max.replace(tzinfo=UTC)
_FORGOTTEN = 1.0
"""Thousandths of GPU-seconds below which an idle user is left out of the tree."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """A run that goes on: its user, thousandths of GPUs, start and end in seconds."""

    user: str
    rate: float
    start: float
    end: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Cached:
    """The cache as memory or a transaction has it, and how use fades there.

    `row` reads the row of a name.
    """

    row: Callable[[str], UsageRow | None]
    fading: Fading


@dataclass(frozen=True, slots=True, kw_only=True)
class Standings:
    """The tree with everybody in it and what each node has used by now.

    node[user] is the user's index in the tree; `usage` holds one row a node.
    """

    tree: AccountTree
    node: dict[str, int]
    usage: Usage


class UsageBook:
    """Use of one zone's users."""

    def __init__(
        self,
        zone: str,
        policy: SitePolicy,
        board: Board,
        prices: Callable[[], PriceBook],
    ) -> None:
        self.zone = zone
        self._rows: dict[str, UsageRow] = {}
        self._policy = policy
        self._board = board
        self._prices = prices
        self._live: dict[ContainerId, tuple[PastRun, list[Live]]] = {}
        self._runs: dict[str, ContainerId] = {}
        self._meters: dict[str, tuple[Meter, ...]] = {}
        self._workloads: dict[str, set[WorkloadId]] = {}
        self._lock = threading.Lock()
        self._seats: tuple[object, AccountTree] | None = None

    @property
    def rows(self) -> dict[str, UsageRow]:
        """The cache as it is in memory, by name."""
        return dict(self._rows)

    def load(self, connection: Connection) -> None:
        """Read the cache; the board has been loaded before."""
        self._rows = share_store.load_usage(connection, self.zone)

    def apply(self, changes: Iterable[object]) -> None:
        """Take over what a commit changed; the board has taken it over before."""
        with self._lock:
            for change in changes:
                if isinstance(change, UsageRow):
                    self._rows[change.name] = change
                elif isinstance(change, Workload):
                    self._apply_workload(change)
                elif isinstance(change, Container):
                    self._apply_container(change)
                elif isinstance(change, Meter):
                    self._apply_meter(change)
                elif isinstance(change, RunClosed):
                    self._meters.pop(change.run, None)

    def active_users(self) -> frozenset[str]:
        """Who has something that waits or runs."""
        with self._lock:
            return frozenset(user for user, held in self._workloads.items() if held)

    def in_memory(self) -> Cached:
        """The cache as it is in memory."""
        return Cached(row=self._rows.get, fading=self._policy.fading)

    def standings(self, now: datetime) -> Standings:
        """Everybody's use at a moment."""
        with self._lock:
            rows = dict(self._rows)
            live = [one for _, parts in self._live.values() for one in parts]
            active = [user for user, held in self._workloads.items() if held]
        # Taken once: a policy that is changed meanwhile must not seat half of them.
        shares = self._policy.rows
        accounts = _accounts_in(shares)
        tree, at = self._tree(shares, rows, active), now.timestamp()
        fading = self._policy.fading
        own = np.zeros(len(tree), dtype=np.float64)
        known = [row for name, row in rows.items() if name in tree.index]
        at_node = np.array([tree.index[row.name] for row in known], dtype=np.int64)
        used = np.array([row.used for row in known], dtype=np.float64)
        since = np.array([row.at / _MICRO for row in known], dtype=np.float64)
        np.add.at(own, at_node, used * fading.kept(since, at))
        node = _nodes(tree, accounts)
        seat = np.array([node[one.user] for one in live], dtype=np.int64)
        rate = np.array([one.rate for one in live], dtype=np.float64)
        start = np.array([one.start for one in live], dtype=np.float64)
        end = np.array([one.end for one in live], dtype=np.float64)
        np.add.at(own, seat, rate * fading.grown(start, end, at))
        rates = np.bincount(seat, weights=rate * (end > at), minlength=len(tree))
        usage = Usage(own=own, rate=rates.astype(np.float64), at_seconds=at)
        return Standings(tree=tree, node=node, usage=usage)

    def count_end(self, tx: Tx, container: Container, now: datetime) -> None:
        """Add a run that is over to the cache, inside the transaction that ends it."""
        run = self.past_run(container, now)
        if run is None:
            return
        tx.note(run)
        meters = load_meters(tx.connection, [run.run])
        row = self.with_run(run, meters, now, self._cached(tx))
        if row is not None:
            self._save(tx, row)

    def join(self, tx: Tx, now: datetime, capacity_rate: float) -> None:
        """Mark who is active, and raise the use of those who came back.

        `capacity_rate` is all GPUs of the zone in thousandths, weighted.
        """
        raises, rows = self.joined(now, capacity_rate, self._cached(tx))
        for one in raises:
            share_store.add_raise(tx.connection, self.zone, one)
        for row in rows:
            self._save(tx, row)

    def with_run(
        self, run: PastRun, meters: Sequence[Meter], now: datetime, cached: Cached
    ) -> UsageRow | None:
        """The row of a run's user once the run counts; None: it counts nothing."""
        end = run.ended_at.timestamp()
        parts = self._counted(run, end, meters)
        if not any(one.rate for one in parts):
            return None
        name = seat_name(run.user, self._accounts())
        row = cached.row(name) or UsageRow(name=name)
        for one in parts:
            row = _grown(row, one, max(now.timestamp(), end), cached.fading)
        return row

    def joined(
        self, now: datetime, capacity_rate: float, cached: Cached
    ) -> tuple[list[Raise], list[UsageRow]]:
        """What `join` raises, and the rows that it changes."""
        standings, active = self.standings(now), self.active_users()
        names = {
            user: standings.tree.names[standings.node[user]]
            for user in active
            if user in standings.node
        }
        was = {name for name, row in self.rows.items() if row.is_active}
        joining = sorted(set(names.values()) - was)
        left = sorted(was - set(names.values()))
        raised = self._raised(standings, joining, was, capacity_rate)
        at_us, rows = microseconds_of(now), []
        for name in sorted({*raised, *joining, *left}):
            before = cached.row(name) or UsageRow(name=name, at=at_us)
            row = _faded(before, at_us, cached.fading)
            is_active = (row.is_active or name in joining) and name not in left
            # A run that ended meanwhile has brought the row further than to now.
            kept = float(cached.fading.kept(at_us / _MICRO, row.at / _MICRO))
            used = row.used + raised.get(name, 0.0) * kept
            rows.append(replace(row, used=used, is_active=is_active))
        raises = [
            Raise(name=name, at=at_us, amount=amount) for name, amount in raised.items()
        ]
        return raises, rows

    def has_news(self) -> bool:
        """Whether somebody came or left since the cache was written."""
        accounts = self._accounts()
        active = {seat_name(user, accounts) for user in self.active_users()}
        return active != {name for name, row in self.rows.items() if row.is_active}

    def weight(self, model: str, at: datetime) -> float:
        """What an hour of a GPU counts: its price in credits, 1 where none is set."""
        prices = self._prices()
        if not prices.is_priced(self.zone, model):
            return 1.0
        return prices.price_at(self.zone, model, at) / CREDIT

    def rebuild(
        self, connection: Connection, now: datetime, fading: Fading | None = None
    ) -> dict[str, UsageRow]:
        """The cache as the ended runs and the raises make it.

        At `now`, or up to when the cache is made already, the later; `fading` instead
        of the one in memory.
        """
        fading = fading or self._policy.fading
        stored = share_store.load_usage(connection, self.zone)
        at_us = _moment(now, stored)
        accounts = self._accounts()
        found: dict[str, UsageRow] = {}
        for run, meters in _with_meters(connection, self.zone):
            name = seat_name(run.user, accounts)
            for part in self._counted(run, run.ended_at.timestamp(), meters):
                before = found.get(name, UsageRow(name=name))
                found[name] = _grown(before, part, at_us / _MICRO, fading)
        for one in share_store.load_raises(connection, self.zone):
            before = found.get(one.name, UsageRow(name=one.name, at=at_us))
            left = float(fading.kept(one.at / _MICRO, at_us / _MICRO))
            found[one.name] = replace(before, used=before.used + one.amount * left)
        marked = {name for name, row in stored.items() if row.is_active}
        for name in marked:
            found.setdefault(name, UsageRow(name=name, at=at_us))
        return {
            name: replace(row, is_active=name in marked) for name, row in found.items()
        }

    def renew(self, tx: Tx, now: datetime) -> dict[str, tuple[float, float]]:
        """Replace the cache by what the runs make; (before, after) where they differ.

        In thousandths of weighted GPU-seconds at the moment of the new rows.
        """
        fading = self._policy.fading_in(tx)
        stored = share_store.load_usage(tx.connection, self.zone)
        fresh = self.rebuild(tx.connection, now, fading)
        at_us = _moment(now, stored)
        share_store.forget_usage(tx.connection, self.zone)
        changed = {}
        for name in sorted({*fresh, *stored}):
            row = fresh.get(name, UsageRow(name=name, at=at_us))
            before = stored.get(name, UsageRow(name=name))
            used = _faded(before, at_us, fading).used
            self._save(tx, row)
            if abs(used - row.used) > 1e-6 * max(1.0, row.used):
                changed[name] = (used, row.used)
        return changed

    def _accounts(self) -> frozenset[str]:
        return _accounts_in(self._policy.rows)

    def _tree(
        self,
        shares: tuple[Account, ...],
        rows: dict[str, UsageRow],
        active: Sequence[str],
    ) -> AccountTree:
        accounts = _accounts_in(shares)
        used = [n for n, row in rows.items() if row.used > _FORGOTTEN]
        users = {*active, *(_user_of(name, accounts) for name in used)} - {""}
        key = (shares, frozenset(users))
        seats = self._seats
        if seats is None or seats[0] != key:
            # Another thread may publish a tree of its own meanwhile.
            self._seats = seats = (key, build_tree(seated(shares, users)))
        return seats[1]

    def _raised(
        self,
        standings: Standings,
        joining: Sequence[str],
        was: set[str],
        capacity_rate: float,
    ) -> dict[str, float]:
        tree = standings.tree
        active = np.zeros(len(tree), dtype=np.bool_)
        active[[tree.index[name] for name in was if name in tree.index]] = True
        own = caught_up(
            tree,
            standings.usage.own,
            joining=np.array([tree.index[name] for name in joining], dtype=np.int64),
            active=active & tree.is_user,
            capacity_rate=capacity_rate,
            catch_up_seconds=self._policy.settings.catch_up_seconds,
        )
        more = own - standings.usage.own
        return {tree.names[at]: float(more[at]) for at in np.flatnonzero(more > 0)}

    def _cached(self, tx: Tx) -> Cached:
        return Cached(
            row=lambda name: share_store.get_usage(tx.connection, self.zone, name),
            fading=self._policy.fading_in(tx),
        )

    def _save(self, tx: Tx, row: UsageRow) -> None:
        share_store.save_usage(tx.connection, self.zone, row)
        tx.note(row)

    def _apply_workload(self, workload: Workload) -> None:
        held = self._workloads.setdefault(workload.submitter.user, set())
        if workload.ended_at is None:
            held.add(workload.workload_id)
        else:
            held.discard(workload.workload_id)

    def _apply_container(self, container: Container) -> None:
        key = container.container_id
        known = self._live.pop(key, None)
        if known is not None:
            self._runs.pop(known[0].run, None)
        # An end that is not known yet is replaced by "never".
        run = self.past_run(container, _FAR)
        if run is not None:
            self._runs[run.run] = key
            self._live[key] = (run, self._parts(run))

    def _apply_meter(self, meter: Meter) -> None:
        mine = (*self._meters.get(meter.run, ()), meter)
        self._meters[meter.run] = mine
        key = self._runs.get(meter.run)
        if key is not None:
            run = self._live[key][0]
            self._live[key] = (run, self._parts(run))

    def _parts(self, run: PastRun) -> list[Live]:
        end = np.inf if run.ended_at == _FAR else run.ended_at.timestamp()
        return self._counted(run, end, self._meters.get(run.run, ()))

    def past_run(self, container: Container, now: datetime) -> PastRun | None:
        """A container's present run, to its end or to a moment; None: none began."""
        hold, started = container.hold, container.started_at
        if hold is None or started is None:
            return None
        workload = self._board.workloads[container.workload_id]
        return PastRun(
            run=run_name(container),
            user=workload.submitter.user,
            spec_json=workload.spec_json,
            gpu_models=hold.gpu_models,
            started_at=started,
            ended_at=container.ended_at or now,
            outcome=str(container.outcome or ""),
        )

    def _counted(self, run: PastRun, end: float, meters: Sequence[Meter]) -> list[Live]:
        # Nobody has used what a node lost.
        if run.outcome == Outcome.NODE_LOST:
            return []
        weights = (self.weight(model, run.started_at) for model in run.gpu_models)
        rate = use_rate(weights, spec_of_text(run.spec_json).gpu_milli)
        turns = [(meter.at / _MICRO, meter.is_billed) for meter in meters]
        return [
            Live(user=run.user, rate=rate, start=since, end=until)
            for since, until in counted_spans(run.started_at.timestamp(), end, turns)
        ]


def _accounts_in(rows: Sequence[Account]) -> frozenset[str]:
    return frozenset(row.name for row in rows if not row.is_user)


def _moment(now: datetime, stored: Mapping[str, UsageRow]) -> int:
    return max([microseconds_of(now), *(row.at for row in stored.values())])


def _grown(row: UsageRow, live: Live, at: float, fading: Fading) -> UsageRow:
    at_us = max(row.at, round(at * _MICRO))
    faded = _faded(row, at_us, fading)
    more = live.rate * fading.grown(live.start, live.end, at_us / _MICRO)
    return replace(faded, used=faded.used + float(more))


def _faded(row: UsageRow, at_us: int, fading: Fading) -> UsageRow:
    if at_us <= row.at:
        return row
    left = float(fading.kept(row.at / _MICRO, at_us / _MICRO))
    return replace(row, used=row.used * left, at=at_us)


def _with_meters(
    connection: Connection, zone: str
) -> Iterator[tuple[PastRun, list[Meter]]]:
    """Ended runs with their meters, some at a time."""
    runs = ended_runs(connection, zone)
    while some := list(islice(runs, _AT_ONCE)):
        found: dict[str, list[Meter]] = {}
        for meter in load_meters(connection, [run.run for run in some]):
            found.setdefault(meter.run, []).append(meter)
        for run in some:
            yield run, found.get(run.run, [])


def _nodes(tree: AccountTree, accounts: frozenset[str]) -> dict[str, int]:
    return {
        _user_of(name, accounts) or name: node
        for name, node in tree.index.items()
        if tree.is_user[node]
    }


def _user_of(name: str, accounts: frozenset[str]) -> str:
    """The user whose seat has this name; empty for an account."""
    if name in accounts:
        return ""
    user = name.removesuffix(" (user)")
    return user if user != name and user in accounts else name
