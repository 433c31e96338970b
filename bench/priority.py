"""The order of the whole queue: python -m bench.priority [--pending 100000] [--json]

Everything the daemon's cycle does to put the queue in order, on the daemon's own board
and use: everybody's use at this moment, the fair tree, what each claim is worth, the
sums and the sort. The queue is invented (fixed seed). Exit status 1 when the median of
the runs is longer than the target.
"""

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

from dorabatch.config import Settings
from dorabatch.daemon.assembly import DaemonParts, compose, parts_of
from dorabatch.fairshare.store.share_store import UsageRow
from dorabatch.fairshare.turn.account_tree import Account
from dorabatch.queue.records import (
    Container,
    ContainerId,
    Submitter,
    Workload,
    WorkloadId,
)
from dorabatch.queue.states import State
from dorabatch.resources.submission import workload_from_options
from dorabatch.resources.workload import canonical_json, spec_digest
from dorabatch.units import microseconds_of

MILLISECONDS_MAX = 50.0
SEED = 20_240_917
ZONE = Settings().zone
WAIT_SECONDS_MAX = 14 * 86_400
ACCOUNTS = 40


def main(argv: list[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pending", type=int, default=100_000)
    parser.add_argument("--users", type=int, default=500)
    parser.add_argument("--runs", type=int, default=11)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="bench-priority-") as place:
        settings = Settings(state_dir=Path(place), socket=Path(place) / "s")
        books, effects = compose(settings)
        parts = parts_of(books, effects)
        fill(parts, options.pending, options.users)
        found = measure(parts, options.runs)
        effects.writer.stop()
        effects.engine.dispose()
    result = {
        "pending": options.pending,
        "users": options.users,
        "runs": options.runs,
        "ms_median": round(statistics.median(found), 2),
        "ms_best": round(min(found), 2),
        "ms_worst": round(max(found), 2),
        "target_ms": MILLISECONDS_MAX,
    }
    if options.json:
        print(json.dumps(result, indent=1))
    else:
        for name, value in result.items():
            print(f"{name:12} {value}")
    return int(statistics.median(found) > MILLISECONDS_MAX)


def measure(parts: DaemonParts, runs: int) -> list[float]:
    """Milliseconds of each run; the copy of the columns counts."""
    board, clock, found = parts.books.board, parts.effects.clock, []
    for _ in range(runs):
        began = time.perf_counter()
        pending = board.pending.arrays()
        ranked = parts.order.rank(pending, clock.now())
        found.append(1000 * (time.perf_counter() - began))
        assert len(ranked.ranking.order) == len(pending)
    return found


def fill(parts: DaemonParts, pending: int, users: int) -> None:
    """An account tree, use of everybody, and so many waiting containers."""
    rng = random.Random(SEED)
    accounts = [
        Account(name=f"a{n}", shares=rng.randint(1, 9)) for n in range(ACCOUNTS)
    ]
    people = [
        Account(name=f"u{n}", parent=f"a{n % ACCOUNTS}", is_user=True)
        for n in range(users)
    ]
    books, now = parts.books, parts.effects.clock.now()
    books.policy.play(books.policy.settings.texts, (*accounts, *people))
    now_us = microseconds_of(now)
    books.usage.apply(
        UsageRow(name=one.name, used=rng.uniform(0, 1e9), at=now_us) for one in people
    )
    changes = list(_waiting(now, pending, users, rng))
    books.board.apply(changes)
    books.usage.apply(changes)


def _waiting(
    now: datetime, pending: int, users: int, rng: random.Random
) -> Iterator[Workload | Container]:
    specs = [
        workload_from_options(
            {"image": "busybox", "gpus": str(gpus), "time": limit, "nice": nice},
            default_name="x",
        ).spec
        for gpus in (1, 2, 4, 8)
        for limit in ("1h", "12h", "2d")
        for nice in ("0", "100")
    ]
    texts = [(canonical_json(spec), spec_digest(spec)) for spec in specs]
    for key in range(1, pending + 1):
        text, digest = rng.choice(texts)
        name = f"u{rng.randrange(users)}"
        wait = timedelta(seconds=rng.uniform(0, WAIT_SECONDS_MAX))
        yield Workload(
            workload_id=WorkloadId(key),
            zone=ZONE,
            workspace=name,
            name=f"w{key}",
            submitter=Submitter(user=name, uid=2000, gid=2000),
            spec_json=text,
            spec_digest=digest,
            version=1,
            replicas=1,
            submission_key=None,
            submitted_at=now - wait,
        )
        yield Container(
            container_id=ContainerId(key),
            workload_id=WorkloadId(key),
            replica=1,
            state=State.QUEUED,
            rev=1,
            version=1,
            attempt=0,
            queued_at=now - wait,
        )


if __name__ == "__main__":
    sys.exit(main())
