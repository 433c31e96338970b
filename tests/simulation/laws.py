"""The laws of a world: what is on disk, in memory and on the nodes, held together.

Looks at a world and changes nothing; the laws themselves are in `tests/checkers.py` and
`tests/history_checkers.py`.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from dorabatch.daemon.state.books import Books
from dorabatch.daemon.state.credit_book import job_name
from dorabatch.daemon.state.spec_units import seconds_max
from dorabatch.fairshare.store.ledger_check import check_ledger
from dorabatch.queue.records import Container, Run
from dorabatch.queue.states import Outcome
from tests import checkers, history_checkers
from tests.simulation.on_disk import Changes, OnDisk, read

if TYPE_CHECKING:
    from tests.simulation.world import World

LEDGER_EVERY = 10


class Laws:
    """Holds one world to its laws."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._changes = Changes(world.settings.state_dir / "dorabatch.db")
        self._seen: tuple[int, OnDisk] | None = None
        self._checked = 0

    def close(self) -> None:
        """Look no more."""
        self._changes.close()

    def on_disk(self) -> OnDisk:
        """The database now; read again only when somebody has written."""
        number = self._changes.number()
        if self._seen is None or self._seen[0] != number:
            with self._world.effects.engine.connect() as connection:
                self._seen = number, read(connection, self._world.settings.zone)
        return self._seen[1]

    def broken(self) -> list[str]:
        """Every law that does not hold now."""
        world, before = self._world, self._seen
        disk = self.on_disk()
        used = {one.name for one in world.books.fleet.views() if not one.lost}
        there = checkers.not_given_up(world.attempts(), disk.containers, used)
        every = world.containers()
        kept = checkers.not_given_up(every, disk.containers, used)
        for node, attempts in every.items():
            for one in set(attempts) - set(kept[node]):
                # Given up without its node's word: nobody hears of its end.
                world.lost.setdefault(one, set()).add("silent")
        has = {name: node.facts for name, node in world.nodes.items()}
        board = world.books.board
        found = [
            *checkers.broken_laws(disk.containers, has),
            *checkers.containers_without_hold(disk.containers, kept),
            *checkers.replicas_running_twice(there),
            *history_checkers.wrong_boots(
                disk.containers, there, {name: one.boot_id for name, one in has.items()}
            ),
            *checkers.differences_in_memory(board.containers, disk.containers),
            *(text for node in world.nodes.values() for text in node.violations),
            *(t for n in world.nodes.values() for t in n.touched_strangers()),
            *(
                f"node {n} has no keeper"
                for n in world.nodes
                if world.books.fleet.get(n) and not world.has_keeper(n)
            ),
            *world.misdeeds,
        ]
        if before is not self._seen:
            found += [*self._of_records(disk), *self._of_credit(disk)]
        return found

    def _of_records(self, disk: OnDisk) -> list[str]:
        board, policy = self._world.books.board, self._world.books.policy
        users = {key: one.submitter.user for key, one in board.workloads.items()}
        here = [one for one in disk.containers if one.workload_id in users]
        demands = {
            one.container_id: board.demand_of(owner, one.replica)
            for one in here
            for owner in [disk.workloads[one.workload_id]]
            if one.version == owner.version
        }
        return [
            *checkers.illegal_moves(disk.histories),
            *checkers.over_limits(
                here, users, policy.settings.limits, policy.accounts_of
            ),
            *history_checkers.wrong_attempts(disk.containers, disk.runs),
            *history_checkers.holds_not_asked_for(disk.containers, demands),
            *history_checkers.still_wanted(disk.containers, self._world.cancelled),
            *history_checkers.started_while_held(disk.placings),
            *_missing_in_memory(self._world.books, disk),
        ]

    def _of_credit(self, disk: OnDisk) -> list[str]:
        """Laws of the ledger; the whole chain is added up now and then only."""
        self._checked += 1
        runs = _named(disk)
        return [
            *checkers.liens_without_run(disk.liens, disk.containers),
            *checkers.debts(disk.funds),
            *checkers.wrong_charges(runs, disk.charges, disk.forgiven),
            *(self.of_chain() if self._checked % LEDGER_EVERY == 0 else ()),
        ]

    def of_chain(self) -> list[str]:
        """What is wrong with the ledger from its first entry on."""
        with self._world.effects.engine.connect() as connection:
            return check_ledger(connection)

    def broken_at_end(self) -> list[str]:
        """Every law of a drained world that does not hold."""
        world, disk = self._world, self.on_disk()
        results = _results(disk)
        # What somebody took tells nobody how it ended.
        seen = {
            one: code
            for one, code in world.exits.items()
            if history_checkers.UNHEARD.isdisjoint(world.lost.get(one, ()))
        }
        silent = {r[:3] for r in results if history_checkers.is_of_silence(r[3].reason)}
        seen = {one: code for one, code in seen.items() if one not in silent}
        nonces = {k: said for k, said in world.nonces().items() if k not in silent}
        endless = {
            int(key)
            for key, one in disk.workloads.items()
            if '"Always"' in one.spec_json
        }
        asked = world.asked | world.rewritten
        return [
            *self.broken(),
            *checkers.unfinished(disk.containers),
            *self.of_chain(),
            *checkers.made_up_results(results, world.exits),
            *checkers.wrongly_blamed(results, world.lost.keys()),
            *history_checkers.wrong_causes(results, world.lost),
            *history_checkers.done_again(results, seen, endless | world.rewritten),
            *history_checkers.given_up(disk.containers),
            *history_checkers.ended_unasked(disk.containers, asked),
            *history_checkers.lost_logs(nonces, world.kept_logs()),
            *self._of_last_charges(disk),
            *self._of_use(),
        ]

    def _of_last_charges(self, disk: OnDisk) -> list[str]:
        world = self._world
        # A run that began before its meter, by a clock that was set, is not all paid.
        if disk.funds or not world.has_prices or world.was_clock_set:
            return []
        runs, free = _named(disk), set(disk.forgiven)
        # Nothing costs more than the time that its owner allowed it.
        longest = {
            job_name(one): seconds_max(disk.workloads[one.workload_id])
            for one in disk.containers
            # Of what was rewritten, the present spec tells nothing of earlier runs.
            if one.workload_id not in world.rewritten
        }
        priced = {
            name: longest[name.split("/")[0]]
            for name, run in runs.items()
            if name.split("/")[0] in longest
            and name not in free
            and run.outcome is not Outcome.NODE_LOST
        }
        return history_checkers.undercharged(runs, disk.charges, priced)

    def _of_use(self) -> list[str]:
        """The use that was counted run by run, and counted anew."""
        usage, now = self._world.books.usage, self._world.clock.now()
        with self._world.effects.engine.connect() as connection:
            anew = usage.rebuild(connection, now)
        at = max((row.at for row in usage.rows.values()), default=0)
        if any(row.at > at for row in anew.values()):
            at = max(row.at for row in anew.values())
        fading = self._world.books.policy.fading
        counted = {
            name: row.used * float(fading.kept(row.at / 1e6, at / 1e6))
            for name, row in usage.rows.items()
        }
        recounted = {
            name: row.used * float(fading.kept(row.at / 1e6, at / 1e6))
            for name, row in anew.items()
        }
        return history_checkers.different_use(counted, recounted)


def differences_of_books(was: Books, now: Books) -> list[str]:
    """What a daemon knew and its successor has not read from the database."""
    return [
        *history_checkers.differences(
            "container", _live_containers(was), _live_containers(now)
        ),
        *history_checkers.differences("balance", *_balances(was, now)),
        *history_checkers.differences("use", was.usage.rows, now.usage.rows),
        *history_checkers.differences(
            "meter", dict(was.credits.meters), dict(now.credits.meters)
        ),
    ]


def _live_containers(books: Books) -> Mapping[int, Container]:
    board = books.board
    return {
        key: one
        for key, one in board.containers.items()
        if board.workloads[one.workload_id].ended_at is None
    }


def _balances(
    was: Books, now: Books
) -> tuple[Mapping[object, int], Mapping[object, int]]:
    """What is left and held; of totals that only grow, memory knows a part."""
    sides = "avail:", "lien:"
    both = [
        {
            key: ucr
            for key, ucr in books.credits.book.balances.items()
            if ucr and key[0].startswith(sides)
        }
        for books in (was, now)
    ]
    return both[0], both[1]


def _missing_in_memory(books: Books, disk: OnDisk) -> list[str]:
    board = books.board
    live = {key: one for key, one in disk.workloads.items() if one.ended_at is None}
    known = {key: one for key, one in board.workloads.items() if one.ended_at is None}
    waiting = {
        int(one.container_id)
        for one in disk.containers
        if str(one.state) == "queued" and one.workload_id in live
    }
    queued = set(board.pending.arrays().key.tolist())
    return [
        *history_checkers.differences("workload", known, live),
        *(
            f"container {one.container_id} is on disk and not in memory"
            for one in disk.containers
            if one.workload_id in live and one.container_id not in board.containers
        ),
        *(f"container {key} waits in one of both only" for key in waiting ^ queued),
    ]


def _named(disk: OnDisk) -> dict[str, Run]:
    names = {one.container_id: job_name(one) for one in disk.containers}
    return {f"{names[run.container_id]}/{run.attempt}": run for run in disk.runs}


def _results(disk: OnDisk) -> list[tuple[int, int, int, Run]]:
    numbers = {c.container_id: (c.workload_id, c.replica) for c in disk.containers}
    return [(*numbers[run.container_id], run.attempt, run) for run in disk.runs]
