"""One round: submit all the while, let a fault happen, heal, wait until quiet, judge.

What happens when follows the seed; what the machine makes of it does not. Never decides
what is wrong: tests/faults/judge.py does.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random

from tests.faults.ground import Ground
from tests.faults.judge import Evidence, Job, Violation, judge
from tests.faults.table import FAULTS, Fault

BEFORE_SECONDS = 3.0
AFTER_SECONDS = 2.0
PAUSE_SECONDS = 0.8
QUIET_SECONDS = 150.0
JOB_SECONDS = (1, 1, 2, 2, 3, 5, 8, 20)
_SCRIPT = """\
say() {{
    echo "NONCE $DORA_WORKLOAD_ID $DORA_REPLICA $DORA_ATTEMPT $1" | tee -a /nonces/said
}}
say start; sleep {seconds}; say end; exit {code}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What came of one round."""

    fault: str
    node: str
    seconds: float
    jobs: int
    violations: tuple[Violation, ...]


class Submitter:
    """Submits short jobs from its own thread; keeps those that were acknowledged."""

    def __init__(
        self, ground: Ground, prefix: str, chance: Random, lengths: tuple[int, ...]
    ) -> None:
        self.jobs: list[Job] = []
        self._lengths = lengths
        self._ground = ground
        self._prefix = prefix
        self._chance = chance
        self._over = threading.Event()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Submit as long as the block lasts, and end what was begun."""
        thread = threading.Thread(target=self._go)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()

    def _go(self) -> None:
        number = 0
        while not self._over.is_set():
            number += 1
            self._submit(f"{self._prefix}-{number}")
            self._over.wait(PAUSE_SECONDS)

    def _submit(self, name: str) -> None:
        chance = self._chance
        code = chance.choice((0, 0, 0, 3, 137))
        replicas = chance.choice((1, 1, 1, 2))
        seconds = chance.choice(self._lengths)
        words = ["--gpus", "1"] if chance.random() < 0.4 else []
        done = self._ground.site.daemon.run(
            *("dsub", "--parsable", "--name", name, "-c", "50m", "-m", "16M"),
            *("--replicas", str(replicas), *words, "-i", "busybox", "--"),
            *("sh", "-c", _SCRIPT.format(seconds=seconds, code=code)),
        )
        if done.returncode == 0:
            ref = int(done.stdout)
            self.jobs.append(Job(ref=ref, name=name, code=code, replicas=replicas))


def play(
    ground: Ground,
    fault: Fault,
    prefix: str,
    chance: Random,
    lengths: tuple[int, ...] = JOB_SECONDS,
) -> Verdict:
    """Play one round with this fault; jobs have names with `prefix` and these seconds.

    Never raises for what went wrong: the verdict says it.
    """
    node = chance.choice(sorted(ground.cluster.nodes))
    seconds = fault.duration(chance)
    submitter = Submitter(ground, prefix, Random(chance.random()), lengths)
    with submitter.running():
        time.sleep(BEFORE_SECONDS)
        with fault.block(ground, node):
            time.sleep(seconds)
        time.sleep(AFTER_SECONDS)
    jobs = tuple(submitter.jobs)
    ground.wait_quiet([job.ref for job in jobs], QUIET_SECONDS)
    touched = frozenset({node} if fault.touches_node else ())
    found = judge(_gathered(ground, jobs, f"{prefix}-", touched))
    return Verdict(
        fault=fault.name,
        node=node if fault.touches_node else "",
        seconds=seconds,
        jobs=len(jobs),
        violations=tuple(found),
    )


def _gathered(
    ground: Ground, jobs: tuple[Job, ...], prefix: str, touched: frozenset[str]
) -> Evidence:
    records = {}
    for job in jobs:
        status, record = ground.site.request("GET", f"/v1/workloads/{job.ref}")
        if status == 200:
            records[job.ref] = record
    names = (row["name"] for row in ground.site.daemon.rows())
    return Evidence(
        jobs=jobs,
        records=records,
        names=tuple(name for name in names if name.startswith(prefix)),
        nonces=ground.nonces(),
        touched=touched,
        nodes=tuple(ground.site.daemon.nodes()),
        left=ground.left(),
        foreign_touched=ground.foreign_touched(),
        health=ground.health(),
    )


def faults_in_order(count: int, chance: Random) -> Iterator[Fault]:
    """So many faults: each once in random order, then each again."""
    deck: list[Fault] = []
    for _ in range(count):
        if not deck:
            deck = chance.sample(FAULTS, len(FAULTS))
        yield deck.pop()
