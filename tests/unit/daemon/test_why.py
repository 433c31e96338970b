"""`dstat --why`: one sentence, what would start it, nodes one by one, the choice."""

import pytest

from dorabatch.daemon.cycle.assembly import cycle_of
from dorabatch.daemon.cycle.plan_words import choice_sentence, choice_table
from dorabatch.daemon.state.node_view import NodeState
from dorabatch.queue import transitions as to
from dorabatch.queue.states import Outcome
from tests.makers import V100, facts, gpus, node_settings


class Quiet:
    """Keepers that launch nothing."""

    def launch(self, one):
        """Leave it placed."""


def fleet(parts, *names, **changes):
    for name in names:
        parts.books.fleet.put(node_settings(name, **changes))
        parts.books.fleet.seen(name, parts.clock.now(), facts(hostname=name))


def sub(parts, name, count, **more):
    options = {"gpus": str(count), "cpus": 1, "memory": "1Gi", "nice": -100 * count}
    found = parts.submit(name, options={**options, **more}).workload_id
    return parts.books.board.workloads[found]


def turn(parts):
    parts.clock.advance(0.01)
    cycle_of(parts.books, parts.effects, Quiet()).run()


def end(parts, workload):
    one = parts.change(parts.container(workload.workload_id), to.starting)
    one = parts.change(one, lambda c: to.running(c, "d1", parts.clock.now()))
    now = parts.clock.now()
    one = parts.change(one, lambda c: to.told_to_end(c, Outcome.DONE, "", now))
    parts.change(one, lambda c: to.finished(c, now))


def text(parts, workload, *, placement=False):
    return parts.views.why.text(workload, has_placement=placement)


def test_a_waiting_one_is_told_what_would_start_it(parts):
    fleet(parts, "n1", "n2")
    for name, count in (("a", 3), ("b", 2)):
        sub(parts, name, count)
        turn(parts)
    big = sub(parts, "big", 4)
    turn(parts)
    first = text(parts, big).splitlines()[0]
    assert first.startswith(f"alice/big (id {big.workload_id}) waits: needs 4 x ")
    assert "reserved on n" in first
    # "a" went to one node and "b" to the other.
    assert first.endswith("It starts when 2 GPUs more are free on n2")
    assert "  Gpus: refuses 2 nodes" in text(parts, big).splitlines()


def test_each_node_has_its_reason_and_numbers(parts):
    fleet(parts, "n1")
    parts.books.fleet.put(node_settings("n2", scheduling_disabled=True))
    bare = facts(hostname="n2", gpus=gpus(8, V100))
    parts.books.fleet.seen("n2", parts.clock.now(), bare)
    sub(parts, "a", 3)
    turn(parts)
    big = sub(parts, "big", 4)
    turn(parts)
    lines = text(parts, big, placement=True).splitlines()
    rows = [line.split() for line in lines if line.startswith("    n")]
    assert rows[0][:3] == ["n1", "Gpus", "1/4"]
    assert rows[1][:3] == ["n2", "SchedulingDisabled", "8/4"]
    record = parts.views.why.record(big)
    assert [one["reason"] for one in record["nodes"]] == ["Gpus", "SchedulingDisabled"]
    assert record["nodes"][0]["gpus_needed"] == 4
    assert record["remedy"] == (
        "n2, which has the room, is not used now (cordoned; dnode uncordon n2)"
    )


def test_a_node_that_is_down_is_named(parts):
    fleet(parts, "n1", "n2")
    down = "no answer for 30 s"
    parts.books.fleet.fault("n2", NodeState.UNREACHABLE, down)
    one = sub(parts, "one", 1, nodes=["n2"])
    turn(parts)
    first = text(parts, one).splitlines()[0]
    assert "n2, which has the room, is not used now (UNREACHABLE: no answer" in first
    assert down in text(parts, one, placement=True)


def test_a_delaying_one_is_told_that_a_time_limit_helps(parts):
    fleet(parts, "n1")
    first = sub(parts, "first", 3, time="1h")
    turn(parts)
    started = parts.change(parts.container(first.workload_id), to.starting)
    parts.change(started, lambda c: to.running(c, "d1", parts.clock.now()))
    large, small = sub(parts, "large", 4), sub(parts, "small", 1)
    turn(parts)
    record = parts.views.why.record(small)
    assert record["reason"] == "Reserved"
    assert record["sentence"].startswith(f"would delay workload {large.workload_id} (")
    assert record["remedy"] == (
        "It would start now on n1 with a time limit that ends before that"
    )
    assert record["nodes"][0]["reason"] == "Reserved"
    assert record["nodes"][0]["detail"] == record["sentence"]


def test_a_delaying_one_is_told_where_no_time_limit_helps(parts):
    fleet(parts, "n1")
    sub(parts, "first", 3)
    turn(parts)
    sub(parts, "large", 4)
    small = sub(parts, "small", 1, time="1m")
    turn(parts)
    record = parts.views.why.record(small)
    assert record["reason"] == "Reserved"
    assert record["remedy"].startswith("No time limit would let it start there now")


def test_only_the_first_is_told_that_it_starts(parts):
    fleet(parts, "n1")
    sub(parts, "a", 3)
    turn(parts)
    first, second = sub(parts, "b", 4), sub(parts, "c", 2)
    turn(parts)
    remedies = [parts.views.why.record(one)["remedy"] for one in (first, second)]
    assert remedies == [
        "It starts when 3 GPUs more are free on n1",
        "It has room when 1 GPU more is free on n1, if nothing ahead of it takes that "
        "first",
    ]


def test_several_amounts_are_one_list(parts):
    fleet(parts, "n1")
    sub(parts, "a", 3, cpus=7, memory="15Gi")
    turn(parts)
    big = sub(parts, "big", 2, cpus=2, memory="3Gi")
    turn(parts)
    assert parts.views.why.record(big)["remedy"] == (
        "It starts when 1 GPU, 1 CPU and 2048 MiB more are free on n1"
    )


@pytest.mark.mission("M43")
def test_a_taken_port_is_named_with_who_has_it(parts):
    """A port that is taken passes: the workload is not told that it can never run."""
    fleet(parts, "n1", "n2")
    holder = sub(parts, "holder", 1, nodes=["n1"], ports=["20000:80"])
    turn(parts)
    second = sub(parts, "second", 1, nodes=["n1"], ports=["20000:80"])
    turn(parts)
    record = parts.views.why.record(second)
    assert record["reason"] == "Port"
    assert record["counts"] == {"NodeList": 1, "Port": 1}
    assert "never" not in record["sentence"]
    taken = f"workload {holder.workload_id} publishes port 20000/tcp"
    assert record["remedy"] == f"It starts when that port is free on n1 ({taken})"
    reasons = [(one["reason"], one["detail"]) for one in record["nodes"]]
    assert reasons == [("Port", taken), ("NodeList", "")]
    end(parts, holder)
    turn(parts)
    assert parts.container(second.workload_id).hold.node == "n1"


def test_a_share_is_told_how_much_of_one_gpu_it_lacks(parts):
    fleet(parts, "n1")
    for name in "abcd":
        sub(parts, name, 1, gpu_share="0.6")
        turn(parts)
    share = sub(parts, "share", 1, gpu_share="0.5")
    turn(parts)
    record = parts.views.why.record(share)
    assert record["remedy"] == "It starts when 0.5 of one GPU (now 0.4) is free on n1"
    node = record["nodes"][0]
    assert (node["gpus_free"], node["gpus_needed"]) == (0.4, 0.5)
    assert "  0.4/0.5  " in text(parts, share, placement=True)


def test_a_placed_one_is_told_why_there(parts):
    fleet(parts, "n1", "n2")
    sub(parts, "a", 3)
    turn(parts)
    one = sub(parts, "one", 1)
    turn(parts)
    record = parts.views.why.record(one)
    (row,) = record["containers"]
    choice = row["choice"]
    assert (choice["chosen"]["node"], choice["runner_up"]["node"]) == ("n1", "n2")
    assert choice["chosen"]["gpus_left"] == 0
    assert choice["runner_up"]["opens_node"] is True
    shown = text(parts, one, placement=True)
    assert choice_sentence(choice) in shown
    assert "GPUs left free" in shown
    assert record["nodes"] == []
    events = parts.views.records.record(one)["events"]
    assert choice_sentence(choice) in [event["text"] for event in events]


def test_words_of_a_choice():
    terms = {"node": "n1", "gpus_left": 0, "gpus_stranded": 0, "cpus_left": 7.0,
             "memory_left_mib": 10, "opens_node": True}  # fmt: skip
    alone = {"attempt": 2, "candidates": 1, "chosen": terms, "runner_up": None}
    assert choice_sentence(alone) == "attempt 2: n1 was the only node with room"
    assert choice_table(alone)[0] == ("TERM", "n1")
    both = {**alone, "candidates": 3, "runner_up": {**terms, "node": "n2"}}
    assert choice_sentence(both) == (
        "attempt 2: n1, with room on 2 other nodes; next best n2"
    )
    assert ("CPUs left", "7", "7") in choice_table(both)
    assert ("starts an empty node", "yes", "yes") in choice_table(both)


def test_an_ended_one_has_no_masks(parts):
    fleet(parts, "n1")
    one = sub(parts, "one", 9)
    parts.change(
        parts.container(one.workload_id),
        lambda c: to.told_to_end(c, "cancelled", "cancelled by alice", c.queued_at),
    )
    assert "is finished: cancelled by alice" in text(parts, one, placement=True)
