"""Laws of the ledger over many random operations, and durable charges a second.

    python -m bench.ledger --operations 10000000 --seeds 1,2,3
    python -m bench.ledger --operations 0          # the database alone

Random operations go through the pure book and are counted beside it in another way:
legs sum to zero, no tick length changes a bill, a posting made twice counts once. The
database part charges running workloads on SQLite with synchronous=FULL, a transaction a
tick, then checks and rebuilds. Measures on this machine; touches no other database.
"""

import argparse
import json
import random
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from dorabatch.daemon.schema import migrate
from dorabatch.db import open_engine
from dorabatch.fairshare.money.book import Allocation, Book, Posting, PostingOutcome
from dorabatch.fairshare.store import ledger
from dorabatch.fairshare.store.ledger_check import check_ledger
from dorabatch.units import amount_for

ACCOUNTS = 40
LIVE_RUNS = 60
BLOCK = 100_000
REPEATS = 0.05
RUNS, TICKS = 500, 10
_HOUR_US = 3_600_000_000


class BrokenLaw(Exception):
    """A law of the ledger does not hold; the message says which."""


@dataclass(slots=True, kw_only=True)
class Run:
    """A running workload; `used_us` is how long it has run."""

    name: str
    account: str
    price: int
    milli: int
    used_us: int = 0


@dataclass(slots=True, kw_only=True)
class Walk:
    """A random walk over a book, with a second count of what every account has."""

    rng: random.Random
    book: Book = field(default_factory=Book)
    runs: dict[str, Run] = field(default_factory=dict)
    count: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    recent: list[Posting] = field(default_factory=list)
    made: int = 0
    repeated: int = 0

    def step(self) -> None:
        """One operation; now and then one that was done before."""
        if self.recent and self.rng.random() < REPEATS:
            again = self.book.post(self.rng.choice(self.recent))
            _law(again.repeated and not again.moved, "a repeat moved something")
            self.repeated += 1
            return
        deeds = (self._charge,) * 6 + (
            self._begin, self._end, self._deposit, self._refund, self._expire,
            self._transfer,
        )  # fmt: skip
        self.rng.choice(deeds)()

    def check(self) -> None:
        """All balances against the second count, and against zero."""
        total = sum(self.book.balances.values())
        _law(total == 0, f"balances sum to {total}")
        found: dict[str, int] = defaultdict(int)
        for (side, _), ucr in self.book.balances.items():
            name = side.split(":")
            if name[0] in ("avail", "lien"):
                found[name[2]] += ucr
        for account, expected in self.count.items():
            _law(found[account] == expected, f"{account}: {found[account]}")
        # The database looks up keys of before; the walk repeats recent ones only.
        self.book.keys.clear()
        self.recent.clear()

    def finish(self) -> None:
        """End every run and check once more."""
        for name in list(self.runs):
            self._finish_run(self.runs[name])
        self.check()

    def _post(
        self, kind: str, account: str, amount: int = 0, **more: object
    ) -> PostingOutcome:
        self.made += 1
        posting = Posting(
            kind=kind,
            key=f"{kind}:{self.made}",
            at=self.made,
            zone="z",
            chain=(account, "top") if account.startswith("u1") else (account,),
            amount=amount,
            **more,  # type: ignore[arg-type]  # fields by name
        )
        outcome = self.book.post(posting)
        if outcome.entry is not None:
            legs = sum(leg.ucr for leg in outcome.entry.legs)
            _law(legs == 0, f"legs of {posting.key} sum to {legs}")
            if len(self.recent) < 1000:
                self.recent.append(posting)
        return outcome

    def _moved(self, account: str, ucr: int) -> None:
        self.count[account] += ucr
        if account.startswith("u1") and self.book.budgeted("z", "top"):
            self.count["top"] += ucr

    def _account(self) -> str:
        return f"u{self.rng.randrange(ACCOUNTS)}"

    def _deposit(self) -> None:
        account = self.rng.choice((self._account(), "top"))
        rows = self.book.budgeted("z", account)
        if len(rows) < 5:
            ends = self.made + self.rng.randrange(1, 10**6)
            name = f"{account}/{len(rows)}"
            self.book.open(
                Allocation(id=name, zone="z", account=account, valid_to=ends)
            )
        row = self.rng.choice(self.book.budgeted("z", account))
        amount = self.rng.randrange(10**9)
        self._post("deposit", account, amount, allocation_id=row.id)
        self.count[account] += amount

    def _begin(self) -> None:
        if len(self.runs) >= LIVE_RUNS:
            return
        run = Run(
            name=f"r{self.made}",
            account=self._account(),
            price=self.rng.randrange(5_000_000),
            milli=self.rng.choice((250, 1000, 2000, 8000)),
        )
        self.runs[run.name] = run
        lien = self.rng.randrange(10**8)
        self._post("lien", run.account, lien, run=run.name)

    def _charge(self) -> None:
        if self.runs:
            run = self.rng.choice(list(self.runs.values()))
            run.used_us += self.rng.randrange(1, _HOUR_US)
            self._bill(run)

    def _bill(self, run: Run) -> None:
        total = amount_for(
            run.price, gpu_milli=run.milli, elapsed_microseconds=run.used_us
        )
        done = self._post("charge", run.account, total, run=run.name, model="V")
        self._moved(run.account, -done.moved)

    def _end(self) -> None:
        if self.runs and self.rng.random() < 0.5:
            self._finish_run(self.rng.choice(list(self.runs.values())))

    def _finish_run(self, run: Run) -> None:
        self._bill(run)
        expected = run.price * run.milli * run.used_us // (1000 * _HOUR_US)
        charged = self.book.run_total(run.name, "charged")
        _law(charged == expected, f"{run.name}: {charged} charged, not {expected}")
        self._post("release", run.account, run=run.name)
        _law(not self.book.run_total(run.name, "lien"), f"{run.name} keeps a lien")
        back = self.book.run_total(run.name, "refunded")
        _law(0 <= back <= charged, f"{run.name}: {back} of {charged} refunded")
        del self.runs[run.name]
        self.book.runs.pop(run.name, None)

    def _refund(self) -> None:
        if self.runs:
            run = self.rng.choice(list(self.runs.values()))
            amount = self.rng.randrange(10**7)
            done = self._post(
                "refund", run.account, amount, run=run.name, reason="tried"
            )
            self._moved(run.account, done.moved)

    def _expire(self) -> None:
        row = self._row()
        if row is not None:
            done = self._post("expire", row.account, allocation_id=row.id)
            self.count[row.account] -= done.moved

    def _transfer(self) -> None:
        source, target = self._row(), self._row()
        if source is not None and target is not None:
            done = self._post(
                "transfer", source.account, self.rng.randrange(10**8),
                allocation_id=source.id, target_id=target.id,
            )  # fmt: skip
            self.count[source.account] -= done.moved
            self.count[target.account] += done.moved

    def _row(self) -> Allocation | None:
        rows = self.book.budgeted("z", self._account())
        return self.rng.choice(rows) if rows else None


def walk(operations: int, seed: int) -> dict[str, float]:
    """Random operations on the pure book; raises BrokenLaw."""
    made = Walk(rng=random.Random(seed))
    began = time.perf_counter()
    for number in range(1, operations + 1):
        made.step()
        if number % BLOCK == 0:
            made.check()
            print(f"seed {seed}: {number} of {operations}", end="\r", file=sys.stderr)
    made.finish()
    took = time.perf_counter() - began
    return {
        "seed": seed,
        "operations": operations,
        "posted_twice": made.repeated,
        "seconds": round(took, 1),
    }


def database(folder: Path) -> dict[str, float]:
    """Durable charges a second on SQLite, and whether all is right afterwards."""
    url = f"sqlite:///{folder / 'ledger.db'}"
    migrate(url)
    engine = open_engine(url)
    users = [f"u{number}" for number in range(50)]
    with engine.begin() as connection:
        ledger.open_allocations(
            connection, [Allocation(id=u, zone="z", account=u) for u in users]
        )
        ledger.post(connection, [_deposit(user) for user in users])
    began = time.perf_counter()
    for tick in range(1, TICKS + 1):
        batch = [_charge(run, users[run % 50], tick) for run in range(RUNS)]
        with engine.begin() as connection:
            ledger.post(connection, batch)
    took = time.perf_counter() - began
    with engine.begin() as connection:
        faults = check_ledger(connection)
        ledger.rebuild(connection)
        faults += check_ledger(connection)
    began = time.perf_counter()
    for run in range(200):
        with engine.begin() as connection:
            ledger.post(connection, [_charge(run, users[run % 50], TICKS + 1)])
    single = time.perf_counter() - began
    engine.dispose()
    return {
        "charges_per_second": round(RUNS * TICKS / took),
        "single_charges_per_second": round(200 / single),
        "faults": len(faults),
    }


def main() -> int:
    """Print one line of JSON; 1 when a law is broken."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--operations", type=int, default=1_000_000)
    parser.add_argument("--seeds", default="1")
    given = parser.parse_args()
    try:
        seeds = [int(seed) for seed in given.seeds.split(",")]
        walks = [walk(given.operations, seed) for seed in seeds if given.operations]
        with tempfile.TemporaryDirectory() as folder:
            found = database(Path(folder))
    except (BrokenLaw, ValueError) as error:
        print(f"bench.ledger: {error}", file=sys.stderr)
        return 1
    print(json.dumps({"walks": walks, "database": found}))
    return 1 if found["faults"] else 0


def _law(holds: bool, text: str) -> None:
    if not holds:
        raise BrokenLaw(text)


def _deposit(user: str) -> Posting:
    return Posting(
        kind="deposit",
        key=f"d/{user}",
        at=0,
        zone="z",
        chain=(user,),
        amount=10**12,
        allocation_id=user,
    )


def _charge(run: int, user: str, tick: int) -> Posting:
    return Posting(
        kind="charge",
        key=f"charge:{run}:1:0:{tick}",
        at=tick,
        zone="z",
        chain=(user,),
        amount=694 * tick,
        run=f"{run}/1",
        model="V100",
    )


if __name__ == "__main__":
    sys.exit(main())
