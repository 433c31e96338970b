"""Reservations in the daemon's cycle: kept over cycles, told to users."""

from dataclasses import replace
from datetime import timedelta

import numpy as np

from dorabatch.daemon.cycle.assembly import cycle_of
from dorabatch.daemon.cycle.plan_words import reserved_words, worded
from dorabatch.daemon.cycle.planner import take_times
from dorabatch.daemon.cycle.take_snapshot import take_snapshot
from dorabatch.daemon.cycle.waiting_reason import waiting_reason
from dorabatch.daemon.state.claim_book import ClaimBook
from dorabatch.daemon.state.node_view import NodeState
from dorabatch.daemon.state.snapshot import NodeArrays
from dorabatch.placer.arrays.types import UNKNOWN_US, Explanation, Plan, Reservation
from dorabatch.queue import transitions as to
from dorabatch.queue.board import Board
from dorabatch.queue.demand import Claim
from dorabatch.queue.past import PastRun
from dorabatch.queue.states import State
from tests.makers import (
    START,
    V100,
    container,
    demand,
    facts,
    gpus,
    hold,
    node_settings,
    view,
    workload,
)

NOW_US = int(START.timestamp()) * 10**6


class Launched:
    """Keepers that note what they are told to launch."""

    def __init__(self):
        self.ids = []

    def launch(self, one):
        self.ids.append(int(one.workload_id))


def fleet(parts, *names):
    for name in names:
        parts.books.fleet.put(node_settings(name))
        parts.books.fleet.seen(name, parts.clock.now(), facts(hostname=name))


def sub(parts, name, gpus, time=None):
    # Large ones first, whatever else counts.
    options = {"gpus": str(gpus), "cpus": 1, "memory": "1Gi", "nice": -100 * gpus}
    if time:
        options["time"] = time
    return parts.submit(name, options=options).workload_id


def turn(parts):
    parts.clock.advance(0.01)
    keepers = Launched()
    cycle_of(parts.books, parts.effects, keepers).run()
    return keepers.ids


def started(parts, workload_id):
    """Bring a placed workload to RUNNING."""
    one = parts.change(parts.container(workload_id), to.starting)
    now = parts.clock.now()
    parts.change(one, lambda c: to.running(c, "d1", now))


def told(parts, workload_id):
    return waiting_reason(parts.books.latest.last, parts.container(workload_id))


def test_small_ones_no_longer_starve_a_large_one(parts):
    fleet(parts, "n1")
    first = sub(parts, "first", 3, time="1h")
    assert turn(parts) == [first]
    started(parts, first)
    large = sub(parts, "large", 4)
    forever, short = sub(parts, "forever", 1), sub(parts, "short", 1, time="30m")
    assert turn(parts) == [short]
    code, sentence = told(parts, large)
    end = (parts.clock.now() + timedelta(hours=1)).astimezone().strftime("%H:%M")
    assert code == "Gpus"
    assert sentence.endswith(f"; reserved on n1 from {end}")
    code, sentence = told(parts, forever)
    assert code in ("Gpus", "Reserved")
    assert parts.books.latest.last.plan.reservations[0].node == 0


def test_who_would_delay_is_told_whom(parts):
    fleet(parts, "n1")
    first = sub(parts, "first", 3, time="1h")
    turn(parts)
    started(parts, first)
    large, forever = sub(parts, "large", 4), sub(parts, "forever", 1)
    assert turn(parts) == []
    code, sentence = told(parts, forever)
    assert code == "Reserved"
    assert sentence.startswith(f"would delay workload {large} (reserved on n1 from ")


def test_zero_reservations_let_everything_in(parts):
    settings = parts.books.settings
    cycle = settings.cycle.model_copy(update={"reservations": 0})
    parts = parts.again(settings=settings.model_copy(update={"cycle": cycle}))
    fleet(parts, "n1")
    sub(parts, "first", 3)
    turn(parts)
    sub(parts, "large", 4)
    forever = sub(parts, "forever", 1)
    assert turn(parts) == [forever]
    assert parts.books.latest.last.plan.reservations == ()


def test_a_reservation_stays_on_its_node_when_nodes_come_and_go(parts):
    fleet(parts, "n2", "n3")
    for name in ("a", "b"):
        started_one = sub(parts, name, 3)
        turn(parts)
        started(parts, started_one)
    sub(parts, "large", 4)
    turn(parts)
    (one,) = parts.books.latest.last.plan.reservations
    name = parts.books.latest.last.snapshot.cluster.names[one.node]
    fleet(parts, "n1")
    parts.books.fleet.fault("n1", NodeState.UNREACHABLE, "gone")
    turn(parts)
    (again,) = parts.books.latest.last.plan.reservations
    assert parts.books.latest.last.snapshot.cluster.names[again.node] == name
    assert again.node == one.node + 1


def snapshot_of(*containers, limit=0):
    claim = Claim(user="alice", workspace="alice", run_seconds_max=limit)
    board = Board(
        ended_max=9, demand_of=lambda _w, _r: demand(), claim_of=lambda _w: claim
    )
    board.apply([workload(1), *containers])
    return take_snapshot(board, [view("n1"), view("n2")])


def test_ends_come_from_limits_and_nobody_knows_without():
    running = container(1, state=State.RUNNING, hold=hold(), started_at=START)
    waiting = container(2, replica=2)
    limited = snapshot_of(running, waiting, limit=60)
    times = take_times(limited, np.arange(len(limited.pending)), NOW_US)
    assert times.ends.end_us.tolist() == [NOW_US + 60_000_000 + START.microsecond]
    assert times.planned_end_us.tolist() == [NOW_US + 60_000_000]
    assert times.ends.gpus.tolist() == [[1]]
    free = snapshot_of(running, waiting)
    times = take_times(free, np.arange(len(free.pending)), NOW_US)
    assert times.ends.end_us.tolist() == [UNKNOWN_US]
    assert times.planned_end_us.tolist() == [UNKNOWN_US]


def test_overdue_and_stopping_end_now():
    late = container(1, state=State.RUNNING, hold=hold(), started_at=START)
    stops = container(2, replica=2, state=State.STOPPING, hold=hold(node="n2"))
    gone = container(3, replica=3, state=State.RUNNING, hold=hold(node="n9"))
    found = snapshot_of(late, stops, gone, limit=60)
    times = take_times(found, np.arange(len(found.pending)), NOW_US + 10**9)
    assert times.ends.end_us.tolist() == [NOW_US + 10**9] * 2
    assert times.ends.node.tolist() == [0, 1]


def test_predictions_take_the_place_of_limits():
    running = container(1, state=State.RUNNING, hold=hold(), started_at=START)
    found = snapshot_of(running, container(2, replica=2), limit=3600)
    times = take_times(
        found,
        np.arange(len(found.pending)),
        NOW_US,
        waiting_run_us=found.pending.key * 0 + 5_000_000,
        held_run_us=found.held.key * 0 + UNKNOWN_US,
    )
    assert times.planned_end_us.tolist() == [NOW_US + 5_000_000]
    assert times.ends.end_us.tolist() == [UNKNOWN_US]


def test_what_outlives_its_prediction_is_doubled_up_to_its_limit():
    running = container(1, state=State.RUNNING, hold=hold(), started_at=START)
    start_us = NOW_US + START.microsecond
    later_us = start_us + 40_000_000

    def end_us(limit, expected_us):
        found = snapshot_of(running, limit=limit)
        guess = found.held.key * 0 + expected_us
        order = np.arange(0)
        times = take_times(found, order, later_us, held_run_us=guess)
        return int(times.ends.end_us[0]) - start_us

    assert end_us(0, 50_000_000) == 50_000_000
    assert end_us(0, 40_000_000) == 80_000_000
    assert end_us(60, 30_000_000) == 60_000_000
    assert end_us(0, UNKNOWN_US) == UNKNOWN_US - start_us


def past(parts, workload_id, seconds):
    """The history hears of a run of such a workload."""
    one = parts.books.board.workloads[workload_id]
    run = PastRun(
        run="9.1/1",
        user=one.submitter.user,
        spec_json=one.spec_json,
        gpu_models=(V100,),
        started_at=START,
        ended_at=START + timedelta(seconds=seconds),
        outcome="done",
    )
    parts.books.history.apply([run])


def test_what_users_ran_before_lets_small_ones_in_without_limits(parts):
    fleet(parts, "n1")
    first = sub(parts, "first", 3)
    turn(parts)
    started(parts, first)
    sub(parts, "large", 4)
    small = sub(parts, "small", 1)
    assert turn(parts) == []
    (kept,) = parts.books.latest.last.plan.reservations
    assert kept.start_us == UNKNOWN_US
    past(parts, first, 7200)
    past(parts, small, 600)
    assert turn(parts) == [small]
    (kept,) = parts.books.latest.last.plan.reservations
    began = parts.container(first).started_at
    assert kept.start_us == int((began + timedelta(hours=2)).timestamp() * 10**6)


def test_planned_runs_are_kept_until_the_users_next_run_ends(parts):
    of_alice = sub(parts, "a", 1)
    book = ClaimBook(parts.books.policy, parts.books.history)
    claims = tuple(
        Claim(user=user, workspace="w", gpu_count=1, run_seconds_max=limit)
        for user, limit in (("alice", 0), ("alice", 60), ("bob", 0), ("bob", 60))
    )
    never = [UNKNOWN_US, 60_000_000, UNKNOWN_US, 60_000_000]
    assert book.columns(claims).planned_us.tolist() == never
    for seconds in (20, 1, 2, 3, 400, 30):
        past(parts, of_alice, seconds)
    found = book.columns(claims)
    # Of 1, 2, 3, 30 and 400 seconds: the last five.
    assert found.planned_us.tolist() == [30_000_000, 30_000_000, *never[2:]]
    assert book.columns(claims).planned_us is found.planned_us


def test_words_of_reservations():
    far = int((START + timedelta(days=3)).timestamp()) * 10**6
    plan = Plan(
        placements=(),
        waiting={7: 0, 8: 0},
        explanations=(
            Explanation(reason="Reserved", counts={}, sentence="x", delays=(7, 8)),
            Explanation(reason="Reserved", counts={}, sentence="y", delays=(5,)),
        ),
        reservations=(
            Reservation(key=7, group=12, node=1, start_us=UNKNOWN_US),
            Reservation(key=8, group=13, node=0, start_us=far),
        ),
    )
    words = reserved_words(plan, ("gpu01", "gpu07"), START)
    assert words[7] == "reserved on gpu07, once what runs there ends"
    day = (START + timedelta(days=3)).astimezone().strftime("%Y-%m-%d %H:%M")
    assert words[8] == f"reserved on gpu01 from {day}"
    first, second = worded(plan, words).explanations
    assert first.sentence == (
        "would delay workload 12 (reserved on gpu07, once what runs there ends) and 1 "
        "more of higher rank"
    )
    assert second.sentence == "y"


def test_known_nodes_are_read_again_only_when_their_hardware_changes():
    known, one, two = NodeArrays(), view("n1"), view("n2")
    known.look([one, two])
    totals = known.empty.gpus_total
    cordoned = replace(two, settings=node_settings("n2", scheduling_disabled=True))
    probed = replace(one, facts=replace(one.facts, clock_offset_seconds=0.5))
    known.look([probed, cordoned])
    assert known.empty.gpus_total is totals
    assert known.empty.enabled.tolist() == [True, False]
    assert known.views == (probed, cordoned)
    grown = replace(two, facts=facts(hostname="n2", gpus=gpus(8, V100)))
    known.look([one, grown])
    assert known.empty.gpus_total.tolist() == [[4], [8]]
    known.look([grown])
    assert known.row_of == {"n2": 0}
    known.look([replace(grown, facts=None)])
    assert known.views == ()
