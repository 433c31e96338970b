"""Orders by hand: what they move, what they refuse, and what is asked of the ledger."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from dorabatch.daemon.intake.credit_order import Order
from dorabatch.daemon.intake.credit_orders import OrderDone
from dorabatch.daemon.rights import Place, may
from dorabatch.daemon.views.credit import forecast_text, text_of
from dorabatch.errors import ConflictError, NotAllowed, NotFound, Refused, UserError
from dorabatch.fairshare.store import report_store
from dorabatch.resources.verbs import Verb
from dorabatch.units import credits_number, microseconds_of, number_text
from tests.makers import BOB, ZONE, later
from tests.unit.daemon.conftest import Parts, caller
from tests.unit.daemon.credits import Site, site_of

CREDIT = 1_000_000
HOUR = 3600
DAY = 24 * HOUR
ADMIN = caller(is_admin=True)


@pytest.fixture
def site(parts: Parts) -> Site:
    """Two users and a price of 2.5."""
    made = site_of(parts)
    made.price(2.5)
    made.apply("apiVersion: v1\nkind: User\nmetadata:\n  name: bob\n")
    made.apply("apiVersion: v1\nkind: User\nmetadata:\n  name: alice\n")
    return made


def do(
    site: Site, verb: str, account: str, credits: float | None = None, **more: Any
) -> OrderDone:
    """Carry out an order as an admin."""
    order = Order(
        verb=verb,
        account=account,
        amount=None if credits is None else int(credits * CREDIT),
        **{"reason": "because", **more},
    )
    return site.parts.daemon.intake.credit_orders.carry_out(ADMIN, order)


def test_a_grant_is_there_at_once_and_ends_in_time(site: Site) -> None:
    do(site, "grant", "alice", 100, valid_to=later(DAY))
    do(site, "grant", "alice", 10, valid_from=later(HOUR))
    assert site.standing().available == 100 * CREDIT
    site.wait(HOUR)
    assert site.standing().available == 110 * CREDIT
    site.wait(DAY)
    assert site.standing().available == 10 * CREDIT
    (deposit, _) = site.entries("deposit")
    assert (deposit.posting.actor, deposit.posting.reason) == ("alice", "because")


def test_the_same_key_moves_nothing_twice(site: Site) -> None:
    for verb, more in (
        ("grant", {"credits": 100}),
        ("transfer", {"credits": 10, "target": "bob"}),
        ("expire", {}),
    ):
        first = do(site, verb, "alice", key="k1", **more)
        before = site.standing().available
        again = do(site, verb, "alice", key="k1", **more)
        assert (first.is_repeated, again.is_repeated) == (False, True)
        assert again.moved == 0
        assert "used before for this" in again.message
        assert site.standing().available == before


@pytest.mark.parametrize(
    ("verb", "first", "second", "told"),
    [
        ("grant", {}, {"credits": 50}, r"grant 100 to alice.*: grant 50 to alice"),
        ("grant", {}, {"account": "bob"}, r"grant 100 to alice.*: grant 100 to bob"),
        ("grant", {}, {"reason": "more"}, r"\('because'\).*\('more'\)"),
        ("grant", {}, {"valid_to": later(DAY)}, r"until 2026-01-06T12:00:00"),
        ("grant", {"valid_to": later(DAY)}, {}, r"until 2026-01-06T12:00:00"),
        ("grant", {}, {"valid_from": later(DAY)}, r"alice on exhaust.*alice from 2026"),
        ("grant", {"valid_from": later(DAY)}, {}, r"from 2026-01-06T12:00:00"),
        ("grant", {"on_exhaust": "hold"}, {"on_exhaust": "demote"}, "on exhaust hold"),
        ("transfer", {}, {"credits": 11}, r"transfer 100 from alice to bob.*: tr.* 11"),
        ("transfer", {}, {"target": "carol"}, r"to bob.* to carol"),
        ("refund", {"credits": 1}, {"credits": 2}, r"refund 1 of 1\.1/1.*refund 2 of"),
        (
            "expire",
            {},
            {"allocation": "other"},
            r"expire grant:\S+ of.*expire other of",
        ),
    ],
)
def test_a_key_that_was_used_for_another_order_is_a_conflict(
    site: Site, verb: str, first: dict[str, Any], second: dict[str, Any], told: str
) -> None:
    site.apply("apiVersion: v1\nkind: User\nmetadata:\n  name: carol\n")
    do(site, "grant", "alice", 300, valid_to=later(30 * DAY))
    key = site.run("a")
    site.wait(2 * HOUR)
    site.end(key)
    usual: dict[str, dict[str, Any]] = {
        "grant": {"account": "alice", "credits": 100},
        "transfer": {"account": "alice", "credits": 100, "target": "bob"},
        "refund": {"account": f"{key}.1/1"},
        "expire": {"account": "alice"},
    }
    said = {**usual[verb], **first}
    do(site, verb, key="k1", **said)
    before, entries = site.standing().available, len(site.entries())
    site.parts.clock.advance(60)
    assert do(site, verb, key="k1", **said).is_repeated
    with pytest.raises(ConflictError, match=r"key 'k1' was used before, on 2026-01-05"):
        do(site, verb, key="k1", **{**usual[verb], **second})
    with pytest.raises(ConflictError, match=f"for another order: .*{told}"):
        do(site, verb, key="k1", **{**usual[verb], **second})
    assert (site.standing().available, len(site.entries())) == (before, entries)


def test_a_transfer_from_several_allocations_is_known_again(site: Site) -> None:
    do(site, "grant", "alice", 5, valid_to=later(DAY))
    do(site, "grant", "alice", 50)
    said = {"credits": 20, "target": "bob", "key": "k"}
    do(site, "transfer", "alice", **said)
    assert do(site, "transfer", "alice", **said).is_repeated
    # Keys look alike: "k" with a number behind is another one's.
    site.wait(1)
    assert not do(site, "transfer", "alice", **{**said, "key": "k:x"}).is_repeated
    assert do(site, "transfer", "alice", **said).is_repeated


def test_a_transfer_takes_what_ends_first_and_keeps_its_end(site: Site) -> None:
    do(site, "grant", "alice", 5, valid_to=later(DAY))
    do(site, "grant", "alice", 50)
    do(site, "transfer", "alice", 20, target="bob")
    assert site.standing().available == 35 * CREDIT
    assert site.standing("bob").available == 20 * CREDIT
    site.wait(DAY)
    assert site.standing("bob").available == 15 * CREDIT


def test_a_refund_is_at_most_the_charge(site: Site) -> None:
    do(site, "grant", "alice", 100)
    key = site.run("a", options={"gpus": "2"})
    site.wait(HOUR)
    site.end(key)
    run = f"{key}.1/1"
    with pytest.raises(Refused, match=r"6 are more than the 5 that it was charged"):
        do(site, "refund", run, 6)
    with pytest.raises(Refused, match="amount 0: nothing to refund"):
        do(site, "refund", run, 0)
    do(site, "refund", run, 2)
    assert site.standing().available == 97 * CREDIT
    do(site, "refund", run)
    assert site.standing().available == 100 * CREDIT
    with pytest.raises(Refused, match="refunded already"):
        do(site, "refund", run)


@pytest.mark.parametrize(
    ("order", "error", "sentence"),
    [
        (("grant", "alcie", 1), NotFound, r"no account 'alcie' \(did you mean 'alice"),
        (("grant", "alice", 0), Refused, "nothing to grant"),
        (("transfer", "alice", 20, "bob"), Refused, "has 10 available, 20 are to be"),
        (("transfer", "bob", 1, "alice"), Refused, "'bob' has 0 available"),
        (("transfer", "alice", 1, "alice"), Refused, "to itself"),
        (("transfer", "alice", 1, "nobody"), NotFound, "no account 'nobody'"),
        (("refund", "9.1/1", 1), NotFound, "nothing was charged"),
        (("expire", "ghost", 0), NotFound, "no account 'ghost'"),
        (("steal", "alice", 1), UserError, "allowed: grant, transfer, refund, expire"),
    ],
)
def test_what_cannot_be_is_refused(
    site: Site, order: tuple[Any, ...], error: type[Exception], sentence: str
) -> None:
    do(site, "grant", "alice", 10)
    before = site.standing()
    verb, account, amount, *target = order
    with pytest.raises(error, match=sentence):
        do(site, verb, account, amount, target=target[0] if target else "")
    assert site.standing() == before


def test_orders_need_a_reason_an_end_after_the_beginning_and_an_admin(
    site: Site,
) -> None:
    with pytest.raises(UserError, match="say why"):
        do(site, "grant", "alice", 1, reason=" ")
    with pytest.raises(Refused, match="ends before it begins"):
        do(site, "grant", "alice", 1, valid_from=later(DAY), valid_to=later(HOUR))
    with pytest.raises(Refused, match=r"--until 2026-01-04.*: is past; give a later"):
        do(site, "grant", "alice", 1, valid_to=later(-DAY))
    with pytest.raises(Refused, match=r"--on-exhaust 'cry' \(allowed: demote, hold"):
        do(site, "grant", "alice", 1, on_exhaust="cry")
    with pytest.raises(NotFound, match="no allocation 'x'"):
        do(site, "expire", "alice", allocation="x")
    order = Order(verb="grant", account="bob", amount=CREDIT, reason="me")
    with pytest.raises(NotAllowed, match="dcredit grant: bob may not Apply User"):
        site.parts.daemon.intake.credit_orders.carry_out(caller(BOB), order)


def test_a_statement_sums_to_the_ledger(site: Site) -> None:
    do(site, "grant", "alice", 100, valid_to=later(3 * DAY))
    key = site.run("a", options={"gpus": "3"})
    site.wait(1000)
    site.end(key)
    do(site, "transfer", "alice", 10, target="bob")
    do(site, "refund", f"{key}.1/1", 1)
    site.wait(4 * DAY)
    answers = site.parts.views.credit
    now = site.parts.clock.now()
    whole = answers.statement("alice", later(-1), now)
    assert whole["closing"] == credits_number(site.standing().balance) == 0
    assert (whole["deposits"], whole["transferred"]) == (100, -10)
    assert whole["models"][0]["used"] == whole["charges"] - whole["refunds"]
    parts = [
        answers.statement("alice", later(-1), later(500)),
        answers.statement("alice", later(500), now),
    ]
    assert parts[1]["opening"] == parts[0]["closing"]
    assert parts[1]["closing"] == whole["closing"]
    assert "closing" in text_of(whole)


def test_balance_and_statement_agree_on_credit_that_begins_later(site: Site) -> None:
    do(site, "grant", "alice", 10)
    do(site, "grant", "alice", 100, valid_from=later(DAY), valid_to=later(9 * DAY))
    do(site, "grant", "bob", 5, valid_from=later(2 * DAY))
    site.wait(HOUR)
    answers, books = site.parts.views.credit, {}
    for at in (HOUR, 3 * DAY):
        site.wait(at - HOUR)
        now = site.parts.clock.now()
        balance = answers.balance("alice")
        statement = answers.statement("alice", later(-1), now)
        assert statement["closing"] == 110
        assert statement["closing"] == balance["balance"] + balance["later"]
        assert statement["later"] == balance["later"]
        books[at] = (balance["balance"], balance["later"])
        with site.parts.effects.engine.connect() as connection:
            found = report_store.credit_later(connection, microseconds_of(now))
        wanted = {(ZONE, "alice"): 100 * CREDIT, (ZONE, "bob"): 5 * CREDIT}
        assert found == (wanted if at == HOUR else {})
    assert books == {HOUR: (10, 100), 3 * DAY: (110, 0)}


def test_a_forecast_has_a_range(site: Site) -> None:
    do(site, "grant", "alice", 1000)
    answers = site.parts.views.credit
    assert answers.forecast("alice")["ends_at"] is None
    key = site.run("a", options={"gpus": "1"})
    for _ in range(7):
        site.wait(DAY)
    site.end(key)
    found = answers.forecast("alice")
    assert found["burn_per_day"] == 30
    assert (found["burn_low"], found["burn_high"]) == (30, 60)
    assert found["ends_soonest"] < found["ends_at"] == found["ends_latest"]
    assert "30 a day" in forecast_text(found)


@pytest.mark.mission("M84")
def test_a_balance_is_of_a_known_account_or_of_who_asks(site: Site) -> None:
    do(site, "grant", "bob", 7)
    answers = site.parts.views.credit
    record = answers.balance("bob")
    assert (record["available"], record["used"]) == (7, 0)
    assert record["allocations"][0]["kind"] == "grant"
    with pytest.raises(NotFound, match="no account 'ghost'"):
        answers.balance("ghost")
    assert answers.balance("ghost", asker="ghost")["used"] == 0
    others = Place(zone=ZONE, owner="alice")
    assert not may(caller(BOB), Verb.GET_ONE, "Usercredit", others)
    with pytest.raises(UserError, match="is not after"):
        answers.statement("bob", later(-1), later(-2))
    for end in (-DAY, 2 * DAY):
        with pytest.raises(UserError, match=r"--from 2026-01-06.* in the future"):
            answers.statement("bob", later(DAY), later(end))


def test_a_spoilt_ledger_is_named(site: Site) -> None:
    do(site, "grant", "alice", 7)
    answers = site.parts.views.credit
    *steps, found = answers.check()
    assert found["result"] == {"entries": 1, "faults": []}
    assert found["text"] == "1 entries: hashes, sums and caches are right\n"
    assert steps == [{"done": 1, "of": 1}]
    with site.parts.effects.engine.begin() as connection:
        connection.execute(text("UPDATE credit_balances SET ucr = ucr + 1"))
    *_, found = answers.check()
    assert "cached 7000001, entries say 7000000" in found["text"]
    assert len(found["result"]["faults"]) == 2


def test_a_grant_lets_what_waits_start(site: Site) -> None:
    do(site, "grant", "alice", 1, valid_to=later(HOUR))
    done = site.parts.submit("a", options={"time": "1h"})
    site.cycle()
    waits = site.parts.container(done.workload_id)
    assert "no weekly credit; ask an admin for a grant" in site.reason(waits)
    do(site, "grant", "alice", 100)
    site.cycle()
    site.start(done.workload_id)
    assert site.parts.clock.now() - later(0) == timedelta(0)


@pytest.mark.parametrize(
    ("amount", "shown"),
    [(-1, "-0.000001"), (69_560_830, "69.56083"), (5 * CREDIT, "5")],
)
def test_an_amount_is_shown_without_an_exponent(amount: int, shown: str) -> None:
    assert number_text(credits_number(amount)) == shown
