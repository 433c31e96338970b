"""The probation lane of a live zone: tried, picked, stopped, charged and told."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from dorabatch.config import MailSettings
from dorabatch.daemon.state.site_policy import Edit
from dorabatch.daemon.views.describe import describe_workload
from dorabatch.daemon.views.table_layout import render_table
from dorabatch.daemon.views.workload_rows import WORKLOAD_CELLS, WORKLOAD_COLUMNS
from dorabatch.fairshare.store.ledger_tables import RUN_CREDITS
from dorabatch.queue.records import Submitter, WorkloadId
from dorabatch.queue.states import State
from dorabatch.queue.tables import MAILS
from tests.makers import ALICE, BOB, RTX, V100, document
from tests.simulation.hands import end, one, run, states, submit, turn, work
from tests.simulation.world import ROOT, World

CAROL = Submitter(user="carol", uid=2003, gid=2003)
DAVE = Submitter(user="dave", uid=2004, gid=2004)
LANE = {"lane": {"fraction": 0.2, "trial": "30s"}}
"""Two of the ten GPUs. Nobody limits carol and dave."""
OVER = "ran longer than its trial of 30 s; waits for its turn"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(1, tmp_path, LANE)
    yield made
    made.close()


def fill(world: World) -> list[WorkloadId]:
    """Carol takes the main part; two V100 of n3 are left."""
    return [
        run(world, CAROL, 4, nodes=["n1"]),
        run(world, CAROL, 2, nodes=["n2"], gpu_models=[RTX]),
        run(world, CAROL, 2, nodes=["n3"], gpu_models=[RTX]),
    ]


def tried(world: World, who: Submitter = DAVE, **options: Any) -> WorkloadId:
    """Something restartable that is tried, and runs."""
    key = submit(world, who, options.pop("gpus", 1), restartable=True, **options)
    turn(world)
    work(world)
    assert states(world, key) == [State.RUNNING]
    assert one(world, key).trial_seconds is not None
    return key


def later(world: World, seconds: int) -> None:
    """Time passes; nodes are looked at, but nothing on them is done."""
    for _ in range(seconds):
        for keeper in world.keepers():
            keeper.look()
        turn(world)


def record(world: World, key: WorkloadId) -> dict[str, Any]:
    return world.parts.views.records.record(world.books.board.workloads[key])


def why(world: World, key: WorkloadId) -> str:
    workload = world.books.board.workloads[key]
    return world.parts.views.why.text(workload, has_placement=False)


def listed(world: World) -> list[str]:
    rows = [
        record(world, key)
        for key, workload in world.books.board.workloads.items()
        if workload.ended_at is None
    ]
    return render_table(rows, WORKLOAD_CELLS, WORKLOAD_COLUMNS).splitlines()


def credits_of(world: World, key: WorkloadId) -> dict[str, int]:
    """What was charged, refunded and is held for all runs of a workload."""
    found: dict[str, int] = {}
    with world.effects.engine.connect() as connection:
        for row in connection.execute(select(RUN_CREDITS)):
            if row.run.startswith(f"{key}."):
                found[row.what] = found.get(row.what, 0) + row.ucr
    return {what: ucr for what, ucr in found.items() if ucr}


def used(world: World, user: str) -> float:
    standings = world.books.usage.standings(world.clock.now())
    at = standings.node.get(user)
    return 0.0 if at is None else float(standings.usage.own[at])


def test_the_lane_stays_free_for_trials(world: World) -> None:
    fill(world)
    waits = submit(world, DAVE, 1)
    turn(world)
    assert states(world, waits) == [State.QUEUED]
    assert "2 of 10 GPUs are kept for short trials" in why(world, waits)
    short = tried(world)
    assert states(world, waits) == [State.QUEUED]
    until = world.clock.now() + timedelta(seconds=30)
    words = f"on trial until {until:%H:%M:%S} UTC"
    assert f"is running: {words}" in why(world, short)
    row = record(world, short)
    assert (row["reason_code"], row["reason"]) == ("Trial", words)
    assert row["containers"][0]["trial_until"] == until.isoformat("T", "milliseconds")
    (cells,) = [line for line in listed(world) if f"{short} " in line]
    assert f"n3 ({words})" in cells
    later(world, 5)
    end(world, short)
    assert states(world, short) == [State.FINISHED]
    assert credits_of(world, short)["charged"] > 0
    assert "refunded" not in credits_of(world, short)
    assert world.broken() == []


def test_what_outlives_its_trial_waits_for_its_turn(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "dorabatch")
    fill(world)
    key = tried(world)
    world.daemon.turn()
    later(world, 29)
    assert states(world, key) == [State.RUNNING]
    later(world, 1)
    assert states(world, key) == [State.STOPPING]
    work(world)
    for _ in range(3):
        turn(world)
        work(world)
    assert states(world, key) == [State.QUEUED]
    container = one(world, key)
    assert (container.tried, container.trial_stops) == (True, 1)
    assert (container.trial_seconds, container.hold) == (None, None)
    assert f"attempt 1: {OVER}" in why(world, key)
    told = record(world, key)
    assert ("trial", OVER) in [(e["kind"], e["text"]) for e in told["events"]]
    assert told["attempts"][0]["reason"] == OVER
    assert told["containers"][0]["trial_stops"] == 1
    assert "may be stopped and started anew" in describe_workload(told)
    (logged,) = [one for one in caplog.records if one.message == "trial-stopped"]
    assert logged.__dict__["fields"]["why"] == OVER
    assert world.broken() == []


def test_a_stopped_trial_is_neither_charged_nor_used(world: World) -> None:
    fill(world)
    before = used(world, "dave")
    key = tried(world)
    later(world, 20)
    world.effects.writer.do(
        lambda tx: world.books.billing.charge(
            tx, [one(world, key)], round(world.clock.now().timestamp() * 1e6)
        )
    )
    assert credits_of(world, key)["charged"] > 0
    later(world, 20)
    work(world)
    assert states(world, key) == [State.QUEUED]
    amounts = credits_of(world, key)
    assert amounts["charged"] == amounts["refunded"]
    assert "lien" not in amounts
    assert used(world, "dave") == pytest.approx(before)
    now = world.clock.now()
    with world.effects.engine.connect() as connection:
        rebuilt = world.books.usage.rebuild(connection, now)
    assert rebuilt.get("dave") is None or rebuilt["dave"].used == pytest.approx(0)
    assert world.laws.of_chain() == []


def test_without_prices_a_stopped_trial_is_no_use_either(tmp_path: Path) -> None:
    world = World(1, tmp_path, LANE, credits="")
    fill(world)
    key = tried(world)
    assert used(world, "dave") == pytest.approx(0)
    later(world, 31)
    work(world)
    assert states(world, key) == [State.QUEUED]
    assert used(world, "dave") == pytest.approx(0)
    assert used(world, "carol") > 0
    with world.effects.engine.connect() as connection:
        rebuilt = world.books.usage.rebuild(connection, world.clock.now())
    assert "dave" not in rebuilt or rebuilt["dave"].used == pytest.approx(0)
    world.close()


def test_a_trial_that_has_its_turn_goes_on_in_place(world: World) -> None:
    first, *_ = fill(world)
    key = tried(world)
    place = one(world, key)
    end(world, first)
    turn(world)
    after = one(world, key)
    assert (after.state, after.trial_seconds) == (State.RUNNING, None)
    assert (after.hold, after.attempt) == (place.hold, place.attempt)
    later(world, 60)
    assert states(world, key) == [State.RUNNING]
    assert "on trial" not in why(world, key)
    texts = [event["text"] for event in record(world, key)["events"]]
    assert "has its turn: goes on as an ordinary run, charged from its start" in texts
    world.clock.advance(3539)
    end(world, key)
    # 2.5 an hour from its start, not from its promotion.
    assert credits_of(world, key) == {"charged": pytest.approx(2_500_000, rel=0.01)}
    assert world.broken() == []


def test_who_waits_longer_goes_before_a_trial(world: World) -> None:
    _, small, _ = fill(world)
    waits = submit(world, DAVE, 2, gpu_models=[V100, RTX])
    turn(world)
    key = tried(world, nice="5")
    end(world, small)
    turn(world)
    work(world)
    assert states(world, waits, key) == [State.RUNNING, State.RUNNING]
    assert one(world, key).trial_seconds == 30
    later(world, 30)
    assert states(world, key) == [State.STOPPING]


def test_nobody_fills_the_lane_by_sending_many(world: World) -> None:
    fill(world)
    many = [submit(world, CAROL, 1, restartable=True) for _ in range(4)]
    few = submit(world, DAVE, 1, restartable=True)
    turn(world)
    found = [one(world, key) for key in [*many, few]]
    placed = [container for container in found if container.hold is not None]
    assert len(placed) == 2
    assert one(world, few).hold is not None


def test_only_restartable_whole_gpus_that_are_paid_for_are_tried(
    world: World,
) -> None:
    fill(world)
    keys = [
        submit(world, DAVE, 1, restartable=False, restart="Always"),
        submit(world, DAVE, 3, restartable=True, gpu_models=[V100, RTX]),
        submit(world, ALICE, 2, restartable=True),
        submit(world, DAVE, 1),
    ]
    for _ in range(3):
        turn(world)
        work(world)
    assert states(world, *keys) == [State.QUEUED] * 4
    always = submit(world, DAVE, 1, restart="Always")
    turn(world)
    assert one(world, always).trial_seconds == 30


def test_no_lane_at_fraction_0(tmp_path: Path) -> None:
    world = World(1, tmp_path, {"lane": {"fraction": 0}})
    fill(world)
    keys = [submit(world, DAVE, 1), submit(world, DAVE, 1, restartable=True)]
    turn(world)
    work(world)
    assert states(world, *keys) == [State.RUNNING] * 2
    late = submit(world, DAVE, 1, restartable=True)
    turn(world)
    assert states(world, late) == [State.QUEUED]
    assert all(one(world, key).trial_seconds is None for key in keys)
    world.close()


def test_a_small_zone_has_no_lane(tmp_path: Path) -> None:
    world = World(1, tmp_path)
    fill(world)
    key = run(world, DAVE, 2, restartable=True)
    assert one(world, key).trial_seconds is None
    world.close()


def test_trials_end_when_the_lane_is_turned_off(world: World) -> None:
    fill(world)
    key = tried(world)
    edit = Edit(actor="root", now=world.clock.now)
    world.books.policy.set(world.effects.writer, edit, {"lane.fraction": "0"})
    turn(world)
    after = one(world, key)
    assert (after.state, after.trial_seconds) == (State.RUNNING, None)


def test_a_trial_is_stopped_once_wherever_the_daemon_dies(tmp_path: Path) -> None:
    moments = 0
    while True:
        moments += 1
        (folder := tmp_path / str(moments)).mkdir()
        world = World(1, folder, LANE)
        fill(world)
        key = tried(world)
        later(world, 29)
        world.is_quiet = False
        world.doom(moments)
        for _ in range(3):
            world.attempt(lambda world=world: later(world, 1))
            world.attempt(lambda world=world: work(world))
        world.is_quiet = True
        for keeper in world.keepers():
            keeper.look()
        work(world)
        container = one(world, key)
        assert (container.state, container.hold) == (State.QUEUED, None), moments
        assert (container.tried, container.trial_stops, container.attempt) == (
            True, 1, 1,
        )  # fmt: skip
        amounts = credits_of(world, key)
        assert amounts.get("charged", 0) == amounts.get("refunded", 0)
        assert "lien" not in amounts
        assert [*world.broken(), *world.laws.of_chain()] == []
        kills = world.kills
        world.close()
        if not kills:
            break
    assert moments > 5


def test_another_spec_may_be_tried_anew(world: World) -> None:
    fill(world)
    key = tried(world, name="red")
    later(world, 31)
    work(world)
    turn(world)
    assert one(world, key).tried
    changed = document(
        name="red", image="busybox", cmd=["other"], gpus="1", gpu_models=[V100],
        cpus=1, memory="1Gi", restartable=True,
    )  # fmt: skip
    world.parts.intake.applier.apply(world.caller(DAVE), changed)
    assert (one(world, key).tried, one(world, key).trial_stops) == (False, 0)
    turn(world)
    assert one(world, key).trial_seconds == 30


def test_a_service_that_ends_on_trial_waits_for_its_turn(world: World) -> None:
    fill(world)
    key = tried(world, restart="Always")
    later(world, 5)
    end(world, key, code=1)
    container = one(world, key)
    assert (container.state, container.tried) == (State.QUEUED, True)
    turn(world, 10)
    assert states(world, key) == [State.QUEUED]
    # It ended by itself.
    assert credits_of(world, key)["charged"] > 0


def test_no_mail_tells_of_a_stopped_trial(tmp_path: Path) -> None:
    world = World(1, tmp_path, LANE)
    mail = MailSettings(host="relay", domain="example.org")
    world.settings = world.settings.model_copy(update={"mail": mail})
    world.kill()
    for keeper in world.keepers():
        keeper.look()
    fill(world)
    key = tried(world, notify=True)
    later(world, 31)
    work(world)
    assert states(world, key) == [State.QUEUED]
    with world.effects.engine.connect() as connection:
        mails = list(connection.execute(select(MAILS.c.subject)).scalars())
    assert [subject.split()[-3:] for subject in mails] == [["started", "on", "n3"]]
    world.close()


def test_trials_are_stopped_so_often_only(tmp_path: Path) -> None:
    world = World(1, tmp_path, {"lane": {**LANE["lane"], "stops_max": 0}})
    fill(world)
    key = submit(world, DAVE, 1, restartable=True)
    turn(world)
    assert states(world, key) == [State.QUEUED]
    world.close()


def only_n1(world: World) -> None:
    """Four V100 are left, of which two are the lane's."""
    for name in ("n2", "n3"):
        nodes = world.parts.intake.nodes
        nodes.change(world.caller(ROOT), name, scheduling_disabled=True)


def test_who_is_larger_than_the_main_part_takes_the_lane_too(tmp_path: Path) -> None:
    world = World(1, tmp_path, {"lane": {"fraction": 0.5, "trial": "30s"}})
    only_n1(world)
    first = run(world, CAROL, 2)
    waits = submit(world, CAROL, 1)
    short = tried(world, nice="5")
    large = submit(world, DAVE, 4)
    turn(world)
    # Stopping the trial alone would not be enough.
    assert states(world, waits, short, large) == [
        State.QUEUED,
        State.RUNNING,
        State.QUEUED,
    ]
    cancel_all(world, waits)
    end(world, first)
    turn(world)
    assert states(world, short) == [State.STOPPING]
    reason = (
        f"stopped for workload {large}, which needs the lane's GPUs too; waits for "
        "its turn"
    )
    assert one(world, short).reason == reason
    work(world)
    turn(world)
    work(world)
    assert states(world, short, large) == [State.QUEUED, State.RUNNING]
    assert (one(world, short).tried, one(world, short).trial_stops) == (False, 1)
    turn(world)
    assert states(world, short) == [State.QUEUED]
    end(world, large)
    turn(world)
    assert one(world, short).hold is not None
    assert world.broken() == []
    world.close()


def cancel_all(world: World, *keys: WorkloadId) -> None:
    workloads = [world.books.board.workloads[key] for key in keys]
    world.parts.intake.cancelling.cancel(world.caller(ROOT), workloads)


@pytest.mark.parametrize(("limit", "is_tried"), [("20s", False), ("2h", True)])
def test_no_trial_delays_who_has_a_place_kept(
    world: World, limit: str, is_tried: bool
) -> None:
    run(world, CAROL, 2, nodes=["n1"], time=limit)
    run(world, CAROL, 2, nodes=["n2"], gpu_models=[RTX])
    run(world, CAROL, 4, nodes=["n3"], gpu_models=[V100, RTX])
    head = submit(world, DAVE, 4, nodes=["n1"])
    turn(world)
    key = submit(world, DAVE, 1, restartable=True, nice="5")
    turn(world)
    assert states(world, head) == [State.QUEUED]
    assert (one(world, key).hold is not None) == is_tried


def test_who_usually_takes_longer_is_tried_for_longer(world: World) -> None:
    fill(world)
    key = tried(world)
    later(world, 25)
    end(world, key)
    again = tried(world)
    seconds = one(world, again).trial_seconds
    # 1.5 times the run before.
    assert seconds in (38, 39, 40, 41)
    # One of the two GPUs is for such trials.
    more = submit(world, DAVE, 1, restartable=True)
    other = submit(world, CAROL, 1, restartable=True)
    turn(world)
    assert one(world, more).hold is None
    assert one(world, other).trial_seconds == 30


def test_a_long_trial_has_what_short_ones_leave_of_the_lane_alone(
    world: World,
) -> None:
    fill(world)
    key = tried(world, gpus=2)
    later(world, 25)
    end(world, key)
    # Two GPUs are more than such trials share, one at a time has them all the same.
    again = tried(world, gpus=2)
    assert one(world, again).trial_seconds in (38, 39, 40, 41)
    assert world.broken() == []


def test_scavengers_get_none_of_the_lane(world: World) -> None:
    fill(world)
    free = submit(world, BOB, 2)
    turn(world)
    assert states(world, free) == [State.QUEUED]
    assert "kept for short trials" in why(world, free)
