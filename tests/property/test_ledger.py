"""Laws of the ledger under golden sequences, random operations and tampering."""

import gc
import json
import random
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from dorabatch.daemon.schema import migrate
from dorabatch.db import open_engine
from dorabatch.errors import UserError
from dorabatch.fairshare.money.book import Allocation, Posting
from dorabatch.fairshare.store import ledger, ledger_tables
from dorabatch.fairshare.store.ledger_check import FAULTS_MAX, LedgerCheck, check_ledger

GOLDEN = json.loads(
    (Path(__file__).parents[1] / "cases" / "credits_golden.json").read_text()
)
CREDIT = 1_000_000


@pytest.fixture
def engine(tmp_path):
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    migrate(url)
    made = open_engine(url)
    yield made
    made.dispose()


def do(kind, key, amount=0, *, run="", at=0, chain=("ana",), **more):
    return Posting(
        kind=kind, key=key, at=at, zone="z", chain=chain, amount=amount, run=run, **more
    )


def grant(connection, amount, account="ana", name="a", **more):
    row = Allocation(id=name, zone="z", account=account, **more)
    ledger.open_allocations(connection, [row])
    ledger.post(connection, [do("deposit", f"d/{name}", amount, allocation_id=name)])


def state(connection, account="ana", at=0):
    return ledger.balances(connection, "z", [account], at=at)[account]


def test_lien_table(engine):
    rows = GOLDEN["C3_lien"]
    with engine.begin() as c:
        grant(c, 500 * CREDIT)
        steps = [
            None,
            do("lien", "l", 20 * CREDIT, run="1/1"),
            do("charge", "c1", 5 * CREDIT, run="1/1", model="V100"),
            do("charge", "c2", 7_500_000, run="1/1", model="V100"),
        ]
        for step, row in zip(steps[:3], rows[:3], strict=True):
            if step:
                ledger.post(c, [step])
            now = state(c)
            assert (now.balance, now.liens, now.available) == (
                row["balance"],
                row["liens"],
                row["available"],
            )
        done = ledger.post(c, [steps[3], do("release", "r", run="1/1")])
        assert done[1].moved == rows[3]["released"]
        assert state(c).available == rows[3]["available"]
        assert check_ledger(c) == []


def test_exhaustion_table(engine):
    row = GOLDEN["C4_exhaustion"]
    with engine.begin() as c:
        grant(c, row["balance"])
        (refused,) = ledger.post(c, [do("lien", "x", row["need_3h"], run="1")])
        assert refused.short_by == 5 * CREDIT
        assert "has 10000000 ucr available" in refused.refused
        ok, later = ledger.post(
            c,
            [
                do("lien", "y", row["need_2h"], run="1"),
                do("lien", "w", row["second_job_need"], run="2"),
            ],
        )
        assert not ok.refused
        assert later.refused
        ledger.post(c, [do("charge", "c", 5 * CREDIT, run="1", model="V")])
        ledger.post(c, [do("release", "r", run="1")])
        assert state(c).available == row["available_after"]
        (second,) = ledger.post(c, [do("lien", "w", 2_500_000, run="2")])
        assert second.moved == 2_500_000


def test_refund_is_bounded_and_booked_once(engine):
    row = GOLDEN["C6_refund"]
    full = row["charge_10h_8xV100"]
    with engine.begin() as c:
        grant(c, 500 * CREDIT)
        ledger.post(c, [do("charge", "c", full, run="1", model="V")])
        back = do("refund", "f", row["refund_lost_2h"], run="1", reason="node lost")
        assert ledger.post(c, [back])[0].moved == row["refund_lost_2h"]
        assert ledger.post(c, [back])[0].repeated
        rest = do("refund", "g", full, run="1", reason="all of it")
        assert ledger.post(c, [rest])[0].moved == row["net"]
        with pytest.raises(UserError, match="no reason"):
            ledger.post(c, [do("refund", "h", 1, run="1")])
        assert state(c).available == 500 * CREDIT
        assert check_ledger(c) == []


def test_rolled_credit_is_spent_first_and_expires(engine):
    row = GOLDEN["C7_spend_order"]
    with engine.begin() as c:
        grant(c, 120 * CREDIT, name="old", kind="rolled", valid_to=100)
        grant(c, 500 * CREDIT, name="new", kind="week", valid_to=100)
        assert state(c).available == row["opening"]
        ledger.post(c, [do("charge", "c", row["spend"], run="1", model="V")])
        book = ledger.load_book(c, [do("read", "")])
        assert book.balances["avail:z:ana", "old"] == row["left_rolled"]
        assert book.balances["avail:z:ana", "new"] == row["left_new"]
        early, late = ledger.post(
            c,
            [
                do("expire", "e0", allocation_id="new", at=99),
                do("expire", "e1", allocation_id="new", at=100),
            ],
        )
        assert "still valid" in early.refused
        assert late.moved == row["left_new"]
        assert state(c, at=100).available == 0


def test_final_balances_table(engine):
    final = GOLDEN["C12_double_entry"]["final"]
    with engine.begin() as c:
        grant(c, 500 * CREDIT, name="w", valid_to=10)
        grant(c, 0, name="kept")
        ledger.post(
            c,
            [
                do("lien", "l", 10 * CREDIT, run="1"),
                do("charge", "c", 5 * CREDIT, run="1", model="V100"),
                do("release", "r", run="1"),
                do("transfer", "t", 250 * CREDIT, allocation_id="w", target_id="kept"),
                do("expire", "e", allocation_id="w", at=10),
            ],
        )
        book = ledger.load_book(c, [do("read", "", model="V100")])
        assert book.balances["mint", ""] == final["mint"]
        assert book.balances["revenue:z:V100", ""] == final["revenue:V100"]
        assert book.balances["expired", ""] == final["expired"]
        assert state(c, at=10).available == final["u:amedeo:avail"]
        assert sum(book.balances.values()) == 0


def test_every_ancestor_budget_is_checked_and_spent(engine):
    chain = ("ana", "lab", "top")
    with engine.begin() as c:
        grant(c, 10 * CREDIT)
        grant(c, 4 * CREDIT, account="lab", name="l")
        (refused,) = ledger.post(c, [do("lien", "x", 5 * CREDIT, run="1", chain=chain)])
        assert "'lab'" in refused.refused
        ledger.post(c, [do("lien", "y", 4 * CREDIT, run="1", chain=chain)])
        ledger.post(c, [do("charge", "c", CREDIT, run="1", chain=chain, model="V")])
        ledger.post(c, [do("release", "r", run="1", chain=chain)])
        assert state(c).available == 9 * CREDIT
        assert state(c, "lab").available == 3 * CREDIT
        assert not state(c, "top").limited
        assert check_ledger(c) == []


def cached(connection):
    rows = connection.execute(ledger_tables.BALANCES.select())
    return {tuple(row[:-1]): row[-1] for row in rows}


def random_postings(rng, count):
    kinds = ("deposit", "lien", "charge", "release", "refund", "expire", "transfer")
    made = []
    for number in range(count):
        kind = rng.choice(kinds)
        made.append(
            do(
                kind,
                f"{kind}/{rng.randrange(count)}" if number % 5 == 0 else f"k{number}",
                rng.randrange(10**7),
                run=f"r{rng.randrange(8)}" if kind in kinds[1:5] else "",
                chain=rng.choice([("ana", "lab"), ("bob", "lab"), ("free",)]),
                at=rng.randrange(200),
                allocation_id=rng.choice(["a", "b", "l"]),
                target_id=rng.choice(["a", "b", "l"]),
                model=rng.choice(["V", "W"]),
                segment=rng.randrange(2),
                reason="tried",
            )
        )
    return made


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32), size=st.integers(1, 60))
def test_laws_hold_for_random_operations(tmp_path_factory, seed, size):
    rng = random.Random(seed)
    url = f"sqlite:///{tmp_path_factory.mktemp('l') / 'x.db'}"
    migrate(url)
    made = open_engine(url)
    rows = [
        Allocation(id="a", zone="z", account="ana", valid_to=100),
        Allocation(id="b", zone="z", account="bob"),
        Allocation(id="l", zone="z", account="lab", valid_to=150),
    ]
    postings = random_postings(rng, size)
    with made.begin() as c:
        ledger.open_allocations(c, rows)
        ledger.open_allocations(c, rows)
        ledger.post(c, postings[: size // 2])
        ledger.post(c, postings[size // 2 :])
        assert check_ledger(c) == []
        before = cached(c)
        booked = {entry.posting.key for entry in ledger.entries(c)}
        again = [p for p in postings if p.key in booked]
        assert all(outcome.repeated for outcome in ledger.post(c, again))
        after = cached(c)
        assert after == before
        ledger.rebuild(c)
        assert check_ledger(c) == []
    made.dispose()


def test_entries_cannot_be_changed_or_deleted(engine):
    with engine.begin() as c:
        grant(c, CREDIT)
    for statement in (
        "UPDATE ledger_legs SET ucr = 5",
        "DELETE FROM ledger_txns",
        "UPDATE ledger_txns SET reason = 'x'",
        "DELETE FROM credit_allocations",
    ):
        with pytest.raises(IntegrityError, match="append-only"), engine.begin() as c:
            c.execute(text(statement))


@pytest.mark.parametrize(
    ("trigger", "tampering", "sentence"),
    [
        ("ledger_txns_no_update", "UPDATE ledger_txns SET reason='x'", "hash does not"),
        ("ledger_legs_no_update", "UPDATE ledger_legs SET ucr=ucr*2", "hash does not"),
        ("ledger_legs_no_update", "UPDATE ledger_legs SET ucr=1", "sum to zero"),
        (None, "UPDATE credit_balances SET ucr=1", "entries say"),
    ],
)
def test_tampering_is_found(engine, trigger, tampering, sentence):
    with engine.begin() as c:
        grant(c, CREDIT)
        if trigger:
            c.execute(text(f"DROP TRIGGER {trigger}"))
        c.execute(text(tampering))
        assert any(sentence in fault for fault in check_ledger(c))


def test_a_missing_entry_is_found(engine):
    with engine.begin() as c:
        grant(c, CREDIT)
        grant(c, CREDIT, name="b")
        for name in ("ledger_txns_no_delete", "ledger_legs_no_delete"):
            c.execute(text(f"DROP TRIGGER {name}"))
        c.execute(text("DELETE FROM ledger_legs WHERE txn_id = 1"))
        c.execute(text("DELETE FROM ledger_txns WHERE id = 1"))
        faults = check_ledger(c)
        assert any("entry 1 is missing" in fault for fault in faults)
        assert any("does not continue the hash" in fault for fault in faults)


BATCH = 3


@pytest.fixture
def long(engine):
    """Nine entries: a grant, then four charges and four refunds of two runs."""
    with engine.begin() as c:
        grant(c, 100 * CREDIT)
        for number in range(4):
            run = {"run": f"{number % 2}/1", "model": "V"}
            total = (number + 1) * CREDIT
            ledger.post(c, [do("charge", f"c{number}", total, **run)])
            ledger.post(c, [do("refund", f"f{number}", 5, reason="r", **run)])
        assert ledger.count_entries(c) == 9
        for trigger in ("txns_no_update", "legs_no_update", "txns_no_delete"):
            c.execute(text(f"DROP TRIGGER ledger_{trigger}"))
        c.execute(text("DROP TRIGGER ledger_legs_no_delete"))
    return engine


def forge(connection, number, **changes):
    """Change an entry so that its own hash is right again."""
    (stored,) = [
        one
        for batch in ledger.batches(connection)
        for one in batch
        if one.txn["id"] == number
    ]
    txn = {**stored.txn, **changes}
    row = ledger_tables.TXNS.c.id == number
    values = {**changes, "hash": ledger.hash_of(txn, stored.legs)}
    connection.execute(ledger_tables.TXNS.update().where(row).values(**values))


def found(connection, batch):
    return check_ledger(connection, batch=batch)


def test_no_size_of_a_batch_finds_anything_in_a_sound_ledger(long):
    with long.begin() as c:
        assert [found(c, batch) for batch in (1, 2, BATCH, 9, 10)] == [[]] * 5
        steps = [(one.done, one.entries) for one in LedgerCheck(c, batch=4).steps()]
        assert steps == [(4, 9), (8, 9), (9, 9)]


@pytest.mark.parametrize("number", [BATCH, BATCH + 1])
def test_a_forged_entry_breaks_the_chain_at_the_next(long, number):
    with long.begin() as c:
        forge(c, number, reason="forged")
        fault = f"entry {number + 1}: does not continue the hash of the one before"
        assert found(c, BATCH) == found(c, 10) == [fault]


def test_an_entry_missing_at_the_beginning_of_a_batch(long):
    with long.begin() as c:
        for name in ("legs WHERE txn_id", "txns WHERE id"):
            c.execute(text(f"DELETE FROM ledger_{name} = {BATCH + 1}"))
        faults = found(c, BATCH)
        gap = f"entry {BATCH + 2}: entry {BATCH + 1} is missing before it"
        assert gap in faults
        assert faults == found(c, 10)


@pytest.mark.parametrize("number", [BATCH, BATCH + 1])
def test_legs_that_do_not_sum_to_zero_beside_a_boundary(long, number):
    with long.begin() as c:
        where = f"txn_id = {number} AND ledger_account LIKE 'revenue:%'"
        c.execute(text(f"UPDATE ledger_legs SET ucr = ucr + 7 WHERE {where}"))
        forge(c, number)
        faults = found(c, BATCH)
        assert f"entry {number}: its legs do not sum to zero" in faults
        # The caches lack the seven, and the chain says that the entry was changed.
        assert any("credit_balances ('revenue:z:V', '')" in one for one in faults)
        assert any("credit_runs" in one for one in faults)
        assert faults == found(c, 10)


@pytest.mark.parametrize(
    ("tampering", "faults"),
    [
        (
            "UPDATE credit_balances SET ucr = ucr + 1 WHERE allocation_id = 'a'",
            ["credit_balances ('avail:z:ana', 'a'): cached 93000021, entries say "
             "93000020"],
        ),
        (
            "DELETE FROM credit_balances WHERE ledger_account = 'mint'",
            ["credit_balances ('mint', ''): cached 0, entries say -100000000"],
        ),
        (
            "INSERT INTO credit_balances VALUES ('avail:z:eve', 'e', 9)",
            ["credit_balances ('avail:z:eve', 'e'): cached 9, entries say 0"],
        ),
        (
            "UPDATE credit_runs SET ucr = ucr + 1 WHERE what = 'charged'",
            ["credit_runs ('0/1', 'charged', '0|z:V'): cached 3000001, entries say "
             "3000000",
             "credit_runs ('1/1', 'charged', '0|z:V'): cached 4000001, entries say "
             "4000000"],
        ),
        (
            "DELETE FROM credit_runs WHERE what = 'refunded' AND run = '1/1'",
            ["credit_runs ('1/1', 'refunded', 'z:V'): cached 0, entries say 10"],
        ),
        (
            "INSERT INTO credit_runs VALUES ('9/9', 'charged', 'x', 5)",
            ["credit_runs ('9/9', 'charged', 'x'): cached 5, entries say 0"],
        ),
    ],
)  # fmt: skip
@pytest.mark.parametrize("batch", [1, BATCH, 10])
def test_a_cache_that_entries_of_several_batches_contradict(
    long, batch, tampering, faults
):
    with long.begin() as c:
        c.execute(text(tampering))
        assert found(c, batch) == faults


def test_no_more_faults_are_kept_than_can_be_read(long):
    with long.begin() as c:
        rows = ",".join(f"('x{number}', '', 1)" for number in range(FAULTS_MAX + 5))
        c.execute(text(f"INSERT INTO credit_balances VALUES {rows}"))
        faults = found(c, BATCH)
        assert len(faults) == FAULTS_MAX + 1
        assert faults[-1] == f"there are more faults than these {FAULTS_MAX}"


def peak_of(connection, runs):
    """The most bytes that a check of so many more runs holds at once."""
    postings = [do("charge", f"m{run}", 1, run=f"m{run}", model="V") for run in runs]
    ledger.post(connection, postings)
    # What is garbage already is not to count, so it is collected early.
    before = gc.get_threshold()
    gc.set_threshold(200, 2, 2)
    tracemalloc.start()
    try:
        assert found(connection, 50) == []
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        gc.set_threshold(*before)


def test_memory_does_not_grow_with_the_ledger(engine):
    with engine.begin() as c:
        grant(c, 100 * CREDIT)
        peak_of(c, range(100))
        small, large = peak_of(c, range(100, 300)), peak_of(c, range(300, 3000))
        assert large < 1.5 * small


def test_bad_postings_are_refused(engine):
    with engine.begin() as c:
        with pytest.raises(UserError, match="kind 'steal' is unknown"):
            ledger.post(c, [do("steal", "s")])
        with pytest.raises(UserError, match="below zero"):
            ledger.post(c, [do("lien", "s", -1)])
        with pytest.raises(UserError, match="'ghost' does not exist"):
            ledger.post(c, [do("deposit", "s", 1, allocation_id="ghost")])
        grant(c, 1)
        with pytest.raises(UserError, match="other terms"):
            ledger.open_allocations(c, [Allocation(id="a", zone="z", account="bob")])
