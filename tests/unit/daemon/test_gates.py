"""The gates between waiting and asking for a place, one after the other."""

import logging
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from dorabatch.daemon.cycle.assembly import gates_of
from dorabatch.daemon.cycle.gates.chain import (
    GATE_FAILED,
    PASSES,
    Gate,
    GateChain,
    GateScene,
    GateVerdict,
)
from dorabatch.daemon.cycle.waiting_reason import waiting_reason
from dorabatch.daemon.state.wait_reason import WaitReason
from dorabatch.queue import transitions as to
from dorabatch.queue.records import Container, ContainerId, StartHold
from dorabatch.queue.states import AfterStop, State
from tests.makers import facts, later, node_settings
from tests.unit.daemon.conftest import Parts


def add_node(parts: Parts) -> None:
    """One node with four GPUs that answers."""
    parts.books.fleet.put(node_settings("n1"))
    parts.books.fleet.seen("n1", parts.clock.now(), facts())


def scene_of(parts: Parts) -> GateScene:
    """Everything that waits, by container."""
    snapshot = parts.cycle.planner.snapshot()
    rows = np.argsort(snapshot.pending.key)
    return GateScene(snapshot=snapshot, rows=rows, now=parts.clock.now())


def keeps(code: str, *keys: int) -> Gate:
    """A gate that keeps some containers waiting."""

    def gate(scene: GateScene) -> GateVerdict:
        rows = np.isin(scene.pending.key[scene.rows], keys)
        return GateVerdict.waiting(code, rows, f"{code} says so")

    return gate


def asked_for(seen: list[list[int]]) -> Gate:
    """A gate that notes what it is asked about, and lets all pass."""

    def gate(scene: GateScene) -> GateVerdict:
        seen.append(scene.pending.key[scene.rows].tolist())
        return GateVerdict.waiting("None", np.zeros(len(scene), dtype=bool), "")

    return gate


def broken(scene: GateScene) -> GateVerdict:
    """A gate with a bug."""
    raise ZeroDivisionError("secret")


def asking(parts: Parts, *gates: Gate) -> tuple[list[int], dict[int, WaitReason]]:
    """(containers that pass, why the others wait)."""
    scene = scene_of(parts)
    found = GateChain(gates).asking(scene)
    return scene.pending.key[found.order].tolist(), dict(found.waits)


def code_of(parts: Parts, workload_id: int) -> str:
    one = parts.container(workload_id)
    return waiting_reason(parts.books.latest.last, one).code


# -- the chain ---------------------------------------------------------------


def test_the_gates_of_a_daemon_in_the_order_in_which_they_are_asked(
    parts: Parts,
) -> None:
    names = [getattr(gate, "__name__", type(gate).__name__) for gate in gates_of(
        parts.books
    ).gates]  # fmt: skip
    assert names == [
        *("ReadyGate", "held_gate", "DependencyGate", "CreditGate", "LimitGate")
    ]


def test_what_no_gate_keeps_asks_in_its_order(parts: Parts) -> None:
    parts.submit("a", replicas=3)
    assert asking(parts) == ([1, 2, 3], {})
    assert asking(parts, keeps("A", 2)) == ([1, 3], {2: WaitReason("A", "A says so")})


def test_the_first_gate_that_keeps_a_row_names_its_reason(parts: Parts) -> None:
    parts.submit("a", replicas=4)
    seen: list[list[int]] = []
    passed, waits = asking(parts, keeps("A", 1, 2), asked_for(seen), keeps("B", 2, 3))
    assert passed == [4]
    assert {key: why.code for key, why in waits.items()} == {1: "A", 2: "A", 3: "B"}
    # What waits already is not asked about again.
    assert seen == [[3, 4]]


def test_each_row_may_have_a_sentence_of_its_own(parts: Parts) -> None:
    parts.submit("a", replicas=3)

    def gate(scene: GateScene) -> GateVerdict:
        late = scene.pending.key[scene.rows] > 1
        return GateVerdict.waiting("Late", late, ["second", "third"])

    assert asking(parts, gate)[1] == {
        2: WaitReason("Late", "second"),
        3: WaitReason("Late", "third"),
    }


def test_what_is_free_asks_behind_what_is_paid(parts: Parts) -> None:
    parts.submit("a", replicas=4)

    def frees(scene: GateScene) -> GateVerdict:
        keys = scene.pending.key[scene.rows]
        why = np.where(keys == 3, 0, PASSES)
        return GateVerdict(
            code="Poor", sentences=("poor",), why=why, is_free=np.isin(keys, (1, 3))
        )

    scene = scene_of(parts)
    found = GateChain((frees, keeps("A", 2))).asking(scene)
    assert scene.pending.key[found.order].tolist() == [4, 1]
    assert found.paid == 1
    assert {key: why.code for key, why in found.waits.items()} == {3: "Poor", 2: "A"}


def test_a_gate_that_fails_lets_nothing_pass_and_the_others_go_on(
    parts: Parts, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("dorabatch"), "propagate", True)
    parts.submit("a", replicas=3)
    seen: list[list[int]] = []
    passed, waits = asking(
        parts, keeps("A", 1), broken, asked_for(seen), keeps("B", 2), broken
    )
    assert passed == []
    # The reason that a working gate names is the truer one.
    assert {key: why.code for key, why in waits.items()} == {
        1: "A",
        2: "B",
        3: GATE_FAILED,
    }
    assert seen == [[2, 3]]
    assert "the gate broken failed (ZeroDivisionError)" in waits[3].sentence
    assert "secret" not in waits[3].sentence
    failures = [one for one in caplog.records if one.getMessage() == "gate-failed"]
    # Several handlers may show the same record.
    assert len({id(one) for one in failures}) == 2


def test_a_verdict_that_does_not_fit_its_rows_is_a_failure(parts: Parts) -> None:
    parts.submit("a", replicas=2)

    def wrong(scene: GateScene) -> GateVerdict:
        return GateVerdict.waiting("Wrong", np.ones(5, dtype=bool), "x")

    passed, waits = asking(parts, wrong)
    assert passed == []
    assert {why.code for why in waits.values()} == {GATE_FAILED}


def with_gate(parts: Parts, gate: Gate) -> Any:
    """The daemon's cycle with one gate more: a function, and its line in the chain."""
    cycle = parts.cycle
    chain = GateChain((*gates_of(parts.books).gates, gate))
    look = replace(cycle.planner.look, gates=chain)
    return replace(cycle, planner=replace(cycle.planner, look=look))


def test_a_new_gate_is_one_function_and_one_line(parts: Parts) -> None:
    add_node(parts)
    held, free = (parts.submit(name).workload_id for name in "ab")
    (key,) = parts.books.board.replicas[held].values()
    result = with_gate(parts, keeps("Dependency", key)).run()
    assert result.placed == 1
    assert parts.states(held) == [State.QUEUED]
    assert parts.states(free) == [State.PLACED]
    workload = parts.books.board.workloads[held]
    told = parts.views.why.record(workload)
    assert (told["reason"], told["sentence"]) == ("Dependency", "Dependency says so")
    assert told["remedy"] == ""
    assert parts.views.records.record(workload)["reason_code"] == "Dependency"
    parts.cycle.run()
    assert parts.states(held) == [State.PLACED]


def test_a_cycle_with_a_broken_gate_ends_and_tells(parts: Parts) -> None:
    add_node(parts)
    key = parts.submit("a").workload_id
    assert with_gate(parts, broken).run().placed == 0
    assert code_of(parts, key) == GATE_FAILED
    assert parts.cycle.run().placed == 1


# -- ready -------------------------------------------------------------------


def failed_once(parts: Parts, workload_id: int, ready_at: Any) -> Container:
    """A container that could not be started and is tried again later."""
    placed = parts.place(parts.container(workload_id))
    starting = parts.change(placed, to.starting)
    stops = parts.change(
        starting,
        lambda c: to.with_failures(
            to.stopping(c, AfterStop.REQUEUE, None, "no such device"),
            fast=0,
            lost=1,
            ready_at=ready_at,
        ),
    )
    return parts.change(stops, lambda c: to.requeued(c, parts.clock.now()))


def test_a_back_off_is_told_with_its_end_and_its_cause(parts: Parts) -> None:
    add_node(parts)
    key = parts.submit("a").workload_id
    one = failed_once(parts, key, later(5))
    assert parts.cycle.run().placed == 0
    at = later(5).astimezone().strftime("%H:%M:%S")
    assert waiting_reason(parts.books.latest.last, one) == (
        "NotBefore",
        f"tries again at {at} after attempt 1: no such device",
    )
    parts.clock.advance(6)
    assert parts.cycle.run().placed == 1


# -- held --------------------------------------------------------------------


def test_a_held_submission_waits_and_says_who_holds_it(parts: Parts) -> None:
    add_node(parts)
    hold = StartHold(by="ana", reason="checks the data first")
    held = parts.submit("a", replicas=2, start_hold=hold).workload_id
    bare = parts.submit("b", start_hold=StartHold(by="root")).workload_id
    free = parts.submit("c").workload_id
    assert parts.cycle.run().placed == 1
    assert parts.states(free) == [State.PLACED]
    last = parts.books.latest.last
    said = [waiting_reason(last, parts.container(held, n)) for n in (1, 2)]
    assert said == [("Held", "held by ana: checks the data first")] * 2
    assert waiting_reason(last, parts.container(bare)) == ("Held", "held by root")
    told = parts.views.why.text(parts.books.board.workloads[held], has_placement=False)
    assert "held by ana: checks the data first" in told
    assert "start: no forecast while it is held" in told


def test_a_hold_that_comes_after_the_plan_counts(parts: Parts) -> None:
    add_node(parts)
    key = parts.submit("a").workload_id
    planner = parts.cycle.planner
    scene = planner.scene(planner.snapshot(), parts.clock.now())
    decision = planner.decide(scene)
    assert len(decision.plan.placements) == 1
    parts.daemon.intake.holds.hold("ana", parts.books.board.workloads[key])
    committed = parts.cycle.hands.carry_out(scene, decision)
    assert (committed.placed, committed.stale) == ((), 1)
    assert parts.states(key) == [State.QUEUED]


def test_keys_of_containers_are_no_rows(parts: Parts) -> None:
    """Rows are given away again: a key says nothing about its place."""
    first, *_ = (parts.submit(name).workload_id for name in "abc")
    parts.change(
        parts.container(first),
        lambda c: to.told_to_end(c, to.Outcome.CANCELLED, "x", parts.clock.now()),
    )
    passed, waits = asking(parts, keeps("A", 3))
    assert passed == [2]
    assert set(waits) == {ContainerId(3)}
