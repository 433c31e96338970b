"""Rounds as a table: kept over several calls, printed, and written for the reader.

Never has a date or the name of a machine in what it writes.
"""

import json
from collections import Counter
from pathlib import Path
from typing import TypedDict

from tests.faults.judge import KINDS
from tests.faults.rounds import Verdict
from tests.faults.table import FAULTS

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "reliability.md"
_HEAD = """\
# Reliability

A busy cluster under random faults, with real parts: three nodes with an sshd and a
dockerd of their own on one machine, one daemon with SQLite. Jobs of 1 to 20 s are
submitted all the while; some want a GPU, some are two replicas, some end with a code
other than 0. Each round a fault happens for a random while and is healed. Once all is
quiet, the API, Docker on every node and what the jobs' processes wrote are compared.

    python -m tests.faults --rounds 15 --seed 1
    python -m tests.faults --rounds 15 --seed 2 --results FILE --report
"""
_COLUMNS = """\
| column | counts rounds in which |
|---|---|
| right | nothing was wrong |
| lost | an acknowledged workload was unknown, or did not end |
| run twice | an attempt began twice, one began after another had come to its end \
(but see below), or a submission made two workloads |
| wrong outcome | the outcome or exit code was not that of the process, or a run was \
lost on a node that the fault did not touch |
| GPU held | a node counted GPUs or containers as used when nothing ran |
| left behind | a container of an ended attempt was still on a node |
| foreign touched | a container that is not the daemon's had gone or did not run |
| node not ready | a node was not READY again |
| thread dead | `/v1/health` was not ok |
"""
_LIMITS = """\
A process that ends with a code other than 0 just as its node or its Docker goes down
may be run again, since it may have ended so because of that; this counts as right. One
that ended with 0 may not. A node that was put aside for refusing starts stays so until
a start there succeeds or `dnode uncordon`: where no job comes by, it is not ready.

## What this leaves out

The nodes share one kernel, one clock and one disk; GPUs are told by a stub of NVML.
One fault happens at a time. A power cut of a node ends its processes, but what they
wrote is not lost from its disk; none is made on the daemon's machine. PostgreSQL,
volumes, images that must be pulled, `restartPolicy` Always, cancelling, credits,
preemption and reservations are not part of it. The seed decides which fault happens
where and for how long, and which jobs there are; the threads' order differs each time.
"""


class Result(TypedDict):
    """One round, as it is kept."""

    seed: int
    fault: str
    jobs: int
    violations: list[tuple[str, str]]


def result_of(seed: int, verdict: Verdict) -> Result:
    """What is kept of a round."""
    return {
        "seed": seed,
        "fault": verdict.fault,
        "jobs": verdict.jobs,
        "violations": [(one.kind, one.words) for one in verdict.violations],
    }


def add(path: Path, result: Result) -> None:
    """Append one round, as one line."""
    with path.open("a") as file:
        file.write(json.dumps(result) + "\n")


def read(path: Path) -> list[Result]:
    """All rounds that were kept there."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines()]


def table(rounds: list[Result]) -> str:
    """Fault by what went wrong, in rounds."""
    heads = ("fault", "rounds", "jobs", "right", *KINDS)
    lines = [_row(heads), "|---" + "|---:" * (len(heads) - 1) + "|"]
    for fault in FAULTS:
        of_fault = [one for one in rounds if one["fault"] == fault.name]
        if of_fault:
            lines.append(_row((fault.name, *_counts(of_fault))))
    lines.append(_row(("all", *_counts(rounds))))
    return "\n".join(lines)


def write(rounds: list[Result], page: Path = PAGE) -> None:
    """Write the page."""
    seeds = ", ".join(map(str, sorted({one["seed"] for one in rounds})))
    played = f"{len(rounds)} rounds were played, with the seeds {seeds}."
    parts = (_HEAD, f"{played}\n", f"{table(rounds)}\n", _COLUMNS, _LIMITS)
    page.write_text("\n".join(parts))


def _counts(rounds: list[Result]) -> tuple[int, ...]:
    wrong = Counter(
        kind for one in rounds for kind in {kind for kind, _ in one["violations"]}
    )
    right = sum(not one["violations"] for one in rounds)
    jobs = sum(one["jobs"] for one in rounds)
    return (len(rounds), jobs, right, *(wrong[kind] for kind in KINDS))


def _row(cells: tuple[object, ...]) -> str:
    return f"| {' | '.join(map(str, cells))} |"
