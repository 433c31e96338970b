"""The probation lane of a live zone: tried, picked, stopped, charged and told."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from dorabatch.daemon.describe import describe_workload, workload_record
from dorabatch.daemon.rows import WORKLOAD_CELLS, WORKLOAD_COLUMNS, render_table
from dorabatch.daemon.shares.policy_desk import Edit
from dorabatch.daemon.why import why_text
from dorabatch.fairshare.tables import RUN_CREDITS
from dorabatch.queue.records import Submitter, WorkloadId
from dorabatch.queue.states import State
from tests.makers import ALICE, RTX, V100
from tests.simulation.hands import end, one, run, states, submit, turn, work
from tests.simulation.world import World

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
    return workload_record(world.services, world.services.board.workloads[key])


def why(world: World, key: WorkloadId) -> str:
    workload = world.services.board.workloads[key]
    return why_text(world.services, workload, has_placement=False)


def listed(world: World) -> list[str]:
    rows = [
        record(world, key)
        for key, workload in world.services.board.workloads.items()
        if workload.ended_at is None
    ]
    return render_table(rows, WORKLOAD_CELLS, WORKLOAD_COLUMNS).splitlines()


def credits_of(world: World, key: WorkloadId) -> dict[str, int]:
    """What was charged, refunded and is held for all runs of a workload."""
    found: dict[str, int] = {}
    with world.services.engine.connect() as connection:
        for row in connection.execute(select(RUN_CREDITS)):
            if row.run.startswith(f"{key}."):
                found[row.what] = found.get(row.what, 0) + row.ucr
    return {what: ucr for what, ucr in found.items() if ucr}


def used(world: World, user: str) -> float:
    standings = world.services.usage.standings(world.clock.now())
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
    world.services.writer.do(
        lambda tx: world.services.billing.charge(
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
    with world.services.engine.connect() as connection:
        rebuilt = world.services.usage.rebuild(connection, now)
    assert rebuilt.get("dave") is None or rebuilt["dave"].used == pytest.approx(0)
    assert world.broken_chain() == []


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
    with world.services.engine.connect() as connection:
        rebuilt = world.services.usage.rebuild(connection, world.clock.now())
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
    services, edit = world.services, Edit(actor="root", at=1)
    services.policy.set(services.writer, edit, {"lane.fraction": "0"})
    turn(world)
    after = one(world, key)
    assert (after.state, after.trial_seconds) == (State.RUNNING, None)
