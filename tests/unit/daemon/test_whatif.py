"""What-if: a site's history through the daemon's own cycle, played and compared."""

import json
import math
from datetime import datetime, timedelta
from typing import Any

import pytest

from dorabatch.cmds.whatif_command import table_lines
from dorabatch.config import Settings
from dorabatch.daemon.runs.settle import settle_gone
from dorabatch.daemon.state.facts_json import facts_to_json
from dorabatch.daemon.whatif.ask import HistoryReader
from dorabatch.daemon.whatif.compare import NOISE, credibility, verdict
from dorabatch.daemon.whatif.make_books import playable
from dorabatch.daemon.whatif.play import Pace, Play
from dorabatch.daemon.whatif.plot import plot_html
from dorabatch.daemon.whatif.site_history import (
    EarlierRun,
    PastJob,
    PastNode,
    PricedAt,
    WhatifQuestion,
    question_of,
    record_of,
)
from dorabatch.daemon.whatif.worker import answer
from dorabatch.db import Tx
from dorabatch.errors import NotFound
from dorabatch.fairshare.turn.account_tree import Account
from dorabatch.queue import transitions as to
from dorabatch.queue.states import AfterStop, Outcome
from dorabatch.resources.workload import canonical_json
from dorabatch.units import microseconds_of
from tests.makers import (
    ALICE,
    BOB,
    RTX,
    START,
    V100,
    document,
    facts,
    gpus,
    hold,
    node_settings,
)
from tests.unit.daemon.conftest import Parts

HOUR = 3600
BEGIN = microseconds_of(START)
AGE_ONLY = {"weights.fair_share": "0", "weights.credit": "0", "weights.age": "1"}
FAIR_ONLY = {"weights.fair_share": "1", "weights.credit": "0", "weights.age": "0"}
EXACT = Pace(least=1, again=1, look=1800)


def node(name: str, **has: Any) -> PastNode:
    """A node of four V100, or of what is said."""
    return PastNode(
        settings=node_settings(name), facts=facts_to_json(facts(hostname=name, **has))
    )


class Site:
    """A history in the making: what is submitted when, and how long it runs."""

    def __init__(self, *nodes: PastNode) -> None:
        self.nodes = nodes
        self.specs: dict[str, int] = {}
        self.jobs: list[PastJob] = []

    def add(
        self, user: str, at: int, seconds: int, *, replicas: int = 1, **options: Any
    ) -> int:
        """Something is submitted; the row of its first container."""
        text = canonical_json(document(**options).spec)
        spec = self.specs.setdefault(text, len(self.specs))
        first, moment = len(self.jobs), BEGIN + at * 1_000_000
        self.jobs += [
            PastJob(
                workload=first,
                replica=number,
                user=user,
                workspace=options.get("workspace", user),
                spec=spec,
                submitted_us=moment,
                started_us=moment,
                ended_us=moment + seconds * 1_000_000,
            )
            for number in range(1, replicas + 1)
        ]
        return first

    def question(
        self, now: dict[str, str] | None = None, **changes: Any
    ) -> WhatifQuestion:
        """The question about all of it."""
        base: dict[str, Any] = {
            "zone": "dc-rov-01",
            "start_us": BEGIN,
            "jobs": tuple(self.jobs),
            "earlier": (),
            "specs": tuple(self.specs),
            "nodes": self.nodes,
            "accounts": (),
            "people": {},
            "prices": (),
            "settings": Settings().model_dump(
                mode="json", include={"cycle", "credits"}
            ),
            "then": {"lane.fraction": "0"},
            "now": now or {},
            "shakes": 2,
        }
        return WhatifQuestion(**{**base, **changes})

    def starts(self, **texts: str) -> list[float]:
        """Seconds from the beginning to each start."""
        question = self.question()
        texts = {"lane.fraction": "0", **texts}
        return Play(question, texts, pace=EXACT).run().start_s.round().tolist()


# -- nodes -------------------------------------------------------------------


def test_free_gpus_of_two_nodes_are_not_room_for_one_job() -> None:
    site = Site(node("n1"), node("n2"))
    for name in ("n1", "n2"):
        site.add("ann", 0, HOUR, gpus="2", nodes=[name])
    wide = site.add("bob", 10, HOUR, gpus="4")
    narrow = site.add("bob", 20, HOUR, gpus="1", time="30m")
    found = site.starts()
    assert found[:2] == [0, 0]
    # Four of eight GPUs are free, two on each node.
    assert found[wide] == HOUR
    assert found[narrow] == 20


def test_a_job_of_one_model_waits_while_others_are_free() -> None:
    site = Site(node("n1"), node("n2", gpus=gpus(4, RTX)))
    site.add("ann", 0, HOUR, gpus="4", gpu_models=[V100])
    only = site.add("bob", 10, HOUR, gpus="1", gpu_models=[V100])
    either = site.add("bob", 20, HOUR, gpus="1", gpu_models=[V100, RTX])
    found = site.starts()
    assert (found[only], found[either]) == (HOUR, 20)


def test_cpu_jobs_memory_and_shares_take_room() -> None:
    site = Site(node("n1"))
    cores = site.add("ann", 0, HOUR, cpus=8)
    gpu = site.add("bob", 10, HOUR, gpus="1", cpus=1)
    shared = Site(node("n1", gpus=gpus(1)))
    for _ in range(3):
        shared.add("ann", 0, HOUR, gpus="1", gpu_share="0.5", cpus=1, memory="1Gi")
    large = Site(node("n1"))
    for _ in range(2):
        large.add("ann", 0, HOUR, gpus="1", cpus=1, memory="12Gi")
    assert [site.starts()[row] for row in (cores, gpu)] == [0, HOUR]
    assert sorted(shared.starts()) == [0, 0, HOUR]
    assert sorted(large.starts()) == [0, HOUR]


def test_a_node_that_is_off_takes_nothing_and_a_gone_one_asks_nothing() -> None:
    off = PastNode(
        settings=node_settings("n2", scheduling_disabled=True),
        facts=facts_to_json(facts(hostname="n2", gpus=gpus(4, RTX))),
    )
    site = Site(node("n1"), off)
    site.add("ann", 0, HOUR, gpus="1", nodes=["long-gone"])
    site.add("ann", 0, HOUR, gpus="1", gpu_models=[RTX])
    site.add("ann", 0, HOUR, gpus="5")
    kept = playable(site.question())
    assert [job.workload for job in kept.jobs] == [0]


# -- the order ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("texts", "options", "is_first"),
    [
        ({}, {}, False),
        ({"qos.high": "5"}, {"qos": "high"}, True),
        ({"qos.high": "0"}, {"qos": "high"}, False),
        ({"queues.fast": "5"}, {"workspace": "fast"}, True),
    ],
)
def test_qos_and_queues_change_the_order(
    texts: dict[str, str], options: dict[str, Any], is_first: bool
) -> None:
    site = Site(node("n1"))
    site.add("ann", 0, HOUR, gpus="4")
    plain = site.add("bob", 10, HOUR, gpus="4")
    other = site.add("bob", 20, HOUR, gpus="4", **options)
    found = site.starts(**AGE_ONLY, **texts)
    assert (found[other] < found[plain]) is is_first


def test_nice_lets_others_go_first() -> None:
    site = Site(node("n1"))
    site.add("ann", 0, HOUR, gpus="4")
    nice = site.add("bob", 10, HOUR, gpus="4", nice=100)
    plain = site.add("bob", 20, HOUR, gpus="4")
    found = site.starts()
    assert found[plain] < found[nice]


def test_what_ran_before_counts_as_use_and_for_guesses() -> None:
    site = Site(node("n1"))
    site.add("zoe", 0, HOUR, gpus="4")
    ann = site.add("ann", 10, HOUR, gpus="4")
    bob = site.add("bob", 20, HOUR, gpus="4")
    before = EarlierRun(
        user="ann",
        spec=0,
        gpu_models=(V100,) * 4,
        started_us=BEGIN - 50 * HOUR * 1_000_000,
        ended_us=BEGIN - HOUR * 1_000_000,
        outcome="done",
    )
    texts = {"lane.fraction": "0", **FAIR_ONLY}
    fresh = Play(site.question(), texts, pace=EXACT).run().start_s
    known = Play(site.question(earlier=(before,)), texts, pace=EXACT).run().start_s
    assert fresh[ann] < fresh[bob]
    assert known[bob] < known[ann]


def test_replicas_are_one_group_and_each_runs_its_own_time() -> None:
    site = Site(node("n1", gpus=gpus(2)))
    first = site.add("ann", 0, HOUR, replicas=3, gpus="1", cpus=1, memory="1Gi")
    found = site.starts()
    assert sorted(found[first:]) == [0, 0, HOUR]


# -- the lane and credit -----------------------------------------------------


def test_short_work_is_tried_in_the_lane() -> None:
    def wait_of_bob(*, may: bool) -> float:
        site = Site(node("n1"))
        for at in range(12):
            site.add("ann", 60 * at, 8 * HOUR, gpus="1", cpus=1, restartable=may)
        bob = site.add("bob", HOUR, 60, gpus="1", cpus=1, restartable=may)
        return site.starts(**{"lane.fraction": "0.25"})[bob] - HOUR

    assert wait_of_bob(may=True) < 600
    assert wait_of_bob(may=False) > 2 * HOUR


def weekly(amount: float, on_exhaust: str) -> str:
    """A user's document with so much a week."""
    credit = {"zone": "dc-rov-01", "weekly": str(amount), "onExhaust": on_exhaust}
    return json.dumps({"credits": [credit]})


def test_credit_keeps_waiting_what_it_does_not_cover() -> None:
    site = Site(node("n1"))
    rows = [
        site.add("ann", 60 * n, HOUR, gpus="1", cpus=1, time="1h") for n in range(3)
    ]
    price = PricedAt(zone="", model=V100, per_hour=1_000_000, valid_from_us=0)
    for on_exhaust, waits in (("stop", True), ("demote", False)):
        # The week's share of the days that are left is a little above 2.
        question = site.question(
            people={"ann": weekly(2.2, on_exhaust)}, prices=(price,)
        )
        played = Play(question, question.then, pace=EXACT).run()
        assert played.start_s[rows[1]] == 60
        assert bool(played.start_s[rows[2]] > 86_400) is waits
        assert played.short_s["ann"] == pytest.approx(120, abs=1)
        cost = [played.cost[row] for row in rows]
        # Of the last submission: it began 120 s after the first.
        assert cost == pytest.approx([120 / HOUR, 60 / HOUR, 0.0], abs=1e-6)


# -- the comparison ----------------------------------------------------------


def flooded(now: dict[str, str], **changes: Any) -> WhatifQuestion:
    """Ann floods four GPUs; Bob sends one job an hour."""
    site = Site(node("n1"))
    for at in range(60):
        site.add("ann", 60 * at, HOUR, gpus="1", cpus=1)
    for hour in range(1, 8):
        site.add("bob", HOUR * hour, HOUR, gpus="1", cpus=1)
    accounts = (Account(name="lab"), Account(name="ann", parent="lab", is_user=True))
    then = {"lane.fraction": "0", **FAIR_ONLY}
    return site.question({**then, **now}, then=then, accounts=accounts, **changes)


def test_a_difference_larger_than_the_shaking_is_named() -> None:
    told: list[float] = []
    result = answer(flooded(AGE_ONLY), told.append)
    bob = next(row for row in result["users"] if row["user"] == "bob")
    assert bob["wait_h"]["verdict"] == "higher"
    assert bob["wait_h"]["then"] < 1 < bob["wait_h"]["now"]
    low, high = bob["wait_h"]["now_range"]
    assert low <= bob["wait_h"]["now"] <= high
    assert result["changed"]["weights.age"] == ["0", "1"]
    assert told == sorted(told)
    assert told[-1] == pytest.approx(1.0)
    lines, page = "\n".join(table_lines(result)), plot_html(result)
    for text in ("ann", "bob", "all"):
        assert text in lines
        assert text in page
    # Two bars a figure for each of the three rows.
    assert page.count("<rect") == 12
    assert "weights.age: 0 -&gt; 1" in page and "(higher)" in page
    assert "as it was: mean wait 0.00 h; replayed under today's settings" in lines


def test_processes_beside_each_other_give_the_same_answer() -> None:
    question = flooded(AGE_ONLY, shakes=1)
    alone, beside = answer(question), answer(question, processes=2)
    assert alone == beside


def test_the_same_settings_are_inside_the_noise() -> None:
    result = answer(flooded({}))
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


def test_credibility_counts_waits_that_are_near() -> None:
    site = Site(node("n1"))
    for _ in range(3):
        site.add("ann", 0, HOUR, gpus="4")
    question = site.question()
    played = Play(question, question.then, pace=EXACT).run()
    # Really they all began at once; played they wait 0, 1 and 2 hours.
    found = credibility(question, played)
    assert found["real_wait_h"] == 0
    assert found["played_wait_h"] == pytest.approx(1.0)
    assert found["near"] == pytest.approx(1 / 3)
    played.wait_s[2] = math.nan
    assert credibility(question, played)["never_started"] == 1


def test_a_question_survives_the_way_to_the_process() -> None:
    question = flooded(AGE_ONLY)
    assert question_of(json.loads(json.dumps(record_of(question)))) == question


# -- the history -------------------------------------------------------------


def run_for(parts: Parts, name: str, hours: float, who: Any = ALICE) -> None:
    done = parts.submit(name, submitter=who, workspace=who.user)
    one = parts.run(parts.container(done.workload_id), hold())
    parts.clock.advance(hours * HOUR)
    stopped = parts.change(
        one, lambda c: to.stopping(c, AfterStop.FINISH, Outcome.DONE, "")
    )
    now = parts.clock.now()

    def write(tx: Tx) -> None:
        settle_gone(tx, parts.books.billing, stopped, now)

    parts.effects.writer.do(write)


def asked(
    parts: Parts, changes: dict[str, str], start: datetime, shakes: int
) -> WhatifQuestion:
    """The question as of now."""
    reader = HistoryReader(
        engine=parts.effects.engine,
        policy=parts.books.policy,
        users=parts.books.users,
        fleet=parts.books.fleet,
        credits=parts.books.credits,
        settings=parts.books.settings,
    )
    return reader.ask(changes, start, shakes, parts.clock.now())


def test_the_history_is_what_was_submitted_since_and_is_over(parts: Parts) -> None:
    parts.books.fleet.put(node_settings(), facts())
    start = parts.clock.now()
    run_for(parts, "old", 1)
    parts.clock.advance(HOUR)
    since = parts.clock.now()
    run_for(parts, "new", 2, BOB)
    parts.submit("waits", submitter=ALICE, workspace="alice")
    runs = parts.submit("runs", submitter=ALICE, workspace="alice")
    parts.run(parts.container(runs.workload_id), hold(gpus=("GPU-1",)))
    question = asked(parts, {"half_life": "1d"}, since, 2)
    assert [(job.user, job.is_counted) for job in question.jobs] == [
        ("bob", True),
        ("alice", False),
    ]
    assert question.jobs[0].run_us == pytest.approx(2 * HOUR * 1e6, abs=60e6)
    assert [run.user for run in question.earlier] == ["alice"]
    assert question.now["half_life"] == "1d"
    assert question.then["half_life"] == "7d"
    both = asked(parts, {"half_life": "1d"}, start, 2)
    assert sum(job.is_counted for job in both.jobs) == 2
    with pytest.raises(NotFound, match="longer --since"):
        asked(parts, {}, parts.clock.now() + timedelta(hours=1), 2)


def test_a_history_that_no_node_could_run_is_refused(parts: Parts) -> None:
    start = parts.clock.now()
    run_for(parts, "old", 1)
    parts.books.fleet.put(node_settings(), facts(gpus=()))
    with pytest.raises(NotFound, match="none of the 1 jobs fits a node"):
        asked(parts, {}, start, 1)
