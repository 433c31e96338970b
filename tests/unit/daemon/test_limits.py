"""How much one user, or all below an account, may hold at once."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from dorabatch.daemon.cycle.assembly import gates_of
from dorabatch.daemon.cycle.ceilings import Ceiling
from dorabatch.daemon.cycle.gates.chain import GateChain, GateScene, GateVerdict
from dorabatch.daemon.cycle.gates.limit_gate import LIMIT, LimitGate
from dorabatch.daemon.cycle.waiting_reason import waiting_reason
from dorabatch.errors import UserError
from dorabatch.fairshare.turn.use_limits import UNLIMITED
from dorabatch.queue import transitions as to
from dorabatch.queue.records import Submitter
from dorabatch.queue.states import AfterStop, Outcome, State
from tests.checkers import broken_laws, over_limits
from tests.makers import ALICE, BOB, RTX, facts, gpus, node_settings
from tests.unit.daemon.conftest import Parts
from tests.unit.daemon.test_share_commands import Shell, settings, shell
from tests.unit.daemon.test_shares import add, say
from tests.unit.daemon.test_whatif import HOUR, Site, node

__all__ = ["settings", "shell"]
HAS = facts(gpus=gpus(8), cores=tuple(range(64)), memory_mib=1 << 17)
CAROL = Submitter(user="carol", uid=2003, gid=2003)


def add_node(parts: Parts) -> None:
    """One node with eight GPUs that answers."""
    parts.books.fleet.put(node_settings("n1"))
    parts.books.fleet.seen("n1", parts.clock.now(), HAS)


def asks(parts: Parts, gpus: int, who: Submitter = ALICE, **options: Any) -> int:
    """A workload with one container."""
    number = len(parts.books.board.workloads)
    given = {"gpus": str(gpus)} if gpus else {}
    given = {"cpus": 1, "memory": "1Gi", **given, **options}
    done = parts.submit(f"w{number}", submitter=who, workspace=who.user, options=given)
    return done.workload_id


def turn(parts: Parts, **limits: int) -> None:
    """A cycle, after which no limit may be exceeded."""
    add_node(parts)
    parts.clock.advance(1)
    parts.cycle.run()
    board = parts.books.board
    containers = list(board.containers.values())
    assert broken_laws(containers, {"n1": HAS}) == []
    users = {key: one.submitter.user for key, one in board.workloads.items()}
    found = parts.books.policy.settings.limits
    assert over_limits(containers, users, found, parts.books.policy.accounts_of) == []


def starts(parts: Parts, *ids: int) -> list[bool]:
    """Which of these hold a place."""
    return [parts.container(one).state is not State.QUEUED for one in ids]


def why(parts: Parts, workload_id: int) -> str:
    """Why it waits, which has to be a limit."""
    found = waiting_reason(parts.books.latest.last, parts.container(workload_id))
    assert found.code == LIMIT, found
    return found.sentence


def gone(parts: Parts, workload_id: int) -> None:
    """What runs is over."""
    one = parts.container(workload_id)
    one = parts.change(
        one, lambda c: to.stopping(c, AfterStop.FINISH, Outcome.DONE, "")
    )
    parts.change(one, lambda c: to.finished(c, parts.clock.now()))


# -- the gate alone ----------------------------------------------------------


def verdict(parts: Parts) -> list[str]:
    """What the gate says of all that waits, by container; empty: it passes."""
    snapshot = parts.cycle.planner.snapshot()
    rows = np.argsort(snapshot.pending.key)
    scene = GateScene(snapshot=snapshot, rows=rows, now=parts.clock.now())
    gate = LimitGate(policy=parts.books.policy, latest=parts.books.latest)
    found = gate(scene)
    return ["" if one < 0 else found.sentences[one] for one in found.why.tolist()]


def test_without_limits_everything_passes(parts: Parts) -> None:
    for count in (4, 0, 8):
        asks(parts, count)
    assert verdict(parts) == ["", "", ""]


def test_the_gate_is_asked_last_for_what_credit_keeps_may_not_ask(
    parts: Parts,
) -> None:
    names = [type(one).__name__ for one in gates_of(parts.books).gates]
    assert names.index("LimitGate") > names.index("CreditGate")


def test_what_passes_ahead_counts_and_what_does_not_is_passed_over(
    parts: Parts,
) -> None:
    say(parts, limits__gpus_per_user="4")
    for count in (3, 2, 0, 1, 1, 8):
        asks(parts, count)
    asks(parts, 4, BOB)
    assert verdict(parts) == [
        "",
        "alice's 3 of 4 GPUs are in use or asked for ahead of it, and it asks for 2",
        "",
        "",
        "alice's 4 of 4 GPUs are in use or asked for ahead of it",
        "asks for 8 GPUs, and 4 at once are allowed for alice",
        "",
    ]


def test_shares_of_a_gpu_count_as_parts(parts: Parts) -> None:
    say(parts, limits__gpus_per_user="1")
    for part in ("0.5", "0.3", "0.3", "0.2"):
        asks(parts, 0, gpu_share=part)
    third = "alice's 0.8 of 1 GPUs are in use or asked for ahead of it, and it asks for"
    assert verdict(parts) == ["", "", f"{third} 0.3", ""]


def test_containers_are_counted_whatever_they_ask_for(parts: Parts) -> None:
    say(parts, limits__running_per_user="2")
    for count in (1, 0, 0):
        asks(parts, count)
    assert verdict(parts) == [
        *("", ""),
        "alice's 2 of 2 containers are running or asked for ahead of it",
    ]
    say(parts, limits__running_per_user="0")
    told = "asks for 1 container, and 0 at once are allowed for alice"
    assert verdict(parts) == [told] * 3


def test_every_account_above_counts(parts: Parts) -> None:
    add(parts, "uni")
    add(parts, "lab", parent="uni")
    for user, parent in (("alice", "lab"), ("bob", "lab"), ("carol", "uni")):
        add(parts, user, parent=parent, is_user=True)
    say(parts, limits__gpus__lab="4", limits__gpus__uni="6")
    for count, who in ((3, ALICE), (2, BOB), (1, BOB), (3, CAROL), (2, CAROL)):
        asks(parts, count, who)
    lab, uni = "account lab's 3 of 4", "account uni's 4 of 6"
    rest = "GPUs are in use or asked for ahead of it, and it asks for"
    assert verdict(parts) == ["", f"{lab} {rest} 2", "", f"{uni} {rest} 3", ""]


def test_a_user_outside_the_tree_is_below_no_account(parts: Parts) -> None:
    add(parts, "lab")
    add(parts, "bob", parent="lab", is_user=True)
    say(parts, limits__gpus__lab="0")
    asks(parts, 1)
    asks(parts, 1, BOB)
    told = "asks for 1 GPU, and 0 at once are allowed for account lab"
    assert verdict(parts) == ["", told]


@pytest.mark.parametrize(
    ("is_gpus", "asked", "used", "held", "words"),
    [
        (True, 1000, 8000, 8000, "ana's 8 of 8 GPUs are in use"),
        (True, 500, 7750, 0, "ana's 7.75 of 8 GPUs are in use or asked for ahead of it"
         ", and it asks for 0.5"),
        (True, 1000, 9000, 9000, "ana has 9 GPUs in use, and 8 at once are allowed for "
         "ana"),
        (False, 1, 8, 8, "ana's 8 of 8 containers are running"),
        (False, 1, 9, 9, "ana has 9 containers running, and 8 at once are allowed for "
         "ana"),
    ],
)  # fmt: skip
def test_a_sentence_has_the_numbers(
    is_gpus: bool, asked: int, used: int, held: int, words: str
) -> None:
    one = Ceiling(0, is_gpus, "ana", 8000 if is_gpus else 8)
    assert one.sentence(asked, used=used, held=held) == words


# -- through cycles ----------------------------------------------------------


def test_a_burst_stays_below_and_the_next_starts_when_one_ends(parts: Parts) -> None:
    say(parts, limits__gpus_per_user="2")
    ids = [asks(parts, 1) for _ in range(5)]
    bob = asks(parts, 1, BOB)
    turn(parts)
    assert starts(parts, *ids, bob) == [True, True, False, False, False, True]
    turn(parts)
    assert starts(parts, *ids) == [True, True, False, False, False]
    assert why(parts, ids[2]) == "alice's 2 of 2 GPUs are in use"
    # What is being stopped is held until it is gone.
    one = parts.container(ids[0])
    parts.change(one, lambda c: to.stopping(c, AfterStop.FINISH, Outcome.DONE, ""))
    turn(parts)
    assert starts(parts, ids[2]) == [False]
    one = parts.container(ids[0])
    parts.change(one, lambda c: to.finished(c, parts.clock.now()))
    turn(parts)
    assert starts(parts, *ids[1:]) == [True, True, False, False]


def test_replicas_count_one_by_one(parts: Parts) -> None:
    say(parts, limits__running_per_user="3")
    key = parts.submit("a", replicas=5, options={"cpus": 1}).workload_id
    turn(parts)
    held = [one.hold for one in parts.books.board.containers_of(key)]
    assert sum(one is not None for one in held) == 3


def test_what_is_queued_again_counts_no_more(parts: Parts) -> None:
    say(parts, limits__gpus_per_user="1")
    first, second = asks(parts, 1), asks(parts, 1)
    turn(parts)
    parts.change(
        parts.container(first),
        lambda c: to.stopping(c, AfterStop.REQUEUE, None, "its node is lost"),
    )
    turn(parts)
    assert starts(parts, second) == [False]
    parts.change(parts.container(first), lambda c: to.requeued(c, parts.clock.now()))
    turn(parts)
    assert sorted(starts(parts, first, second)) == [False, True]


def test_a_lowered_limit_stops_nothing_and_lets_nothing_more_start(
    parts: Parts,
) -> None:
    ids = [asks(parts, 2) for _ in range(3)]
    turn(parts)
    cpu, more = asks(parts, 0), asks(parts, 1)
    say(parts, limits__gpus_per_user="4")
    parts.clock.advance(1)
    parts.cycle.run()
    assert starts(parts, *ids, cpu, more) == [True] * 4 + [False]
    assert why(parts, more) == (
        "alice has 6 GPUs in use, and 4 at once are allowed for alice"
    )
    say(parts, limits__gpus_per_user="none")
    turn(parts)
    assert starts(parts, more) == [True]


def test_a_limit_lowered_after_the_plan_counts(parts: Parts) -> None:
    add_node(parts)
    ids = [asks(parts, 1) for _ in range(4)]
    planner = parts.cycle.planner
    scene = planner.scene(planner.snapshot(), parts.clock.now())
    decision = planner.decide(scene)
    assert len(decision.plan.placements) == 4
    say(parts, limits__gpus_per_user="3", limits__running_per_user="2")
    committed = parts.cycle.hands.carry_out(scene, decision)
    assert (len(committed.placed), committed.stale) == (2, 2)
    turn(parts)
    assert sum(starts(parts, *ids)) == 2


def test_a_user_moved_below_a_limited_account_after_the_plan_counts(
    parts: Parts,
) -> None:
    add_node(parts)
    add(parts, "lab")
    say(parts, limits__gpus__lab="1")
    for _ in range(3):
        asks(parts, 1)
    planner = parts.cycle.planner
    scene = planner.scene(planner.snapshot(), parts.clock.now())
    decision = planner.decide(scene)
    add(parts, "alice", parent="lab", is_user=True)
    committed = parts.cycle.hands.carry_out(scene, decision)
    assert (len(committed.placed), committed.stale) == (1, 2)


def test_what_no_node_can_hold_keeps_nobody_waiting(parts: Parts) -> None:
    say(parts, limits__gpus_per_user="2")
    never = asks(parts, 2, gpu_models=[RTX])
    small = asks(parts, 2)
    turn(parts)
    turn(parts)
    assert starts(parts, never, small) == [False, True]
    last = parts.books.latest.last
    assert waiting_reason(last, parts.container(never)).code != LIMIT
    # Once a node could hold it, it is counted again before it starts.
    parts.books.fleet.put(node_settings("n2"))
    two = facts(hostname="n2", boot_id="b2", gpus=gpus(4, RTX, "GPU-R"))
    parts.books.fleet.seen("n2", parts.clock.now(), two)
    parts.cycle.run()
    parts.cycle.run()
    assert starts(parts, never) == [False]
    assert why(parts, never) == "alice's 2 of 2 GPUs are in use"


def test_trials_in_the_lane_count(parts: Parts) -> None:
    say(parts, lane__fraction="0.5", limits__gpus_per_user="5")
    ids = [asks(parts, 1, restartable=True, time="1h") for _ in range(8)]
    turn(parts)
    turn(parts)
    held = [parts.container(one) for one in ids]
    assert sum(one.hold is not None for one in held) == 5
    assert any(one.trial_seconds for one in held)


def test_a_new_daemon_holds_the_limit(parts: Parts) -> None:
    say(parts, limits__gpus_per_user="2")
    ids = [asks(parts, 1) for _ in range(4)]
    turn(parts)
    say(parts, limits__gpus_per_user="3")
    again = parts.again()
    turn(again)
    assert sum(starts(again, *ids)) == 3


def test_what_credit_keeps_uses_up_no_limit_of_others(parts: Parts) -> None:
    add(parts, "lab")
    for user in ("alice", "bob"):
        add(parts, user, parent="lab", is_user=True)
    say(parts, limits__gpus__lab="1")
    poor, rich = asks(parts, 1), asks(parts, 1, BOB)

    def credit(scene: GateScene) -> GateVerdict:
        claims = scene.pending.claim[scene.rows].tolist()
        poor = [scene.pending.claims[one].user == "alice" for one in claims]
        return GateVerdict.waiting("Poor", np.array(poor, dtype=bool), "no credit")

    *before, limits = gates_of(parts.books).gates
    cycle = parts.cycle
    look = replace(cycle.planner.look, gates=GateChain((*before, credit, limits)))
    add_node(parts)
    replace(cycle, planner=replace(cycle.planner, look=look)).run()
    assert starts(parts, poor, rich) == [False, True]


def test_a_whatif_plays_limits() -> None:
    site = Site(node("n1"))
    for _ in range(3):
        site.add("ann", 0, HOUR, gpus="1")
    assert site.starts() == [0, 0, 0]
    limit = {"limits.gpus_per_user": "1"}
    assert sorted(site.starts(**limit)) == [0, HOUR, 2 * HOUR]


# -- how it is told ----------------------------------------------------------


def test_dstat_says_the_limit_and_promises_no_start(parts: Parts) -> None:
    say(parts, limits__gpus_per_user="1")
    asks(parts, 1)
    key = asks(parts, 1)
    turn(parts)
    workload = parts.books.board.workloads[key]
    record = parts.views.records.record(workload)
    assert record["reason_code"] == LIMIT
    told = parts.views.why.record(workload)
    sentence = "alice's 1 of 1 GPUs are in use or asked for ahead of it"
    assert (told["reason"], told["sentence"]) == (LIMIT, sentence)
    assert told["remedy"] == ""
    said = parts.views.why.text(workload, has_placement=False)
    assert f"waits: {sentence}\n" in said
    assert "start: no forecast while it waits for a limit of use" in said


def test_limits_are_set_shown_and_refused_by_command(shell: Shell) -> None:
    words = ("set", "limits.gpus_per_user=8", "limits.running_per_user=20")
    assert shell.run("dshare", *words) == (
        "limits.gpus_per_user: none -> 8\nlimits.running_per_user: none -> 20\n"
    )
    said = shell.run("dshare", "set", "limits.gpus.lab=4", status=2)
    assert "limits.gpus.lab: there is no account 'lab' (known: none)" in said
    shell.run("dshare", "account", "add", "lab")
    assert shell.run("dshare", "set", "limits.gpus.lab=4", "--reason", "term") == (
        "limits.gpus.lab: none -> 4\n"
    )
    table = [line.split() for line in shell.run("dshare", "settings").splitlines()]
    assert ["limits.gpus.lab", "4", "set"] in [line[:3] for line in table]
    assert ["limits.gpus_per_user", "8", "set"] in [line[:3] for line in table]
    (newest, *_) = shell.rows("dshare", "log", "--limit", "1")
    assert (newest["key"], newest["new"], newest["reason"]) == (
        "limits.gpus.lab", "4", "term",
    )  # fmt: skip
    for bad in ("-1", "1.5", "many", ""):
        said = shell.run("dshare", "set", f"limits.gpus_per_user={bad}", status=2)
        assert len(said.splitlines()) == 1 and "or none, for no limit" in said
    shell.run("dshare", "set", "limits.gpus_per_user=1")
    first, second = asks(shell.parts, 1), asks(shell.parts, 1)
    turn(shell.parts)
    assert starts(shell.parts, first, second) == [True, False]
    rows = {row["id"]: row for row in shell.rows("dstat")}
    assert rows[second]["reason_code"] == LIMIT
    assert "alice's 1 of 1 GPUs" in shell.run("dstat")
    assert "alice's 1 of 1 GPUs" in shell.run("dstat", "--why", str(second))
    assert shell.run("dshare", "unset", "limits.gpus_per_user") == (
        "limits.gpus_per_user: 1 -> none\n"
    )


def test_an_account_in_a_limit_has_to_be_there(parts: Parts) -> None:
    add(parts, "lab")
    add(parts, "bob", parent="lab", is_user=True)
    with pytest.raises(UserError, match=r"no account 'bob' \(known: lab\)"):
        say(parts, limits__gpus__bob="1")
    assert parts.books.policy.settings.limits == UNLIMITED
