"""Charging in the daemon: liens, ticks, ends, refunds, what happens at the limit."""

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from dorabatch.config import CreditSettings
from dorabatch.daemon.intake.credit_order import Order
from dorabatch.daemon.state.priced_items import hold_items
from dorabatch.daemon.views.describe import describe_workload
from dorabatch.daemon.views.listing import parse_question
from dorabatch.queue.records import Submitter
from dorabatch.queue.states import AfterStop, Outcome, State
from dorabatch.units import microseconds_of, render_credits
from tests.makers import RTX, V100, facts, gpus, hold, node_settings
from tests.unit.daemon.conftest import Parts, caller
from tests.unit.daemon.credits import Site, site_of

GOLDEN = json.loads(
    (Path(__file__).parents[2] / "cases" / "credits_golden.json").read_text()
)
TICKS = GOLDEN["C2_tick_invariance"]
CREDIT = 1_000_000
HOUR = 3600


@pytest.fixture
def site(parts: Parts) -> Site:
    """A site where a V100 costs 2.5 an hour."""
    made = site_of(parts)
    made.price(2.5)
    return made


def test_without_prices_and_limits_nothing_is_posted(parts: Parts) -> None:
    site = site_of(parts)
    key = site.run("a")
    site.wait(HOUR)
    site.end(key)
    assert site.entries() == []
    assert parts.books.credits.meters == {}


@pytest.mark.mission("M85")
def test_who_has_no_allocation_is_charged_and_not_limited(site: Site) -> None:
    key = site.run("a", options={"gpus": "2"})
    site.wait(HOUR)
    site.end(key)
    assert site.charged() == 5 * CREDIT
    assert not site.standing().is_limited


def test_the_lien_table(site: Site) -> None:
    site.weekly(500 * 7)  # joins on Monday noon: 6.5 of 7 days are left
    before = site.standing().available
    key = site.run("a", options={"gpus": "2", "time": "4h"})
    now = site.standing()
    assert (now.available, now.liens) == (before - 20 * CREDIT, 20 * CREDIT)
    site.wait(HOUR)
    now = site.standing()
    assert (now.available, now.liens) == (before - 20 * CREDIT, 15 * CREDIT)
    site.wait(HOUR / 2)
    site.end(key)
    now = site.standing()
    assert (now.available, now.liens) == (before - 7_500_000, 0)


@pytest.mark.parametrize(("tick", "total"), TICKS["total"].items())
def test_no_tick_length_changes_the_bill(parts: Parts, tick: str, total: int) -> None:
    seconds = int(tick)
    often = {"credits": CreditSettings(tick_seconds=seconds)}
    site = site_of(parts.again(settings=parts.books.settings.model_copy(update=often)))
    site.price(render_credits(TICKS["price_ucr_h"]))
    key = site.run("a", options={"gpus": str(TICKS["gpus"])})
    for _ in range(TICKS["seconds"] // seconds):
        site.wait(seconds)
    site.wait(TICKS["seconds"] % seconds)
    site.end(key)
    assert site.charged() == total


def test_waiting_and_starting_cost_nothing(site: Site) -> None:
    done = site.parts.submit("a")
    site.wait(HOUR)
    site.cycle()
    site.wait(HOUR)
    site.start(done.workload_id)
    site.wait(60)
    site.end(done.workload_id)
    assert site.charged() == 2_500_000 // 60


def test_time_past_the_end_that_was_charged_is_given_back(site: Site) -> None:
    key = site.run("a")
    site.wait(HOUR)
    site.end(key, at=HOUR / 2)
    assert site.charged() == 1_250_000
    assert site.entries("refund")[0].posting.reason == "past its end"


def test_a_price_is_locked_at_the_start(site: Site) -> None:
    key = site.run("a", options={"gpus": "2"})
    site.wait(HOUR / 2)
    site.price(3)
    site.wait(HOUR / 2)
    site.end(key)
    assert site.charged() == 5 * CREDIT


def test_a_site_may_reprice_what_runs(site: Site) -> None:
    site.parts.books.credits.settings = CreditSettings(lock_prices=False)
    key = site.run("a", options={"gpus": "2"})
    site.wait(HOUR / 2)
    site.price(3)
    site.wait(HOUR / 2)
    site.end(key)
    assert site.charged() == 5_500_000


def test_the_dearest_model_has_to_be_covered_and_the_placed_one_is_held(
    parts: Parts,
) -> None:
    row, site = GOLDEN["C10_model_list"], site_of(parts)
    site.price(2.5, V100)
    site.price(1.1, RTX)
    site.weekly(20)
    before = site.standing().available
    options = {
        "gpus": str(row["gpus"]),
        "time": f"{row['limit_s']}s",
        "gpu_models": row["accept"],
    }
    done = parts.submit("a", options=options)
    books = parts.books
    workload = books.board.workloads[done.workload_id]
    at = microseconds_of(parts.clock.now())
    need = books.billing.need(workload, 1, at)
    assert need == row["lien"]
    site.gpus = gpus(4, row["placed"])
    site.cycle()
    site.start(done.workload_id)
    assert site.standing().liens == row["charge_2h"]
    assert need - site.standing().liens == row["released"]
    site.wait(row["limit_s"])
    site.end(done.workload_id)
    assert site.charged() == row["charge_2h"]
    assert site.standing().available == before - row["charge_2h"]


def test_open_ended_work_is_quoted_one_hour(site: Site) -> None:
    done = site.parts.submit("a")
    books = site.parts.books
    workload = books.board.workloads[done.workload_id]
    at = microseconds_of(site.parts.clock.now())
    assert books.billing.need(workload, 1, at) == 2_500_000


@pytest.mark.mission("M85")
def test_what_is_not_covered_waits_with_a_sentence(site: Site) -> None:
    site.weekly(10, "hold")
    first = site.parts.submit("a", options={"gpus": "2", "time": "3h"})
    site.cycle()
    one = site.parts.container(first.workload_id)
    assert one.state is State.QUEUED
    have = render_credits(site.standing().available)
    assert site.reason(one) == (
        f"out of credit: account alice: needs 15, has {have}, resets Monday 00:00 "
        "UTC (2026-01-12)"
    )
    second = site.parts.submit("b", options={"gpus": "2", "time": "1h"})
    site.cycle()
    assert site.parts.container(second.workload_id).state is State.PLACED


def test_two_that_are_covered_alone_but_not_together(site: Site) -> None:
    site.weekly(10, "hold")
    first = site.parts.submit("a", options={"gpus": "2", "time": "1h"})
    second = site.parts.submit("b", options={"gpus": "2", "time": "1h"})
    site.cycle()
    states = [site.parts.container(one.workload_id).state for one in (first, second)]
    assert states == [State.PLACED, State.QUEUED]
    waits = site.parts.container(second.workload_id)
    assert "needs 5" in site.reason(waits)
    site.cycle()
    assert "needs 5" in site.reason(waits)


def spend_all(site: Site, mode: str) -> int:
    """An open-ended workload of 2 V100 that has 9000 s of credit: 12.5."""
    site.weekly(12.5, mode)
    # The rest of the week is paid in full.
    week = site.parts.books.credits.period(site.parts.clock.now())
    part = (week.end - site.parts.clock.now()) / week.length
    assert site.standing().available == int(12_500_000 * part)
    return site.run("a", options={"gpus": "2"})


@pytest.mark.mission("M85", "M86")
def test_stop_ends_at_the_last_paid_second_and_goes_on_after_the_reset(
    site: Site,
) -> None:
    key = spend_all(site, "stop")
    have = site.standing().balance
    last = int(have / (5 * CREDIT) * HOUR)
    stopped = []
    for _ in range(5):
        stopped += site.wait(last // 5 - 1)
    assert stopped == []
    assert len(site.warned) == 1
    (one,) = site.wait(60)
    assert one.after_stop is AfterStop.REQUEUE
    assert "out of credit" in one.reason
    site.end(key)
    now = site.standing()
    # A microsecond's worth may be left.
    assert 0 <= now.available <= 1
    assert now.liens == 0
    assert abs(site.charged() - have) <= 1
    site.cycle()
    again = site.parts.container(key)
    assert again.state is State.QUEUED
    assert "out of credit" in site.reason(again)
    site.wait(7 * 24 * HOUR)
    assert site.standing().available == 12_500_000
    site.cycle()
    site.start(key)


def test_demote_runs_on_free_and_is_charged_again_after_the_reset(site: Site) -> None:
    key = spend_all(site, "demote")
    have = site.standing().balance
    site.wait(6 * HOUR)
    one = site.parts.container(key)
    assert one.state is State.RUNNING
    assert site.parts.books.credits.is_scavenger(one)
    assert abs(site.charged() - have) <= 1
    other = site.parts.submit("b")
    site.cycle()
    assert site.parts.books.credits.is_scavenger(site.start(other.workload_id))
    site.end(other.workload_id)
    assert abs(site.charged() - have) <= 1
    site.wait(7 * 24 * HOUR)
    site.tend()
    assert not site.parts.books.credits.is_scavenger(one)
    spent = site.charged()
    site.wait(HOUR)
    assert site.charged() == spent + 5 * CREDIT


def test_hold_lets_what_runs_go_on_into_debt(site: Site) -> None:
    key = spend_all(site, "hold")
    have = site.standing().balance
    assert site.wait(4 * HOUR) == []
    assert site.parts.container(key).state is State.RUNNING
    assert site.standing().balance == have - 20 * CREDIT
    other = site.parts.submit("b")
    site.cycle()
    assert site.parts.container(other.workload_id).state is State.QUEUED
    site.end(key)
    site.wait(7 * 24 * HOUR)
    # The debt is paid from the next week.
    assert site.standing().available == 12_500_000 + have - 20 * CREDIT


def test_all_that_draws_on_one_credit_ends_at_the_same_moment(site: Site) -> None:
    site.weekly(20)
    first = site.run("a", options={"gpus": "1"})
    site.wait(HOUR)
    second = site.run("b", options={"gpus": "2"})
    stopped = []
    for _ in range(40):
        stopped += site.wait(HOUR / 4)
    assert {one.workload_id for one in stopped} == {first, second}
    for key in (first, second):
        site.end(key)
    assert 0 <= site.standing().available <= 1


@pytest.mark.parametrize("mode", ["stop", "demote"])
@pytest.mark.parametrize("seconds", [0.0, 1.0, 1.7, 3.1])
def test_parallel_runs_never_spend_what_is_not_there(
    site: Site, mode: str, seconds: float
) -> None:
    site.price("1.100003")
    site.weekly(12.5, mode)
    have = site.standing().balance
    keys = []
    for number in range(4):
        keys.append(site.run(f"run{number}"))
        site.wait(0.001237)
    # Credit is over in between.
    stopped = site.wait(4 * HOUR + seconds)
    assert len(stopped) == (len(keys) if mode == "stop" else 0)
    for key in keys:
        site.end(key)
    now = site.standing()
    # What is left is less than the runs would have cost next, one each at most.
    assert 0 <= now.available < len(keys)
    assert (now.liens, site.charged()) == (0, have - now.available)


def test_a_run_of_two_products_that_ended_late_spends_what_is_there(
    site: Site,
) -> None:
    site.price("2.500007")
    site.price("0.100003", "CPU")
    asked = {"gpus": "1", "cpus": "3"}
    for number in range(8):
        who = Submitter(user=f"u{number}", uid=3000, gid=3000)
        site.weekly(12.5, "stop", who.user)
        key = site.run("a", submitter=who, workspace=who.user, options=asked)
        # Nobody looks before it has ended.
        site.wait(6 * HOUR + number / 7, beat=False)
        site.end(key)
        left = site.standing(who.user).available
        assert left in (0, 1)


def test_a_run_that_its_node_lost_costs_nothing(site: Site) -> None:
    site.weekly(1000)
    before = site.standing().available
    key = site.run("a")
    site.wait(10 * HOUR)
    assert site.charged() == 25 * CREDIT
    site.end(key, outcome=Outcome.NODE_LOST, after=AfterStop.REQUEUE)
    assert site.charged() == 0
    assert site.standing().available == before
    assert site.entries("refund")[0].posting.reason == "x"


def test_a_site_may_keep_what_a_lost_run_cost_before_the_loss(site: Site) -> None:
    site.parts.books.credits.settings = CreditSettings(refund_lost_runs=False)
    key = site.run("a")
    site.wait(10 * HOUR)
    site.parts.clock.advance(HOUR)
    site.tend()
    site.end(key, outcome=Outcome.NODE_LOST, after=AfterStop.REQUEUE)
    assert site.charged() == 25 * CREDIT + 2_500_000


def test_the_time_that_a_node_lost_is_given_back(site: Site) -> None:
    row = GOLDEN["C6_refund"]
    site.parts.books.credits.settings = CreditSettings(refund_lost_runs=False)
    site.gpus = gpus(8, V100)
    site.seen()
    key = site.run("a", options={"gpus": "8"})
    site.wait(10 * HOUR)
    assert site.charged() == row["charge_10h_8xV100"]
    lost = {"outcome": Outcome.NODE_LOST, "after": AfterStop.REQUEUE}
    site.end(key, at=2 * HOUR, **lost)
    assert row["charge_10h_8xV100"] - site.charged() == row["refund_lost_2h"]
    assert site.charged() == row["net"]


def test_while_a_node_is_silent_nothing_is_charged(site: Site) -> None:
    key = site.run("a")
    site.wait(HOUR)
    site.parts.clock.advance(13)
    site.parts.books.fleet.silent(site.parts.clock.now(), timedelta(0))
    site.parts.clock.advance(HOUR)
    site.tend()
    assert site.charged() == 2_500_000
    site.wait(0)
    site.wait(300)
    site.end(key)
    assert site.charged() == 2_500_000 * (2 * HOUR + 313) // HOUR


def test_a_silent_node_spends_nothing_when_credit_ends(site: Site) -> None:
    fleet, clock = site.parts.books.fleet, site.parts.clock
    site.weekly(20, "demote")
    have = site.standing().balance
    first = site.run("a", options={"gpus": "4"})
    fleet.put(node_settings("n2"))
    fleet.seen("n2", clock.now(), facts(gpus=gpus(4, prefix="other")))
    second = site.run("b")
    assert not site.parts.books.credits.has_scavengers()
    clock.advance(HOUR / 2)
    fleet.seen("n2", clock.now(), facts(gpus=gpus(4, prefix="other")))
    site.wait(0)
    # n2 answers no more.
    for _ in range(90):
        clock.advance(60)
        fleet.silent(clock.now(), timedelta(0))
        site.seen()
        site.tend()
    fleet.seen("n2", clock.now(), facts(gpus=gpus(4, prefix="other")))
    site.tend()
    for key in (first, second):
        site.end(key)
    assert 0 <= site.standing().available < 2
    assert have - 2 < site.charged() <= have


def test_a_lost_gpu_is_not_billed(site: Site) -> None:
    key = site.run("a", options={"gpus": "4"})
    site.wait(HOUR)
    site.gpus = gpus(4)[:3]
    site.wait(HOUR)
    site.wait(HOUR, beat=False)
    site.end(key)
    # Four GPUs up to the probe before the loss was seen, three afterwards.
    full = 2 * HOUR - 60
    assert site.charged() == 2_500_000 * (4 * full + 3 * (HOUR + 60)) // HOUR


def test_cores_are_charged_where_they_have_a_price(site: Site) -> None:
    site.price("0.1", "CPU")
    key = site.run("a", options={"cpus": "4"})
    site.wait(HOUR)
    site.end(key)
    assert site.charged() == 400_000


def test_a_restart_takes_a_new_lien(site: Site) -> None:
    site.weekly(100)
    key = site.run("a", options={"time": "1h"})
    site.wait(HOUR / 2)
    site.end(key, after=AfterStop.RESTART)
    assert site.standing().liens == 2_500_000
    assert site.charged() == 1_250_000
    site.start(key)
    site.wait(HOUR / 2)
    site.end(key)
    assert site.charged() == 2_500_000
    assert site.standing().liens == 0


def test_what_is_cancelled_before_its_start_gives_its_lien_back(site: Site) -> None:
    site.weekly(100)
    before = site.standing().available
    done = site.parts.submit("a", options={"time": "1h"})
    site.cycle()
    assert site.standing().liens == 2_500_000
    site.cancel(done.workload_id)
    site.end(done.workload_id)
    assert site.standing().available == before
    assert site.charged() == 0


def test_ancestors_pay_too(site: Site) -> None:
    credits = site.parts.books.credits
    credits.chain_of = lambda user: (user, "lab")
    site.weekly(100)
    site.weekly(10, "hold", "lab")
    key = site.run("a", options={"gpus": "2", "time": "1h"})
    assert site.standing("lab").liens == 5 * CREDIT
    other = site.parts.submit("b", options={"gpus": "2", "time": "1h"})
    site.cycle()
    waits = site.parts.container(other.workload_id)
    assert "account lab: needs 5" in site.reason(waits)
    site.wait(HOUR)
    site.end(key)
    assert site.charged() == 5 * CREDIT
    assert site.standing("lab").liens == 0


def test_memory_is_what_a_new_daemon_reads(site: Site) -> None:
    site.weekly(100)
    site.run("a", options={"gpus": "2"})
    site.wait(HOUR)
    books = site.parts.books
    fresh = type(books.credits)(
        books.settings.zone, books.settings.credits, books.users
    )
    with site.parts.effects.engine.connect() as connection:
        held = books.board.on_node("n1")
        fresh.load(connection, held, site.parts.clock.now())
    known = books.credits
    assert fresh.meters == known.meters
    assert fresh.credited == known.credited
    assert fresh.book.runs == known.book.runs
    assert fresh.standing_of("alice", site.parts.clock.now()) == site.standing()


def test_the_last_paid_second_is_shown(site: Site) -> None:
    views = site.parts.views
    site.weekly(3500)
    key = spend_all_but(site, 12.5)
    workload = site.parts.books.board.workloads[key]
    record = views.records.record(workload)
    assert record["paid_until"] == "2026-01-05T14:30:00+00:00"
    site.wait(HOUR)
    record = views.records.record(workload)
    assert record["paid_until"] == "2026-01-05T14:30:00+00:00"
    assert (record["cost"], record["runs_free"]) == (5, False)
    assert "Paid until 2026-01-05T14:30:00" in describe_workload(record)
    question = parse_question({"columns": "id,until,cost", "render": "table"}, [], "x")
    _, body = views.listing.answer(question, caller())
    assert body.decode().split()[-3:] == [str(key), "2026-01-05T14:30:00+00:00", "5"]


def spend_all_but(site: Site, left: float) -> int:
    """An open-ended workload of 2 V100 with so much credit left in all."""
    have = site.standing().available
    order = Order(
        verb="transfer",
        account="alice",
        target="lab",
        amount=have - int(left * CREDIT),
        reason="x",
    )
    site.weekly(1, name="lab")
    site.parts.daemon.intake.credit_orders.carry_out(caller(is_admin=True), order)
    return site.run("a", options={"gpus": "2"})


def test_a_share_of_a_gpu_costs_its_share(site: Site) -> None:
    done = site.parts.submit("a")
    one = site.parts.container(done.workload_id)
    share = replace(hold(), gpu_milli=250)
    items = hold_items(share, None, site.parts.books.credits.prices, "dc-rov-01")
    assert [(item.model, item.milli) for item in items] == [(V100, 250)]
    assert one.hold is None
