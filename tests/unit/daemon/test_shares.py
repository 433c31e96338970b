"""The policy and the use that the daemon keeps: audited, rebuildable, crash-proof."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from dorabatch.daemon.assembly import compose
from dorabatch.daemon.runs.settle import settle_gone
from dorabatch.daemon.state.books import Books
from dorabatch.daemon.state.credit_book import run_name
from dorabatch.daemon.state.effects import Effects
from dorabatch.daemon.state.site_policy import Edit, SitePolicy
from dorabatch.daemon.state.usage_book import UsageBook
from dorabatch.db import Tx, Writer, transaction
from dorabatch.errors import ConfigError, NotFound, UserError
from dorabatch.fairshare.money.meter import Meter
from dorabatch.fairshare.store import share_store, terms
from dorabatch.fairshare.turn.account_tree import Account
from dorabatch.fairshare.turn.changes import Change
from dorabatch.fairshare.turn.usage import HalfLife
from dorabatch.queue import transitions as to
from dorabatch.queue.records import Container, Submitter
from dorabatch.queue.states import AfterStop, Outcome
from tests.makers import ALICE, BOB, RTX, START, V100, ZONE, hold
from tests.unit.daemon.conftest import Parts

DAY = 86_400
GPU_DAY = 1000.0 * DAY
CAROL = Submitter(user="carol", uid=2003, gid=2003)


def edit(parts: Parts, reason: str = "") -> Edit:
    return Edit(actor="root", now=parts.clock.now, reason=reason)


def say(parts: Parts, **assignments: str) -> list[Change]:
    wanted = {key.replace("__", "."): text for key, text in assignments.items()}
    return parts.books.policy.set(parts.effects.writer, edit(parts, "why"), wanted)


def add(parts: Parts, name: str, **row: Any) -> None:
    new = Account(name=name, **row)
    parts.books.policy.add(parts.effects.writer, edit(parts), new, [])


def end(parts: Parts, one: Container) -> None:
    """A running container is told to end and is gone at once."""
    parts.effects.writer.do(ending(parts, stopped(parts, one)))


def stopped(parts: Parts, one: Container) -> Container:
    """A running container that was told to end."""
    return parts.change(
        one, lambda c: to.stopping(c, AfterStop.FINISH, Outcome.DONE, "")
    )


def ending(parts: Parts, one: Container) -> Callable[[Tx], None]:
    """What is written once a stopped container is gone, seen at this moment."""
    now = parts.clock.now()

    def write(tx: Tx) -> None:
        settle_gone(tx, parts.books.billing, one, now)
        parts.books.usage.count_end(tx, one, now)

    return write


def start(parts: Parts, name: str, who: Submitter = ALICE, **where: Any) -> Container:
    """A workload of somebody, running."""
    done = parts.submit(name, submitter=who, workspace=who.user)
    one = parts.container(done.workload_id)
    return parts.run(one, hold(**where) if where else None)


def used(usage: UsageBook, now: Any) -> dict[str, float]:
    found = usage.standings(now)
    names = [name for name in found.tree.names if found.tree.is_user[found.node[name]]]
    return {name: float(found.usage.own[found.node[name]]) for name in names}


def reopened(parts: Parts, **policy: Any) -> tuple[Books, Effects]:
    """Another daemon on the same database, after the first died without a word."""
    parts.effects.writer.stop()
    settings = parts.books.settings.model_copy(update={"policy": policy})
    return compose(settings, parts.clock)


def close(effects: Effects) -> None:
    effects.writer.stop()
    effects.engine.dispose()


# -- settings ----------------------------------------------------------------


def test_a_change_is_checked_audited_and_kept(parts: Parts) -> None:
    policy = parts.books.policy
    (one, two) = say(parts, half_life="1d", weights__credit="0.3")
    assert (one.key, one.old, one.new) == ("half_life", "7d", "1d")
    assert (two.actor, two.reason) == ("root", "why")
    assert policy.settings.half_life_seconds == DAY
    books, effects = reopened(parts)
    assert books.policy.settings == policy.settings
    with effects.engine.connect() as connection:
        found = share_store.load_changes(connection, ZONE)
    assert found == [two, one]
    close(effects)


def test_nothing_is_half_done(parts: Parts) -> None:
    policy, before = parts.books.policy, parts.books.policy.settings
    nothing = {"weights__fair_share": "0", "weights__credit": "0", "weights__age": "0"}
    with pytest.raises(UserError, match="add up to nothing"):
        say(parts, half_life="1d", **nothing)
    assert policy.settings == before
    with parts.effects.engine.connect() as connection:
        assert share_store.load_changes(connection, ZONE) == []


def test_what_is_set_goes_before_the_file_and_can_be_taken_back(parts: Parts) -> None:
    say(parts, half_life="1d")
    books, effects = reopened(parts, half_life="3d", catch_up="1h")
    policy = books.policy
    assert policy.settings.texts["half_life"] == "1d"
    assert policy.source_of("half_life") == "set"
    assert policy.source_of("catch_up") == "file"
    assert policy.source_of("age_full") == "default"
    wanted = Edit(actor="root", now=parts.clock.now)
    (change,) = policy.set(effects.writer, wanted, {}, ["half_life"])
    assert (change.old, change.new) == ("1d", "3d")
    with pytest.raises(UserError, match=r"half_life was not set .*set are: none"):
        policy.set(effects.writer, wanted, {}, ["half_life"])
    with effects.engine.connect() as connection:
        (_, first) = share_store.load_changes(connection, ZONE)[:2]
    assert (first.actor, first.key, first.new) == ("dorad", "catch_up", "1h")
    close(effects)


def test_a_wrong_settings_file_is_refused_at_the_start() -> None:
    with pytest.raises(ConfigError, match=r"policy: half_life = 'soon'"):
        SitePolicy(ZONE, {"half_life": "soon"})
    with pytest.raises(ConfigError, match="add up to nothing"):
        zero = dict.fromkeys(("fair_share", "credit", "age", "slow_down"), 0)
        SitePolicy(ZONE, {"weights": zero})


def test_the_tree_is_changed_as_a_whole_or_not_at_all(parts: Parts) -> None:
    policy, writer = parts.books.policy, parts.effects.writer
    add(parts, "physics", shares=3)
    add(parts, "theory", parent="physics")
    add(parts, "alice", parent="theory", is_user=True)
    assert policy.accounts_of("alice") == ("theory", "physics")
    assert policy.accounts_of("nobody") == ()
    rows = policy.rows
    loop = Account(name="physics")
    with pytest.raises(UserError, match="form a loop"):
        policy.change(writer, edit(parts), loop, parent="theory", shares=None)
    with pytest.raises(NotFound, match="no account 'maths'"):
        policy.remove(writer, edit(parts), "maths", is_user=False)
    assert policy.rows == rows
    policy.change(writer, edit(parts), loop, parent=None, shares=9)
    policy.remove(writer, edit(parts), "alice", is_user=True)
    books, effects = reopened(parts)
    assert books.policy.rows == policy.rows
    with effects.engine.connect() as connection:
        texts = [c.new for c in share_store.load_changes(connection, ZONE)]
    assert texts[:2] == ["", "parent=- shares=9"]
    close(effects)


# -- use ---------------------------------------------------------------------


def test_use_grows_while_it_runs_and_fades_afterwards(parts: Parts) -> None:
    say(parts, half_life="never")
    one = start(parts, "a", gpus=("g1", "g2"), gpu_models=(V100, V100))
    parts.clock.advance(DAY)
    assert used(parts.books.usage, parts.clock.now())["alice"] == pytest.approx(
        2 * GPU_DAY
    )
    end(parts, one)
    say(parts, half_life="7d")
    parts.clock.advance(7 * DAY)
    assert used(parts.books.usage, parts.clock.now())["alice"] == pytest.approx(GPU_DAY)


def test_looking_often_changes_nothing(parts: Parts) -> None:
    start(parts, "a")
    start(parts, "b", BOB)
    for _ in range(50):
        parts.clock.advance(997)
        found = used(parts.books.usage, parts.clock.now())
    parts.effects.writer.do(lambda tx: None)
    assert found["alice"] == pytest.approx(found["bob"], rel=1e-12)


def busy_days(parts: Parts) -> None:
    """Runs that end and go on, a changed half-life, somebody who comes back."""
    usage, writer = parts.books.usage, parts.effects.writer

    def returns() -> None:
        now = parts.clock.now()
        writer.do(lambda tx: usage.join(tx, now, 4000.0))

    one = start(parts, "a")
    returns()
    parts.clock.advance(2 * DAY)
    two = start(parts, "b", BOB, gpus=("g2",), gpu_models=(RTX,))
    returns()
    parts.clock.advance(DAY)
    say(parts, half_life="1d")
    parts.clock.advance(DAY / 2)
    end(parts, one)
    end(parts, two)
    start(parts, "c", CAROL, gpus=("g3",))
    returns()
    parts.clock.advance(DAY)


def test_after_a_kill_use_is_the_same_and_equals_a_rebuild(parts: Parts) -> None:
    busy_days(parts)
    now = parts.clock.now()
    before = used(parts.books.usage, now)
    assert min(before.values()) > 0
    books, effects = reopened(parts)
    assert used(books.usage, now) == pytest.approx(before, rel=1e-9)
    with effects.engine.connect() as connection:
        fresh = books.usage.rebuild(connection, now)
    kept = books.usage.rows
    left = {
        name: row.used * float(books.policy.fading.kept(row.at / 1e6, now.timestamp()))
        for name, row in kept.items()
    }
    made = {name: row.used for name, row in fresh.items()}
    assert made == pytest.approx(left, rel=1e-9)
    assert {n for n, r in fresh.items() if r.is_active} == {"carol"}
    assert effects.writer.do(lambda tx: books.usage.renew(tx, now)) == {}
    close(effects)


def test_a_spoilt_cache_is_found_and_mended(parts: Parts) -> None:
    busy_days(parts)
    now, usage = parts.clock.now(), parts.books.usage
    before = used(parts.books.usage, now)
    with transaction(parts.effects.engine) as tx:
        row = share_store.get_usage(tx.connection, ZONE, "alice")
        assert row is not None
        wrong = share_store.UsageRow(name="alice", used=row.used + 5e6, at=row.at)
        share_store.save_usage(tx.connection, ZONE, wrong)
    changed = parts.effects.writer.do(lambda tx: usage.renew(tx, now))
    assert list(changed) == ["alice"]
    assert used(parts.books.usage, now) == pytest.approx(before, rel=1e-9)


class Interposed(Writer):
    """The daemon's writer, to which others get between a caller and its job."""

    def __init__(self, parts: Parts, when: str, other: Container) -> None:
        self._parts, self._when, self._other = parts, when, other

    def do(self, action: Callable[[Tx], Any]) -> Any:
        """Write the action, and the end of the other's run a day from it."""
        writer = self._parts.effects.writer
        if self._when == "before":
            self._end()
            return writer.do(action)
        if self._when == "after":
            answer = writer.do(action)
            self._end()
            return answer

        def both(tx: Tx) -> Any:
            answer = action(tx)
            self._parts.clock.advance(DAY)
            ending(self._parts, self._other)(tx)
            return answer

        return writer.do(both)

    def _end(self) -> None:
        self._parts.clock.advance(DAY)
        self._parts.effects.writer.do(ending(self._parts, self._other))
        self._parts.clock.advance(DAY)


def assert_equal_to_a_rebuild(parts: Parts) -> None:
    """Use in memory, after a kill and made anew from the runs is the same."""
    parts.clock.advance(DAY)
    now = parts.clock.now()
    before = used(parts.books.usage, now)
    books, effects = reopened(parts)
    assert used(books.usage, now) == pytest.approx(before, rel=1e-12)
    effects.writer.do(lambda tx: books.usage.renew(tx, now))
    assert used(books.usage, now) == pytest.approx(before, rel=1e-12)
    close(effects)


@pytest.mark.parametrize("when", ["before", "with", "after"])
def test_a_run_that_ends_beside_a_new_half_life_fades_right(
    parts: Parts, when: str
) -> None:
    earlier = start(parts, "a")
    parts.clock.advance(DAY)
    end(parts, earlier)
    running = stopped(parts, start(parts, "b", gpus=("g2",)))
    parts.clock.advance(DAY)
    policy, writer = parts.books.policy, Interposed(parts, when, running)
    (change,) = policy.set(writer, edit(parts), {"half_life": "1d"})
    seen = START.timestamp() + DAY * (4 if when == "before" else 2)
    assert change.at == seen * 1e6
    assert policy.fading.half_lives[-1] == HalfLife(since=seen, seconds=DAY)
    assert_equal_to_a_rebuild(parts)


def test_a_clock_that_is_set_back_keeps_the_order_of_half_lives(parts: Parts) -> None:
    one = start(parts, "a")
    parts.clock.advance(2 * DAY)
    say(parts, half_life="1d")
    end(parts, one)
    parts.clock.advance(-DAY)
    (change,) = say(parts, half_life="3d")
    assert change.at == (START.timestamp() + 2 * DAY) * 1e6
    assert parts.books.policy.fading.present == 3 * DAY
    parts.clock.advance(DAY)
    assert_equal_to_a_rebuild(parts)


def test_a_raise_of_before_the_end_of_a_run_fades_from_its_moment(parts: Parts) -> None:
    usage, writer = parts.books.usage, parts.effects.writer
    start(parts, "a", gpus=tuple("abcd"), gpu_models=(V100,) * 4)
    writer.do(lambda tx: usage.join(tx, parts.clock.now(), 4000.0))
    parts.clock.advance(7 * DAY)
    one = start(parts, "b", BOB, gpus=("e",))
    seen = parts.clock.now()
    parts.clock.advance(DAY)
    end(parts, one)
    parts.submit("c", submitter=BOB, workspace="bob")
    writer.do(lambda tx: usage.join(tx, seen, 4000.0))
    with parts.effects.engine.connect() as connection:
        (raised,) = share_store.load_raises(connection, ZONE)
    assert raised.amount > 0
    assert_equal_to_a_rebuild(parts)


def test_a_run_that_ends_before_a_rebuild_is_written_counts_whole(parts: Parts) -> None:
    one = start(parts, "a")
    parts.clock.advance(DAY)
    seen = parts.clock.now()
    parts.clock.advance(DAY)
    end(parts, one)
    usage, now = parts.books.usage, parts.clock.now()
    before = used(parts.books.usage, now)
    assert parts.effects.writer.do(lambda tx: usage.renew(tx, seen)) == {}
    assert used(parts.books.usage, now) == pytest.approx(before, rel=1e-12)


def test_who_returns_is_ahead_by_no_more_than_the_cap(parts: Parts) -> None:
    usage, writer = parts.books.usage, parts.effects.writer
    start(parts, "a", gpus=tuple("abcd"), gpu_models=(V100,) * 4)
    parts.effects.writer.do(lambda tx: usage.join(tx, parts.clock.now(), 4000.0))
    parts.clock.advance(7 * DAY)
    assert not usage.has_news()
    parts.submit("b", submitter=BOB, workspace="bob")
    assert usage.has_news()
    now = parts.clock.now()
    writer.do(lambda tx: usage.join(tx, now, 4000.0))
    found = used(parts.books.usage, now)
    # 12 hours of a half of four GPUs.
    assert found["alice"] - found["bob"] == pytest.approx(12 * 3600 * 2000.0)
    writer.do(lambda tx: usage.join(tx, now, 4000.0))
    assert used(parts.books.usage, now) == found


def test_a_user_with_the_name_of_an_account_is_somebody_else(parts: Parts) -> None:
    add(parts, "alice", shares=5)
    add(parts, "bob", parent="alice", is_user=True)
    one = start(parts, "a")
    parts.clock.advance(DAY)
    end(parts, one)
    start(parts, "b", BOB)
    found = parts.books.usage.standings(parts.clock.now())
    assert set(found.tree.names) == {"alice", "alice (user)", "bob"}
    assert set(found.node) == {"alice", "bob"}
    assert found.usage.own[found.node["alice"]] > 0


# -- order -------------------------------------------------------------------


def order_of(parts: Parts) -> list[int]:
    pending = parts.books.board.pending.arrays()
    ranked = parts.order.rank(pending, parts.clock.now())
    return pending.group[ranked.ranking.order].tolist()


def test_who_has_used_less_comes_first_and_shares_flip_it(parts: Parts) -> None:
    end_of = start(parts, "a1")
    parts.clock.advance(DAY)
    end(parts, end_of)
    mine = parts.submit("a2").workload_id
    hers = parts.submit("b", submitter=BOB, workspace="bob").workload_id
    one = start(parts, "b1", BOB)
    parts.clock.advance(DAY / 2)
    end(parts, one)
    assert order_of(parts) == [hers, mine]
    add(parts, "alice", shares=100, is_user=True)
    assert order_of(parts) == [mine, hers]


def test_qos_queue_and_nice_count(parts: Parts) -> None:
    say(parts, qos__high="2", queues__alice="1")
    plain = parts.submit("a").workload_id
    high = parts.submit("b", options={"qos": "high"}).workload_id
    low = parts.submit("c", options={"nice": "1000000"}).workload_id
    other = parts.submit("d", submitter=BOB, workspace="bob").workload_id
    assert order_of(parts)[0] == high
    assert order_of(parts).index(low) > order_of(parts).index(plain)
    say(parts, queues__alice="-1")
    assert order_of(parts).index(other) < order_of(parts).index(plain)


def test_shorter_runs_of_the_same_user_go_first_on_a_tie(parts: Parts) -> None:
    long = parts.submit("a", options={"time": "2d"}).workload_id
    short = parts.submit("b", options={"time": "1h"}).workload_id
    assert order_of(parts) == [short, long]


def test_what_lost_an_attempt_goes_before_others_of_its_rank(parts: Parts) -> None:
    first = parts.submit("a").workload_id
    lost = parts.submit("b").workload_id
    assert order_of(parts) == [first, lost]
    parts.change(
        parts.container(lost), lambda c: replace(c, rev=c.rev + 1, lost_requeues=1)
    )
    assert order_of(parts) == [lost, first]
    shorter = parts.submit("c", options={"time": "1h"}).workload_id
    assert order_of(parts) == [lost, shorter, first]


def test_what_a_node_lost_is_nobodys_use(parts: Parts) -> None:
    say(parts, half_life="never")
    one = start(parts, "a")
    parts.clock.advance(DAY)
    lost = parts.change(
        one, lambda c: to.stopping(c, AfterStop.REQUEUE, Outcome.NODE_LOST, "rebooted")
    )
    parts.effects.writer.do(ending(parts, lost))
    assert used(parts.books.usage, parts.clock.now())["alice"] == 0.0
    again = parts.run(parts.container(one.workload_id))
    parts.clock.advance(DAY)
    end(parts, again)
    now = parts.clock.now()
    assert used(parts.books.usage, now)["alice"] == pytest.approx(GPU_DAY)
    books, effects = reopened(parts)
    assert used(books.usage, now)["alice"] == pytest.approx(GPU_DAY)
    assert effects.writer.do(lambda tx: books.usage.renew(tx, now)) == {}
    close(effects)


def test_a_run_on_free_time_is_nobodys_use(parts: Parts) -> None:
    say(parts, half_life="never")
    one = start(parts, "a")
    parts.clock.advance(DAY)
    turn(parts, one, is_billed=True, number=0, seconds=-DAY)
    turn(parts, one, is_billed=False, number=1)
    parts.clock.advance(3 * DAY)
    now = parts.clock.now()
    assert used(parts.books.usage, now)["alice"] == pytest.approx(GPU_DAY)
    turn(parts, one, is_billed=True, number=2)
    parts.clock.advance(DAY)
    before = used(parts.books.usage, parts.clock.now())
    assert before["alice"] == pytest.approx(2 * GPU_DAY)
    end(parts, one)
    assert used(parts.books.usage, parts.clock.now()) == pytest.approx(before)
    books, effects = reopened(parts)
    assert effects.writer.do(lambda tx: books.usage.renew(tx, parts.clock.now())) == {}
    close(effects)


def turn(
    parts: Parts, one: Container, *, is_billed: bool, number: int, seconds: float = 0
) -> None:
    """A run's meter from now on: paid, or free."""
    meter = Meter(
        run=run_name(one),
        number=number,
        at=round((parts.clock.now().timestamp() + seconds) * 1e6),
        zone=ZONE,
        chain=("alice",),
        items=(),
        limit_us=None,
        is_billed=is_billed,
    )

    def write(tx: Tx) -> None:
        terms.add_meters(tx.connection, [meter])
        tx.note(meter)

    parts.effects.writer.do(write)
