"""The judge tells each kind of wrong that is put into good records, and only that.

Never needs a cluster: all records are made up.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.faults import report
from tests.faults.judge import KINDS, Evidence, Job, Nonce, judge
from tests.faults.rounds import Verdict

Change = Callable[[Evidence], Evidence]


def run(attempt: int, node: str, outcome: str) -> dict[str, Any]:
    """One attempt as the API tells it."""
    return {
        "replica": 1,
        "attempt": attempt,
        "node": node,
        "outcome": outcome,
        "reason": "no reason",
    }


def ended(outcome: str, code: int | None, *runs: dict[str, Any]) -> dict[str, Any]:
    """A workload that is over, as the API tells it."""
    return {
        "state": "finished",
        "outcome": outcome,
        "exit_code": code,
        "attempts": list(runs),
    }


def nonces(*lines: str) -> tuple[Nonce, ...]:
    return tuple(Nonce.parse(f"NONCE {line}") for line in lines)


def good() -> Evidence:
    """Workload 1 lost an attempt on the node that was touched; 2 failed by itself."""
    return Evidence(
        jobs=(
            Job(ref=1, name="a", code=0, replicas=1),
            Job(ref=2, name="b", code=3, replicas=1),
        ),
        records={
            1: ended("done", 0, run(1, "f1", "node_lost"), run(2, "f2", "done")),
            2: ended("failed", 3, run(1, "f3", "failed")),
        },
        names=("a", "b"),
        nonces=nonces(
            *("1 1 1 start", "1 1 2 start", "1 1 2 end"),
            *("2 1 1 start", "2 1 1 end"),
        ),
        touched=frozenset({"f1"}),
        nodes=(node("f1"), node("f2"), node("f3")),
        left=(),
        foreign_touched=(),
        health={"ok": True},
    )


def node(name: str, *, state: str = "READY", held: int = 0) -> dict[str, Any]:
    return {
        "name": name,
        "state": state,
        "reason": "",
        "gpus": [{"held": held}],
        "containers": 0,
    }


def record(ref: int, changed: dict[str, Any]) -> Change:
    """Tell a workload otherwise."""
    return lambda seen: replace(seen, records={**seen.records, ref: changed})


def said(*lines: str) -> Change:
    """Let jobs have said more."""
    return lambda seen: replace(seen, nonces=seen.nonces + nonces(*lines))


def unsaid(line: str) -> Change:
    """Let a job not have said this."""
    gone = nonces(line)
    return lambda seen: replace(
        seen, nonces=tuple(one for one in seen.nonces if one not in gone)
    )


def told(**changes: Any) -> Change:
    """Let something else be seen."""
    return lambda seen: replace(seen, **changes)


PLANTED: dict[str, tuple[str, Change]] = {
    "unknown": ("lost", lambda seen: replace(seen, records={2: seen.records[2]})),
    "never ends": ("lost", record(1, {"state": "queued", "attempts": []})),
    "one attempt twice": ("run twice", said("2 1 1 start")),
    "again after its end": ("run twice", said("1 1 3 start", "1 1 3 end")),
    "again after a failure": ("run twice", said("2 1 2 start")),
    "submitted twice": ("run twice", told(names=("a", "b", "b"))),
    "failed with 0": ("wrong outcome", record(1, ended("failed", 0))),
    "done with 3": ("wrong outcome", record(2, ended("done", 0))),
    "another code": ("wrong outcome", record(2, ended("failed", 137))),
    "cancelled by nobody": ("wrong outcome", record(2, ended("cancelled", None))),
    "done without an end": ("wrong outcome", unsaid("1 1 2 end")),
    "lost on another node": ("wrong outcome", told(touched=frozenset({"f2"}))),
    "a GPU is held": ("GPU held", told(nodes=(node("f1", held=1),))),
    "a node is away": (
        "node not ready",
        told(nodes=(node("f1", state="UNREACHABLE"),)),
    ),
    "a container is left": ("left behind", told(left=("f1: dora-1",))),
    "a foreign one is gone": ("foreign touched", told(foreign_touched=("f1: []",))),
    "a thread is dead": (
        "thread dead",
        told(health={"ok": False, "threads_dead": ["mail"]}),
    ),
}


def test_good_records_have_nothing_wrong() -> None:
    assert judge(good()) == []


@pytest.mark.parametrize("name", PLANTED)
def test_what_is_planted_is_told(name: str) -> None:
    kind, change = PLANTED[name]
    assert [one.kind for one in judge(change(good()))] == [kind]


def test_each_kind_is_planted() -> None:
    assert {kind for kind, _ in PLANTED.values()} == set(KINDS)


def test_a_refused_start_may_be_on_any_node() -> None:
    seen = unsaid("1 1 1 start")(replace(good(), touched=frozenset()))
    assert judge(seen) == []


@pytest.mark.parametrize(("code", "kinds"), [(3, []), (0, ["run twice"])])
def test_only_what_did_not_end_well_may_be_lost_and_run_again(
    code: int, kinds: list[str]
) -> None:
    outcome = "failed" if code else "done"
    again = ended(outcome, code, run(1, "f1", "node_lost"), run(2, "f2", outcome))
    seen = said("2 1 2 start", "2 1 2 end")(record(2, again)(good()))
    jobs = (seen.jobs[0], replace(seen.jobs[1], code=code))
    assert [one.kind for one in judge(replace(seen, jobs=jobs))] == kinds
    elsewhere = replace(seen, jobs=jobs, touched=frozenset({"f3"}))
    assert "run twice" in [one.kind for one in judge(elsewhere)]


def test_two_replicas_end_both() -> None:
    two = Job(ref=2, name="b", code=3, replicas=2)
    seen = replace(good(), jobs=(two,))
    assert [one.words for one in judge(seen)] == [
        "workload 2: failed, though replica 2 never ended"
    ]


@pytest.mark.parametrize("line", ["", "NONCE 1 1 end", "NONCE a 1 1 end"])
def test_a_line_that_is_no_nonce_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Nonce.parse(line)


def test_rounds_are_joined_over_several_calls(tmp_path: Path) -> None:
    place, page = tmp_path / "results", tmp_path / "page.md"
    violations = tuple(judge(PLANTED["a GPU is held"][1](good())))
    for seed, wrong in ((7, ()), (8, violations)):
        verdict = Verdict(
            fault="slow SSH", node="f1", seconds=2.0, jobs=5, violations=wrong
        )
        report.add(place, report.result_of(seed, verdict))
    report.write(report.read(place), page)
    text = page.read_text()
    assert "| slow SSH | 2 | 10 | 1 | 0 | 0 | 0 | 1 | 0 | 0 | 0 | 0 |" in text
    assert "2 rounds were played, with the seeds 7, 8." in text
    assert report.read(tmp_path / "none") == []
