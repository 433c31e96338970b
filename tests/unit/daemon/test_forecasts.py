"""Forecasts of starts: made for what waits, checked when it starts, kept honest."""

from datetime import timedelta

import pytest

from dorabatch.daemon.runs.settle import end_containers
from dorabatch.daemon.state.last_plan import LastPlan
from dorabatch.daemon.state.start_forecasts import LastForecasts, Start
from dorabatch.daemon.state.wait_reason import WaitReason
from dorabatch.daemon.timers.assembly import forecaster_of
from dorabatch.daemon.timers.forecasts import Forecaster
from dorabatch.fairshare.store import share_store
from dorabatch.fairshare.store.share_store import StartForecast
from dorabatch.fairshare.turn.start_forecast import Widening
from dorabatch.queue import store
from dorabatch.queue.records import Container
from dorabatch.queue.states import Outcome
from tests.makers import RTX, ZONE, facts, hold, node_settings
from tests.unit.daemon.conftest import Parts
from tests.unit.daemon.test_shares import end

HOUR = 3600


@pytest.fixture
def parts_with_node(parts: Parts) -> Parts:
    """One ready node with four V100."""
    parts.books.fleet.put(node_settings("n1"))
    parts.books.fleet.seen("n1", parts.clock.now(), facts())
    return parts


def forecaster_for(parts: Parts) -> Forecaster:
    """A forecaster as a daemon that starts now has it."""
    return forecaster_of(parts.books, parts.effects, parts.order, parts.views.starts)


def fill(parts: Parts, **options: str) -> list[Container]:
    """Four workloads that hold all GPUs."""
    held = []
    for number in range(4):
        done = parts.submit(f"r{number}", options=options)
        where = hold(gpus=(f"GPU-{number}",), cores=(number,))
        held.append(parts.run(parts.container(done.workload_id), where))
    return held


def begin(parts: Parts, key: int, gpu: int) -> Container:
    """A waiting workload starts on a GPU, as the launcher records it."""
    where = hold(gpus=(f"GPU-{gpu}",), cores=(gpu,))
    one = parts.run(parts.container(key), where)
    parts.effects.writer.do(lambda tx: store.save_run_end(tx, one))
    return one


def stored(parts: Parts) -> dict[int, StartForecast]:
    with parts.effects.engine.connect() as connection:
        return share_store.load_forecasts(connection, ZONE)


def test_what_waits_is_forecast_by_limits_where_nothing_is_known(
    parts_with_node: Parts,
) -> None:
    parts = parts_with_node
    fill(parts, time="2h")
    parts.clock.advance(HOUR)
    waits = parts.submit("w", options={"time": "1h"}).workload_id
    late = parts.submit("x", options={"time": "1h", "gpus": "4"}).workload_id
    never = parts.submit("y", options={"gpu_models": [RTX]}).workload_id
    forecaster_for(parts).turn()
    starts, now = parts.effects.forecasts.last.starts, parts.clock.now()
    assert timedelta(minutes=59) <= starts[waits].low - now <= timedelta(minutes=60)
    assert timedelta(minutes=60) <= starts[waits].high - now <= timedelta(minutes=61)
    assert timedelta(hours=2) <= starts[late].high - now <= timedelta(minutes=121)
    assert never not in starts
    workload = parts.books.board.workloads[waits]
    said = parts.views.why.text(workload, has_placement=True)
    assert f"start: {starts[waits].text()}, P10 to P90; no forecast has been" in said


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("OutOfCredit", "waits for credit"),
        ("Held", "is held"),
        ("Limit", "waits for a limit of use"),
    ],
)
def test_what_somebody_has_to_let_start_has_no_start_and_delays_nobody(
    parts_with_node: Parts, code: str, words: str
) -> None:
    parts = parts_with_node
    fill(parts, time="2h")
    poor, rich = (parts.submit(name).workload_id for name in ("poor", "rich"))
    why = WaitReason(code, "out of credit: needs 15, has 10")
    waits = {parts.container(poor).container_id: why}
    parts.books.latest.publish(LastPlan(waits=waits))
    forecaster_for(parts).turn()
    assert set(parts.effects.forecasts.last.starts) == {rich}
    assert set(stored(parts)) == {rich}
    workload = parts.books.board.workloads[poor]
    said = parts.views.why.text(workload, has_placement=False)
    assert f"start: no forecast while it {words}" in said


def test_runs_of_the_past_make_the_forecast(parts_with_node: Parts) -> None:
    parts = parts_with_node
    for one in fill(parts, time="2d"):
        parts.clock.advance(600)
        end(parts, one)
    fill(parts, time="2d")
    waits = parts.submit("w").workload_id
    forecaster_for(parts).turn()
    start, now = parts.effects.forecasts.last.starts[waits], parts.clock.now()
    assert timedelta(minutes=9) <= start.low - now
    assert start.high - now <= timedelta(minutes=41)


def test_a_forecast_is_kept_once_and_checked_at_the_start(
    parts_with_node: Parts,
) -> None:
    parts = parts_with_node
    held = fill(parts, time="2h")
    good = parts.submit("w").workload_id
    bad = parts.submit("x", options={"nice": "5"}).workload_id
    gone = parts.submit("y", options={"nice": "9"}).workload_id
    forecaster = forecaster_for(parts)
    forecaster.turn()
    first = stored(parts)
    assert sorted(first) == [good, bad, gone]
    parts.clock.advance(60)
    forecaster.turn()
    assert stored(parts) == first
    # One starts at once, against the forecast; one is taken back.
    end(parts, held[0])
    begin(parts, bad, 0)
    waiting = [parts.container(gone)]
    ends = {"outcome": Outcome.CANCELLED, "reason": "", "now": parts.clock.now()}
    parts.effects.writer.do(lambda tx: end_containers(tx, waiting, **ends))
    parts.clock.advance(2 * HOUR - 60)
    end(parts, held[1])
    begin(parts, good, 1)
    forecaster.turn()
    assert stored(parts) == {}
    outlook = parts.effects.forecasts.last
    assert (outlook.hits, outlook.checked) == (1, 2)
    assert outlook.record == "in 50 % of 2 forecasts the start was inside the range"
    forecaster.turn()
    assert stored(parts) == {}


def test_what_was_missed_widens_what_is_forecast_next(parts_with_node: Parts) -> None:
    parts = parts_with_node
    held = fill(parts, time="2h")
    late = parts.submit("w", options={"time": "1h"}).workload_id
    forecaster = forecaster_for(parts)
    forecaster.turn()
    assert parts.effects.forecasts.last.widening == Widening()
    parts.clock.advance(5 * HOUR)
    end(parts, held[0])
    begin(parts, late, 0)
    parts.submit("x")
    forecaster.turn()
    widening = parts.effects.forecasts.last.widening
    assert widening == Widening().learned(is_early=False, is_late=True)
    assert widening != Widening()
    # A daemon that starts anew learns the same from what is stored.
    parts.effects.forecasts.publish(LastForecasts())
    forecaster_for(parts)
    assert parts.effects.forecasts.last.widening == widening
    # The same queue, with and without something learned.
    wide = LastForecasts(widening=Widening(early=1.0, late=1.0))
    starts = []
    for outlook in (LastForecasts(), wide):
        parts.effects.forecasts.publish(outlook)
        forecaster.turn()
        starts.append(next(iter(parts.effects.forecasts.last.starts.values())))
    (plain, stretched), now = starts, parts.clock.now()
    assert stretched.high - now > 2 * (plain.high - now)
    assert stretched.low <= plain.low


def test_a_start_while_the_daemon_was_away_is_checked(parts_with_node: Parts) -> None:
    parts = parts_with_node
    (held, *_) = fill(parts, time="2h")
    key = parts.submit("w").workload_id
    forecaster_for(parts).turn()
    end(parts, held)
    end(parts, begin(parts, key, 0))
    again = forecaster_for(parts)
    again.turn()
    assert stored(parts) == {}
    assert parts.effects.forecasts.last.checked == 1


def test_old_forecasts_are_dropped(parts: Parts) -> None:
    def write(tx) -> None:
        for number in range(6):
            new = StartForecast(workload_id=number, made_at=number, low=0, high=0)
            share_store.add_forecasts(tx.connection, ZONE, [new], kept_max=3)

    parts.effects.writer.do(write)
    assert sorted(stored(parts)) == [3, 4, 5]


def test_no_forecast_without_a_node_or_for_work_without_gpus(parts: Parts) -> None:
    key = parts.submit("w", options={"cpus": "1"}).workload_id
    forecaster_for(parts).turn()
    assert parts.effects.forecasts.last.starts == {}
    workload = parts.books.board.workloads[key]
    assert "start: no forecast" in parts.views.why.text(workload, has_placement=True)


def test_a_range_in_words(parts: Parts) -> None:
    now = parts.clock.now()
    near = Start(low=now, high=now + timedelta(hours=2))
    assert near.text() == "2026-01-05 12:00 to 14:00 UTC"
    far = Start(low=now, high=now + timedelta(days=2))
    assert far.text() == "2026-01-05 12:00 to 2026-01-07 12:00 UTC"
