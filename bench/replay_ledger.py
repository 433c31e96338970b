"""Charges a second that the ledger makes durable on SQLite, many a transaction."""

import json
import sys
import tempfile
import time
from pathlib import Path

from dorabatch.daemon.schema import migrate
from dorabatch.db import open_engine
from dorabatch.fairshare import ledger
from dorabatch.fairshare.book import Allocation, Posting

RUNS = 500
ROUNDS = 10


def main() -> int:
    """Print one JSON line."""
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder) / 'ledger.db'}"
        migrate(url)
        engine = open_engine(url)
        users = [f"u{number}" for number in range(50)]
        with engine.begin() as connection:
            ledger.open_allocations(
                connection, [Allocation(id=u, zone="z", account=u) for u in users]
            )
            ledger.post(connection, [_deposit(user) for user in users])
        began = time.perf_counter()
        for tick in range(1, ROUNDS + 1):
            batch = [_charge(run, users[run % 50], tick) for run in range(RUNS)]
            with engine.begin() as connection:
                ledger.post(connection, batch)
        took = time.perf_counter() - began
        with engine.begin() as connection:
            faults = ledger.check_ledger(connection)
        engine.dispose()
    rate = round(RUNS * ROUNDS / took)
    print(json.dumps({"charges_per_second": rate, "faults": len(faults)}))
    return 0


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
