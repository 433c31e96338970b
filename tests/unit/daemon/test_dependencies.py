"""Workloads that wait for others: what is named, what holds, what never will."""

from typing import Any

import pytest

from dorabatch.clock import FakeClock
from dorabatch.daemon.assembly import compose, parts_of
from dorabatch.daemon.cycle.waiting_reason import waiting_reason
from dorabatch.daemon.intake.quote import quote_text
from dorabatch.daemon.runs.settle import end_workloads, settle_gone
from dorabatch.daemon.state.wait_reason import WaitReason
from dorabatch.daemon.views.describe import describe_workload
from dorabatch.errors import NotAllowed, Refused
from dorabatch.queue import history
from dorabatch.queue import transitions as to
from dorabatch.queue.records import Container, Submitter
from dorabatch.queue.states import AfterStop, Outcome, State
from dorabatch.resources.dependency import TYPES
from tests.makers import ALICE, BOB, document, facts, hold, node_settings
from tests.unit.daemon.conftest import SECONDS, Parts

FAR = {"nodes": ["n9"]}


@pytest.fixture
def site(parts: Parts) -> Parts:
    """A daemon with one node of four GPUs that answers."""
    add_node(parts)
    return parts


def add_node(parts: Parts) -> None:
    parts.books.fleet.put(node_settings("n1"))
    parts.books.fleet.seen("n1", parts.clock.now(), facts())
    # Nothing starts here: it has never answered.
    parts.books.fleet.put(node_settings("n9"))


def submit(parts: Parts, name: str, who: Submitter = ALICE, **options: Any) -> int:
    """Submit as dsub does; the id."""
    new, _ = parts.intake.admit(parts.caller(who), document(name=name, **options))
    return parts.submissions.submit(new).result(SECONDS).workload_id


def apply(parts: Parts, name: str, **options: Any) -> tuple[str, str]:
    done = parts.applier.apply(parts.caller(), document(name=name, **options))
    return done.result, done.message


def end(parts: Parts, key: int, outcome: Outcome, code: int | None = None) -> None:
    """A workload of one container ends; one that waits starts before."""
    one = parts.container(key)
    if one.state is State.QUEUED:
        one = parts.run(one, hold(node=f"m{key}"))
    finish(parts, one, outcome, code)


def finish(
    parts: Parts, one: Container, outcome: Outcome, code: int | None = None
) -> None:
    now = parts.clock.now()
    stops = parts.change(one, lambda c: to.stopping(c, AfterStop.FINISH, outcome, ""))
    ended = parts.change(
        stops, lambda c: to.exited(c, exit_code=code, started_at=None, ended_at=now)
    )
    parts.effects.writer.do(lambda tx: settle_gone(tx, parts.books.billing, ended, now))


def cancel(parts: Parts, key: int) -> None:
    now = parts.clock.now()
    parts.effects.writer.do(lambda tx: end_workloads(tx, [key], reason="x", now=now))


def dependency(parts: Parts, key: int) -> str:
    return parts.books.board.workloads[key].dependency


def reason(parts: Parts, key: int) -> WaitReason:
    """Why it waits, after one more cycle."""
    parts.cycle.run()
    return waiting_reason(parts.books.latest.last, parts.container(key))


def starts(parts: Parts, key: int) -> bool:
    """Whether one more cycle finds it a place."""
    parts.cycle.run()
    return parts.container(key).state is State.PLACED


# -- what is named -------------------------------------------------------------


def test_names_become_ids_when_it_is_submitted(site: Parts) -> None:
    old = submit(site, "train", **FAR)
    cancel(site, old)
    new = submit(site, "train", **FAR)
    key = submit(site, "a", dependency=f"afterok:train:alice/train,after:{old}")
    assert dependency(site, key) == f"afterok:{new},after:{old}"
    cancel(site, new)
    submit(site, "train", **FAR)
    assert dependency(site, key) == f"afterok:{new},after:{old}"
    cancel(site, key)
    # Without a live one, the newest that has ended.
    cancel(site, 4)
    assert dependency(site, submit(site, "a", dependency="after:train")) == "after:4"


@pytest.mark.parametrize("ref", ["nosuch", "77", "0", "bob/nosuch"])
def test_what_does_not_exist_is_refused(site: Parts, ref: str) -> None:
    name = ref.rpartition("/")[2]
    with pytest.raises(
        Refused, match=rf"^spec.dependency: afterok: no workload '{name}'"
    ):
        submit(site, "a", dependency=f"afterok:{ref}")
    assert not site.books.board.workloads


def test_who_may_not_look_at_it_may_not_wait_for_it(site: Parts) -> None:
    theirs = submit(site, "train", BOB, **FAR)
    with pytest.raises(NotAllowed, match=r"^workload 1 .*may not"):
        submit(site, "a", dependency=f"afterok:{theirs}")
    for ref, workspace in (("bob/train", "bob"), ("train", "alice")):
        said = f"no workload 'train' in workspace '{workspace}'"
        with pytest.raises(Refused, match=said):
            submit(site, "a", dependency=f"afterok:{ref}")


# -- what holds ----------------------------------------------------------------

ENDS = {
    "done": (Outcome.DONE, 0),
    "failed": (Outcome.FAILED, 1),
    "late": (Outcome.TIMEOUT, 137),
    "lost": (Outcome.NODE_LOST, None),
}
HOLDS = {
    "after": {"done", "failed", "late", "lost"},
    "afterok": {"done"},
    "afternotok": {"failed", "late", "lost"},
    "afterany": {"done", "failed", "late", "lost"},
}


@pytest.mark.parametrize("how", ENDS)
@pytest.mark.parametrize("kind", TYPES)
def test_each_type_by_each_end(site: Parts, kind: str, how: str) -> None:
    first = submit(site, "first", **FAR)
    key = submit(site, "a", dependency=f"{kind}:first")
    told = f"waits for workload {first} ({kind}; it is queued)"
    assert reason(site, key) == ("Dependency", told)
    one = site.run(site.container(first), hold(node="m"))
    if kind == "after":
        assert starts(site, key)
        return
    told = f"waits for workload {first} ({kind}; it is running)"
    assert reason(site, key) == ("Dependency", told)
    finish(site, one, *ENDS[how])
    assert starts(site, key) == (how in HOLDS[kind])
    if how not in HOLDS[kind]:
        assert reason(site, key).code == "DependencyNever"


def test_a_requeued_attempt_is_a_start_and_no_end(site: Parts) -> None:
    first = submit(site, "first", **FAR)
    keys = [submit(site, kind, dependency=f"{kind}:first") for kind in TYPES]
    runs = site.run(site.container(first), hold(node="m"))
    stops = site.change(
        runs, lambda c: to.stopping(c, AfterStop.REQUEUE, None, "preempted")
    )
    now = site.clock.now()
    site.effects.writer.do(lambda tx: settle_gone(tx, site.books.billing, stops, now))
    assert site.container(first).started_at is None
    assert [starts(site, key) for key in keys] == [True, False, False, False]
    assert "it is queued" in reason(site, keys[1]).sentence
    # Who comes later knows of the first attempt too.
    assert starts(site, submit(site, "later", dependency="after:first"))


def test_what_was_placed_only_has_not_begun(site: Parts) -> None:
    first = submit(site, "first", **FAR)
    site.place(site.container(first), hold(node="m"))
    key = submit(site, "a", dependency="after:first")
    assert reason(site, key).sentence == "waits for workload 1 (after; it is placed)"


def test_the_end_of_a_workload_is_that_of_all_replicas(site: Parts) -> None:
    first = submit(site, "first", replicas="2", **FAR)
    keys = [submit(site, k, dependency=f"{k}:first") for k in ("afterok", "afternotok")]
    for replica, outcome in ((1, Outcome.FAILED), (2, Outcome.DONE)):
        assert not any(starts(site, key) for key in keys)
        one = site.run(site.container(first, replica), hold(node=f"m{replica}"))
        finish(site, one, outcome, 2 - replica)
    assert [starts(site, key) for key in keys] == [False, True]
    assert "ended with exit code 1" in reason(site, keys[0]).sentence


def test_one_without_containers_has_not_ended_until_it_is_deleted(site: Parts) -> None:
    first = submit(site, "first", replicas="0")
    keys = [submit(site, f"w{n}", dependency=f"{k}:1") for n, k in enumerate(TYPES)]
    told = "waits for workload 1 (afterok; it has not ended)"
    assert reason(site, keys[1]).sentence == told
    site.applier.delete(site.caller(), site.books.board.workloads[first])
    codes = ["DependencyNever", "DependencyNever"]
    assert [reason(site, key).code for key in keys[:2]] == codes
    assert site.container(keys[2]).state is State.PLACED
    # Read from the database, it is the same.
    made = restarted(site)
    said = made.books.dependencies.judged(keys)
    assert [str(one.verdict) for one in said if one] == [*["never"] * 2, *["holds"] * 2]
    stop(made)


def test_all_or_any_of_them(site: Parts) -> None:
    for name in "abcde":
        submit(site, name, **FAR)
    every = submit(site, "every", dependency="afterok:a:b,afterany:c:d:e")
    one_of = submit(site, "oneof", dependency="afterok:a?afterany:c")
    assert reason(site, every).sentence == (
        "waits for workload 1 (afterok; it is queued), workload 2 (afterok; it is "
        "queued), workload 3 (afterany; it is queued) and 2 more"
    )
    assert reason(site, one_of).sentence == (
        "waits for workload 1 (afterok; it is queued) or workload 3 (afterany; it is "
        "queued)"
    )
    end(site, 1, Outcome.FAILED, 1)
    assert reason(site, every).code == "DependencyNever"
    assert reason(site, one_of) == (
        "Dependency",
        "waits for workload 3 (afterany; it is queued)",
    )
    cancel(site, 3)
    assert starts(site, one_of)
    both = submit(site, "both", dependency="afterok:a?afterok:c")
    assert reason(site, both) == (
        "DependencyNever",
        "can never start: workload 1 ended with exit code 1 and afterok asks for "
        "success; workload 3 was cancelled and afterok asks for success",
    )


# -- what never will -----------------------------------------------------------


def test_what_can_never_start_stays_and_is_told(site: Parts) -> None:
    first = submit(site, "first", **FAR)
    end(site, first, Outcome.FAILED, 1)
    key = submit(site, "a", dependency="afterok:first")
    told = (
        "can never start: workload 1 ended with exit code 1 and afterok asks for "
        "success"
    )
    assert reason(site, key) == ("DependencyNever", told)
    workload = site.books.board.workloads[key]
    assert workload.ended_at is None
    said = site.views.why.text(workload, has_placement=False)
    assert told in said
    assert "  afterok:1 can never hold\n" in said
    assert "start: no forecast while it waits for what will never be" in said
    pending = site.books.board.pending.arrays()
    assert site.views.starts.of(pending, pending.group - key, site.clock.now()) == {}


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("after", "workload 1 ended before it began and after asks for its start"),
        ("afterok", "workload 1 was cancelled and afterok asks for success"),
        ("afternotok", None),
        ("afterany", None),
    ],
)
def test_one_that_was_cancelled_before_it_began(
    site: Parts, kind: str, told: str | None
) -> None:
    submit(site, "first", **FAR)
    key = submit(site, "a", dependency=f"{kind}:first")
    cancel(site, 1)
    if told is None:
        assert starts(site, key)
    else:
        assert reason(site, key) == ("DependencyNever", f"can never start: {told}")


def test_success_is_no_failure(site: Parts) -> None:
    submit(site, "first", **FAR)
    key = submit(site, "a", dependency="afternotok:first")
    end(site, 1, Outcome.DONE, 0)
    assert reason(site, key).sentence == (
        "can never start: workload 1 ended with success and afternotok asks for a "
        "failure"
    )


# -- chains and circles --------------------------------------------------------


def test_a_chain_starts_one_after_the_other(site: Parts) -> None:
    keys = [submit(site, "w1")]
    keys += [submit(site, f"w{n}", dependency=f"afterok:w{n - 1}") for n in (2, 3, 4)]
    for at, key in enumerate(keys):
        assert site.cycle.run().placed == 1
        assert site.container(key).state is State.PLACED
        runs = site.change(site.container(key), to.starting)
        runs = site.change(runs, lambda c: to.running(c, "d", site.clock.now()))
        assert site.cycle.run().placed == 0
        finish(site, runs, Outcome.DONE, 0)
        assert len(site.books.dependencies) == len(keys) - 1 - at or at == 0
    assert len(site.books.dependencies) == 0


def test_circles_are_refused(site: Parts) -> None:
    apply(site, "a", **FAR)
    apply(site, "b", dependency="afterok:a", **FAR)
    apply(site, "c", dependency="afterany:b?after:a", **FAR)
    with pytest.raises(Refused, match=r"^spec.dependency: workload 1 would wait for i"):
        apply(site, "a", dependency="afterok:a", **FAR)
    with pytest.raises(
        Refused, match=r"^spec.dependency: 1 waits for 3 waits for 1: nobody would eve"
    ):
        apply(site, "a", dependency="afterok:c", **FAR)
    assert dependency(site, 1) == ""
    assert len(site.books.dependencies) == 2
    cancel(site, 3)
    # Through what has ended there is no circle.
    assert apply(site, "a", dependency="afterany:3", **FAR)[0] == "updated"


def test_a_changed_dependency_counts_at_once(site: Parts) -> None:
    submit(site, "first", **FAR)
    assert apply(site, "a")[0] == "created"
    planner = site.cycle.planner
    scene = planner.scene(planner.snapshot(), site.clock.now())
    decision = planner.decide(scene)
    assert len(decision.plan.placements) == 1
    said = apply(site, "a", dependency="afterok:first")
    assert said == ("updated", "a: what it waits for")
    # What was planned before is out of date.
    assert site.cycle.hands.carry_out(scene, decision).placed == ()
    assert reason(site, 2).code == "Dependency"
    # The same words mean what they meant, whatever has the name now.
    cancel(site, 1)
    submit(site, "first", **FAR)
    assert apply(site, "a", dependency="afterok:first")[0] == "not changed"
    assert dependency(site, 2) == "afterok:1"
    assert reason(site, 2).code == "DependencyNever"
    assert apply(site, "a")[0] == "updated"
    assert starts(site, 2)
    assert len(site.books.dependencies) == 0


def test_a_new_spec_keeps_what_it_waits_for(site: Parts) -> None:
    submit(site, "first", **FAR)
    apply(site, "a", dependency="afterok:first")
    assert apply(site, "a", dependency="afterok:first", gpus="2")[0] == "updated"
    assert dependency(site, 2) == "afterok:1"
    assert reason(site, 2).code == "Dependency"
    assert apply(site, "a", dependency="afterok:first", gpus="2", replicas="2")
    assert [site.container(2, n).state for n in (1, 2)] == [State.QUEUED] * 2
    end(site, 1, Outcome.DONE)
    assert site.cycle.run().placed == 2


# -- memory and the database ---------------------------------------------------


def restarted(parts: Parts) -> Parts:
    """The daemon after a restart, with nothing in memory of what has ended."""
    limits = parts.books.settings.limits.model_copy(update={"ended_kept_in_memory": 0})
    settings = parts.books.settings.model_copy(update={"limits": limits})
    books, effects = compose(settings, FakeClock(parts.clock.now()))
    made = Parts(daemon=parts_of(books, effects), clock=parts.clock)
    add_node(made)
    return made


def stop(made: Parts) -> None:
    made.keepers.stop()
    made.effects.writer.stop()
    made.effects.engine.dispose()


def test_it_is_the_same_after_a_restart(site: Parts) -> None:
    for name in ("ok", "bad", "begun", "open"):
        submit(site, name, **FAR)
    wishes = ("afterok:ok", "afterok:bad", "after:begun", "afterany:open", "after:open")
    keys = [submit(site, f"w{n}", dependency=wish) for n, wish in enumerate(wishes)]
    end(site, 1, Outcome.DONE, 0)
    end(site, 2, Outcome.FAILED, 3)
    runs = site.run(site.container(3), hold(node="m3"))
    stops = site.change(runs, lambda c: to.stopping(c, AfterStop.REQUEUE, None, ""))
    now = site.clock.now()
    site.effects.writer.do(lambda tx: settle_gone(tx, site.books.billing, stops, now))
    made = restarted(site)
    try:
        assert 1 not in made.books.board.workloads
        said = made.books.dependencies.judged(keys)
        assert [str(one.verdict) for one in said if one] == [
            "holds", "never", "holds", "waits", "waits",
        ]  # fmt: skip
        assert "ended with exit code 3" in reason(made, keys[1]).sentence
        assert made.container(keys[0]).state is State.PLACED
        # Ended and forgotten at once; who waits has been told, who comes reads it.
        cancel(made, 4)
        assert 4 not in made.books.board.workloads
        assert starts(made, keys[3])
        key = submit(made, "late", dependency="afterok:2?afterok:bad")
        assert dependency(made, key) == "afterok:2"
        assert reason(made, key).code == "DependencyNever"
    finally:
        stop(made)


def test_nothing_is_kept_of_what_nobody_waits_for(site: Parts) -> None:
    submit(site, "first", **FAR)
    keys = [submit(site, f"w{n}", dependency="afterok:first") for n in range(3)]
    book = site.books.dependencies
    end(site, 1, Outcome.FAILED, 1)
    assert len(book) == 3
    for key in keys:
        cancel(site, key)
    assert len(book) == 0
    assert not any((book._waits, book._waiters, book._facts))


def test_a_record_tells_what_it_waits_for(site: Parts) -> None:
    submit(site, "first", **FAR)
    key = submit(site, "a", dependency="after:first,afterok:first")
    site.run(site.container(1), hold(node="m"))
    site.cycle.run()
    workload = site.books.board.workloads[key]
    record = site.views.records.record(workload)
    assert record["dependency"] == "after:1,afterok:1"
    assert record["spec"]["dependency"] == "after:first,afterok:first"
    assert "Depends on after:1,afterok:1\n" in describe_workload(record)
    why = site.views.why.record(workload)
    assert [(one["type"], one["id"], one["verdict"]) for one in why["dependency"]] == [
        ("after", 1, "holds"),
        ("afterok", 1, "waits"),
    ]
    text = site.views.why.text(workload, has_placement=False)
    assert "waits: waits for workload 1 (afterok; it is running)\n" in text
    assert "  afterok:1 does not hold yet\n  after:1 holds\n" in text
    with site.effects.engine.connect() as connection:
        (event,) = history.events_of(connection, workload.workload_id)
    assert event.text == "submitted by alice, starts after:1,afterok:1"


def test_a_quote_makes_no_forecast_for_it(site: Parts) -> None:
    submit(site, "first", **FAR)
    wanted = document(name="a", dependency="afterok:first")
    found = site.daemon.intake.quotes.quote(site.caller(), wanted)
    assert (found["start"], found["depends"]) == (None, True)
    assert "start: no forecast (it depends on other workloads)" in quote_text(found)
