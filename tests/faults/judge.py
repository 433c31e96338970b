"""What is wrong with a round: told from records alone.

Pure: never asks the daemon, Docker or a clock; tests/faults/rounds.py gathers.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

KINDS = (
    "lost",
    "run twice",
    "wrong outcome",
    "GPU held",
    "left behind",
    "foreign touched",
    "node not ready",
    "thread dead",
)


Run = tuple[int, int]
"""A replica and its attempt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """One thing that must not be: which of KINDS, and a sentence with the values."""

    kind: str
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What was asked for, and acknowledged with an id."""

    ref: int
    name: str
    code: int
    replicas: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Nonce:
    """One line that a job's own process wrote."""

    ref: int
    replica: int
    attempt: int
    what: str

    @classmethod
    def parse(cls, line: str) -> "Nonce":
        """Read `NONCE workload replica attempt start|end`."""
        _, ref, replica, attempt, what = line.split()
        return cls(ref=int(ref), replica=int(replica), attempt=int(attempt), what=what)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """All that is known once a round is quiet, or was given up waiting for that."""

    jobs: tuple[Job, ...]
    records: Mapping[int, Mapping[str, Any]]
    """Workloads as the API tells them whole, by id; one that it denies is missing."""
    names: tuple[str, ...]
    """The names of all workloads of the round that the list has."""
    nonces: tuple[Nonce, ...]
    touched: frozenset[str]
    """Nodes that the fault was about."""
    nodes: tuple[Mapping[str, Any], ...]
    left: tuple[str, ...]
    """Containers of ours that are still on a node, in words."""
    foreign_touched: tuple[str, ...]
    """What became of containers that are not ours, in words."""
    health: Mapping[str, Any]


def judge(seen: Evidence) -> list[Violation]:
    """Everything that is wrong, in the order of KINDS."""
    found = [*_doubles(seen), *_nodes(seen), *_threads(seen.health)]
    for job in seen.jobs:
        record = seen.records.get(job.ref)
        if record is None:
            found.append(_lost(job, "the daemon does not know it"))
            continue
        said = [nonce for nonce in seen.nonces if nonce.ref == job.ref]
        found += _runs(job, said, _lost_runs(record, seen.touched))
        if record["state"] != "finished":
            found.append(_lost(job, f"it is still {record['state']}"))
            continue
        found += _outcome(job, record)
        found += _ends(job, record, said)
        found += _attempts(job, record, said, seen.touched)
    found += [Violation(kind="left behind", words=words) for words in seen.left]
    found += [
        Violation(kind="foreign touched", words=words) for words in seen.foreign_touched
    ]
    return sorted(found, key=lambda one: KINDS.index(one.kind))


def _lost(job: Job, words: str) -> Violation:
    return Violation(kind="lost", words=f"workload {job.ref} ({job.name}): {words}")


def _twice(words: str) -> Violation:
    return Violation(kind="run twice", words=words)


def _wrong(job: Job, words: str) -> Violation:
    return Violation(kind="wrong outcome", words=f"workload {job.ref}: {words}")


def _doubles(seen: Evidence) -> Iterable[Violation]:
    """One submission makes one workload, however often it was sent."""
    for name in sorted(set(seen.names)):
        if seen.names.count(name) > 1:
            yield _twice(f"{seen.names.count(name)} workloads are called {name}")


def _nodes(seen: Evidence) -> Iterable[Violation]:
    for row in seen.nodes:
        held = sum(gpu["held"] for gpu in row["gpus"])
        if held or row["containers"]:
            words = f"{row['name']}: {held} GPUs, {row['containers']} containers"
            yield Violation(kind="GPU held", words=words)
        if row["state"] != "READY":
            words = f"{row['name']} is {row['state']}: {row['reason']}"
            yield Violation(kind="node not ready", words=words)


def _threads(health: Mapping[str, Any]) -> Iterable[Violation]:
    if health.get("ok") is not True:
        yield Violation(kind="thread dead", words=f"/v1/health says {dict(health)}")


def _runs(job: Job, said: list[Nonce], lost: set[Run]) -> Iterable[Violation]:
    """No attempt starts twice, and nothing starts after a process came to its end.

    A process that ended with a code other than 0 while its node or its Docker went down
    may be run again: it may have ended so because of that.
    """
    starts = [(one.replica, one.attempt) for one in said if one.what == "start"]
    for replica, attempt in sorted(set(starts)):
        if starts.count((replica, attempt)) > 1:
            yield _twice(f"workload {job.ref}.{replica}: attempt {attempt} began twice")
    for end in (one for one in said if one.what == "end"):
        later = [run for run in starts if run > (end.replica, end.attempt)]
        if not any(replica == end.replica for replica, _ in later):
            continue
        if job.code == 0 or (end.replica, end.attempt) not in lost:
            yield _twice(
                f"workload {job.ref}.{end.replica}: attempt {end.attempt} came to its "
                f"end, with {job.code}, and another began"
            )


def _lost_runs(record: Mapping[str, Any], touched: frozenset[str]) -> set[Run]:
    """The runs that were lost with the node that the fault was about."""
    return {
        (run["replica"], run["attempt"])
        for run in record["attempts"]
        if run["outcome"] == "node_lost" and run["node"] in touched
    }


def _outcome(job: Job, record: Mapping[str, Any]) -> Iterable[Violation]:
    """The outcome is what the process's own exit code says."""
    outcome, code = record["outcome"], record["exit_code"]
    wanted = "failed" if job.code else "done"
    if outcome == "node_lost":
        # Given up after too many lost attempts; `_attempts` judges each of them.
        return
    if outcome != wanted or code != job.code:
        yield _wrong(
            job, f"{outcome} with {code}, though its process ends with {job.code}"
        )


def _ends(
    job: Job, record: Mapping[str, Any], said: list[Nonce]
) -> Iterable[Violation]:
    """What ended by itself said so once, from each replica."""
    if record["outcome"] not in ("done", "failed"):
        return
    for replica in range(1, job.replicas + 1):
        whole = [
            one.attempt
            for one in said
            if one.replica == replica
            and one.what == "end"
            and Nonce(ref=job.ref, replica=replica, attempt=one.attempt, what="start")
            in said
        ]
        if not whole:
            yield _wrong(
                job, f"{record['outcome']}, though replica {replica} never ended"
            )


def _attempts(
    job: Job, record: Mapping[str, Any], said: list[Nonce], touched: frozenset[str]
) -> Iterable[Violation]:
    """What had begun on a node that nobody touched is not lost."""
    for run in record["attempts"]:
        start = Nonce(
            ref=job.ref, replica=run["replica"], attempt=run["attempt"], what="start"
        )
        is_hit = run["node"] in touched or start not in said
        if run["outcome"] == "node_lost" and not is_hit:
            yield _wrong(
                job,
                f"attempt {run['attempt']} was lost on {run['node']}, which no fault "
                f"touched: {run['reason']}",
            )
