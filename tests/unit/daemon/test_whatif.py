"""What-if: the history in the database, played in another process, compared."""

import json
from dataclasses import asdict
from datetime import timedelta
from typing import Any

import pytest

from dorabatch.cmds.whatif import table_lines
from dorabatch.daemon.api.whatif import ask
from dorabatch.daemon.settle import settle_gone
from dorabatch.daemon.whatif.compare import (
    NOISE,
    PastJob,
    Question,
    answer,
    plot_html,
    verdict,
)
from dorabatch.daemon.whatif.worker import question_of
from dorabatch.db import Tx
from dorabatch.errors import NotFound
from dorabatch.fairshare.shares import Account
from dorabatch.queue import transitions as to
from dorabatch.queue.states import AfterStop, Outcome
from tests.makers import ALICE, BOB, hold
from tests.unit.daemon.conftest import Parts

HOUR = 3600.0


def make_question(now: dict[str, str], **changes: Any) -> Question:
    """Ann floods four GPUs; Bob sends one job an hour."""
    jobs = [
        PastJob(
            user="ann", submit=60.0 * n, seconds=HOUR, limit=None, gpus=1, may_try=False
        )
        for n in range(60)
    ] + [
        PastJob(
            user="bob", submit=HOUR * n, seconds=HOUR, limit=None, gpus=1, may_try=False
        )
        for n in range(1, 8)
    ]
    base: dict[str, Any] = {
        "jobs": tuple(jobs),
        "accounts": (
            Account(name="lab"),
            Account(name="ann", parent="lab", is_user=True),
        ),
        "then": {"weights.fair_share": "1", "weights.credit": "0", "weights.age": "0"},
        "now": now,
        "credits": {"ann": 10.0},
        "price": 1.0,
        "capacity": 4,
        "shakes": 3,
    }
    return Question(**{**base, **changes})


AGE_ONLY = {"weights.fair_share": "0", "weights.credit": "0", "weights.age": "1"}


def test_a_difference_larger_than_the_shaking_is_named() -> None:
    told: list[float] = []
    result = answer(make_question(AGE_ONLY), told.append)
    bob = next(row for row in result["users"] if row["user"] == "bob")
    assert bob["wait_h"]["verdict"] == "higher"
    assert bob["wait_h"]["then"] < 1 < bob["wait_h"]["now"]
    low, high = bob["wait_h"]["now_range"]
    assert low <= bob["wait_h"]["now"] <= high
    assert result["changed"]["weights.age"] == ["0", "1"]
    assert told == sorted(told)
    assert told[-1] == 1.0
    ann = next(row for row in result["users"] if row["user"] == "ann")
    assert 2 * HOUR <= ann["exhausted_then_s"] <= 4 * HOUR
    assert bob["exhausted_then_s"] is None


def test_the_same_settings_are_inside_the_noise() -> None:
    question = make_question({})
    result = answer(make_question(dict(question.then)))
    for row in [result["over_all"], *result["users"]]:
        assert {row[key]["verdict"] for key in ("wait_h", "slowdown")} == {NOISE}


@pytest.mark.parametrize(
    ("then", "now", "says"),
    [
        ((1.0, 2.0), (3.0, 4.0), "higher"),
        ((3.0, 4.0), (1.0, 2.0), "lower"),
        ((1.0, 3.0), (2.0, 4.0), NOISE),
        ((1.0, 1.0), (1.0, 1.0), NOISE),
    ],
)
def test_verdicts(then: tuple[float], now: tuple[float], says: str) -> None:
    assert verdict(then, now) == says


def test_table_and_plot_name_everybody() -> None:
    result = answer(make_question(AGE_ONLY))
    lines = "\n".join(table_lines(result))
    page = plot_html(result)
    for text in ("ann", "bob", "all"):
        assert text in lines
        assert text in page
    assert "USED UP" in lines
    assert page.count("<rect") == 6
    assert "weights.age: 0 -" in page


def run_for(parts: Parts, name: str, hours: float, who: Any = ALICE) -> None:
    done = parts.submit(name, submitter=who, workspace=who.user)
    one = parts.run(parts.container(done.workload_id), hold())
    parts.clock.advance(hours * HOUR)
    stopped = parts.change(
        one, lambda c: to.stopping(c, AfterStop.FINISH, Outcome.DONE, "")
    )
    now = parts.clock.now()

    def write(tx: Tx) -> None:
        settle_gone(tx, parts.services.billing, stopped, now)

    parts.services.writer.do(write)


def test_the_history_is_what_was_submitted_since_and_is_over(parts: Parts) -> None:
    start = parts.clock.now()
    run_for(parts, "old", 1)
    parts.clock.advance(HOUR)
    since = parts.clock.now()
    run_for(parts, "new", 2, BOB)
    parts.submit("waits", submitter=ALICE, workspace="alice")
    question = ask(parts.services, {"half_life": "1d"}, since, 2)
    assert [job.user for job in question.jobs] == ["bob"]
    assert question.jobs[0].seconds == pytest.approx(2 * HOUR, abs=60)
    assert question.now["half_life"] == "1d"
    assert question.then["half_life"] == "7d"
    both = ask(parts.services, {"half_life": "1d"}, start, 2)
    assert len(both.jobs) == 2
    with pytest.raises(NotFound, match="longer --since"):
        ask(parts.services, {}, parts.clock.now() + timedelta(hours=1), 2)


def test_a_question_survives_the_way_to_the_process() -> None:
    question = make_question(AGE_ONLY)
    from_text = question_of(json.loads(json.dumps(asdict(question))))
    assert from_text == question


def test_a_lane_lets_short_work_through_that_may_be_begun_anew():
    def short(may_try: bool) -> tuple[PastJob, ...]:
        return tuple(
            PastJob(
                user=user,
                submit=600.0 * n,
                seconds=seconds,
                limit=None,
                gpus=1,
                may_try=may_try,
            )
            for user, seconds in (("ann", 8 * HOUR), ("bob", 60.0))
            for n in range(1, 20)
        )

    def verdict_of_bob(jobs: tuple[PastJob, ...]) -> str:
        then, now = {"lane.fraction": "0"}, {"lane.fraction": "0.25"}
        result = answer(make_question(now, then=then, jobs=jobs))
        (bob,) = (row for row in result["users"] if row["user"] == "bob")
        return str(bob["wait_h"]["verdict"])

    assert verdict_of_bob(short(may_try=True)) == "lower"
    assert verdict_of_bob(short(may_try=False)) != "lower"
