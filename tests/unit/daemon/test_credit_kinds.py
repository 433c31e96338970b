"""Resourcecredit, User and Usercredit: what is stored, refused and shown to whom."""

from zoneinfo import ZoneInfo

import pytest

from dorabatch.daemon.rights import Place, may, may_list
from dorabatch.errors import ManifestError, NotFound, UserError
from dorabatch.fairshare.money.week_start import ResetRule
from dorabatch.queue.records import Submitter
from dorabatch.resources.manifest import parse_manifest
from dorabatch.resources.verbs import Verb
from dorabatch.units import moment_of
from tests.makers import ALICE, BOB, V100, ZONE, later
from tests.unit.daemon.conftest import Parts, caller
from tests.unit.daemon.credits import PRICE, USER, Site, site_of

HOUR = 3600
CREDIT = 1_000_000
WEEK = 7 * 24 * HOUR


@pytest.fixture
def site(parts: Parts) -> Site:
    """A site without prices."""
    return site_of(parts)


def shown(site: Site, kind: str, name: str):
    """A record as an admin sees it."""
    return site.parts.find(kind, name)


@pytest.mark.parametrize(
    ("hour", "sentence"),
    [
        (-1, "must be a number of 0 or more"),
        ("cheap", "must be a number of 0 or more"),
        ("0.0000001", "six decimals"),
        ("true", "must be a number"),
    ],
)
def test_a_price_that_is_none_is_refused(hour: object, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        parse_manifest(PRICE.format(name=V100, hour=hour), path="x.yaml")


@pytest.mark.parametrize(
    ("moment", "sentence"),
    [("soon", "no moment"), ("2026-07-01T00:00:00", "names no time zone")],
)
def test_a_moment_that_is_none_is_refused(moment: str, sentence: str) -> None:
    text = PRICE.format(name=V100, hour=1) + f"  validFrom: '{moment}'\n"
    with pytest.raises(UserError, match=sentence):
        parse_manifest(text, path="x.yaml")


def test_a_price_of_the_past_is_refused(site: Site) -> None:
    text = PRICE.format(name=V100, hour=1) + "  validFrom: '2020-01-01T00:00:00Z'\n"
    with pytest.raises(UserError, match="is past; a price holds from now on"):
        site.apply(text)


@pytest.mark.mission("M79")
def test_prices_have_a_history_and_a_unit(site: Site) -> None:
    unit = "  annotations:\n    priceUnit: EUR\n"
    assert site.apply(PRICE.format(name=V100, hour=2.5) + unit).result == "created"
    assert site.apply(PRICE.format(name=V100, hour=2.5) + unit).result == (
        "not changed"
    )
    soon = later(HOUR).isoformat()
    text = PRICE.format(name=V100, hour=3) + unit + f"  validFrom: '{soon}'\n"
    assert site.apply(text).result == "updated"
    record = shown(site, "Resourcecredit", V100)
    assert (record["per_hour"], record["price_unit"]) == (2.5, "EUR")
    assert [row["per_hour"] for row in record["history"]] == [2.5, 3]
    site.wait(HOUR)
    assert shown(site, "Resourcecredit", V100)["per_hour"] == 3
    site.parts.delete(caller(is_admin=True), "Resourcecredit", V100)
    key = site.run("a")
    site.wait(HOUR)
    site.end(key)
    assert site.charged() == 0
    with pytest.raises(NotFound, match=r"no resourcecredit .*known: none"):
        shown(site, "Resourcecredit", V100)


def test_another_zone_is_refused(site: Site) -> None:
    with pytest.raises(UserError, match="'dc-two' is not served"):
        site.apply(PRICE.format(name=V100, hour=1).replace(ZONE, "dc-two"))


@pytest.mark.mission("M83")
def test_weekly_and_total_are_those_of_the_ledger(site: Site) -> None:
    site.price(2.5)
    site.weekly(5000)
    key = site.run("a", options={"gpus": "2"})
    site.wait(HOUR)
    record = shown(site, "Usercredit", "alice")
    assert (record["weekly"], record["used_this_week"], record["used"]) == (5000, 5, 5)
    site.wait(WEEK - HOUR)
    site.end(key)
    used = site.charged() / CREDIT
    record = shown(site, "Usercredit", "alice")
    assert (record["used"], record["weekly"]) == (used, 5000)
    assert record["used_this_week"] == pytest.approx(5 * 12, abs=1e-3)
    assert record["resets_at"] == "2026-01-19T00:00:00+00:00"


@pytest.mark.mission("M83")
def test_an_account_appears_at_its_first_use(site: Site) -> None:
    site.price(2.5)
    with pytest.raises(NotFound, match="no account 'alice' has credit or was ever"):
        shown(site, "Usercredit", "alice")
    key = site.run("a")
    site.wait(60)
    site.end(key)
    record = shown(site, "Usercredit", "alice")
    assert (record["available"], record["used"]) == (None, 2_500_000 // 60 / CREDIT)


@pytest.mark.mission("M64")
def test_others_accounts_are_an_admins(site: Site) -> None:
    site.weekly(500)
    site.weekly(300, name="bob")
    for kind in ("User", "Usercredit"):
        entry = site.parts.daemon.intake.kinds.of(kind)
        assert entry.rows is not None
        found = {row["name"]: entry.belongs(row).owner for row in entry.rows()}
        assert found == {"alice": "alice", "bob": "bob"}
        for name, sees in (("bob", True), ("alice", False)):
            place = Place(zone=ZONE, owner=found[name])
            assert may_list(caller(BOB), kind, place) is sees
            assert may(caller(BOB), Verb.GET_ONE, kind, place) is sees
            assert may_list(caller(is_admin=True), kind, place)


def test_accounts_are_not_applied_or_deleted(site: Site) -> None:
    entry = site.parts.daemon.intake.kinds.of("Usercredit")
    assert entry.apply is None
    assert entry.delete is None
    assert "kept by the daemon" in entry.kept_by


def make(site: Site, who: Submitter, name: str) -> None:
    """Somebody makes a workspace."""
    text = f"apiVersion: v1\nkind: Workspace\nmetadata:\n  name: {name}\n"
    (document,) = parse_manifest(text, path="x.yaml").documents
    site.parts.apply(caller(who), document)


def test_an_admins_default_workspace_may_be_anybodys(site: Site) -> None:
    make(site, BOB, "bob.paper")
    site.apply(
        "apiVersion: v1\nkind: User\nmetadata:\n  name: root\nspec:\n  default:\n"
        "    workspace: bob.paper\n"
    )
    assert site.parts.books.users.default_workspace("root") == "bob.paper"


def test_a_workspace_made_in_the_same_moment_stays_whose_it_is(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    rights = site.parts.books.rights
    make(site, BOB, "paper")
    with monkeypatch.context() as patch:
        patch.setattr(type(rights), "owner_of", lambda _rights, _name: None)
        make(site, ALICE, "paper")
    assert rights.owner_of("paper") == BOB.user


@pytest.mark.mission("M59")
def test_a_users_default_workspace_is_meant(site: Site) -> None:
    text = (
        "apiVersion: v1\nkind: User\nmetadata:\n  name: alice\nspec:\n  default:\n"
        "    workspace: alice.paper\n    zone: dc-rov-01\n"
    )
    with pytest.raises(UserError, match=r"'alice.paper': there is no such workspace"):
        site.apply(text)
    with pytest.raises(UserError, match="allowed are 'alice', and what alice makes"):
        site.apply(text)
    make(site, BOB, "bob.paper")
    with pytest.raises(UserError, match=r"'bob.paper': no role lets alice submit th"):
        site.apply(text.replace("alice.paper", "bob.paper"))
    assert site.parts.books.users.names() == []
    make(site, ALICE, "alice.paper")
    site.apply(text)
    people = site.parts.books.users
    assert people.default_workspace("alice") == "alice.paper"
    assert people.default_zone("alice") == ZONE
    assert people.default_workspace("bob") == "bob"


def test_a_raise_holds_at_once_and_less_from_the_next_week(site: Site) -> None:
    site.wait(WEEK - 12 * HOUR, beat=False)
    site.weekly(100)
    before = site.standing().available
    site.weekly(200)
    after = site.standing().available
    # Each amount is rounded down by itself.
    assert 0 <= after - 2 * before <= 1
    site.weekly(50)
    site.weekly(200)
    assert site.standing().available == after
    site.weekly(50)
    site.wait(WEEK)
    assert site.standing().available == 50 * CREDIT


@pytest.mark.mission("M86")
def test_weeks_begin_once_whatever_the_downtime(site: Site) -> None:
    site.weekly(500)
    site.wait(3 * WEEK)
    site.tend()
    assert site.standing().available == 500 * CREDIT
    assert len(site.entries("deposit")) == 2
    site.parts.clock.advance(-2 * WEEK)
    site.tend()
    assert len(site.entries("deposit")) == 2


def test_what_is_left_is_rolled_over_up_to_the_cap(site: Site) -> None:
    site.price(2.5)
    text = (
        "apiVersion: v1\nkind: User\nmetadata:\n  name: alice\nspec:\n  credits:\n"
        "  - zone: dc-rov-01\n    weekly: 500\n    rollover: 0.5\n"
    )
    site.apply(text)
    site.wait(WEEK)
    assert site.standing().available == 750 * CREDIT
    key = site.run("a", options={"gpus": "2"})
    site.wait(40 * HOUR)
    site.end(key)
    site.wait(WEEK - 41 * HOUR)
    # 550 are left: 50 of the rolled 250 end with the week, 250 of 500 live on.
    assert site.standing().available == 750 * CREDIT
    site.wait(WEEK)
    assert site.standing().available == 750 * CREDIT


def test_what_ran_before_the_reset_is_paid_by_the_old_week(site: Site) -> None:
    site.price(2.5)
    site.weekly(1000)
    site.wait(WEEK)
    site.tend()
    key = site.run("a", options={"gpus": "2"})
    ends = site.parts.books.credits.period(site.parts.clock.now()).end
    site.wait((ends - site.parts.clock.now()).total_seconds() + HOUR)
    site.tend()
    site.end(key)
    # An hour of the new week, less what the lien of the old one paid.
    assert site.standing().available >= 995 * CREDIT
    expired = sum(leg.ucr for e in site.entries("expire") for leg in e.legs[1:])
    assert expired > 0


@pytest.mark.mission("M86")
def test_weeks_follow_the_local_clock_over_its_changes(site: Site) -> None:
    site.parts.books.credits.rule = ResetRule(zone=ZoneInfo("Europe/Rome"), hour=2)
    site.weekly(500)
    # From January to May, over the change of 29 March, looking every 9 hours.
    for _ in range(16 * 7 * 24 // 9):
        site.wait(9 * HOUR)
    deposits = site.entries("deposit")
    assert len(deposits) == 17
    hours = {moment_of(one.posting.at).hour for one in deposits[1:]}
    assert hours == {0, 1}
    assert site.standing().available == 500 * CREDIT


@pytest.mark.parametrize(
    ("document", "field"),
    [
        (PRICE.format(name="V100", hour='"5"'), "spec.credit.per.hour"),
        (USER.format(name="ana", weekly='"5"'), "spec.credits[0].weekly"),
    ],
)
def test_a_number_in_quotes_is_no_amount(
    parts: Parts, document: str, field: str
) -> None:
    site, sentence = site_of(parts), "must be a number such as 2.5, not the text"
    with pytest.raises(ManifestError, match=sentence) as refused:
        site.apply(document)
    assert refused.value.field == field
    assert "without quotes" in refused.value.message
    # As a number it is taken, kept and read again.
    site.apply(document.replace('"', ""))
    accounts = parts.views.accounts
    prices = [row["per_hour"] for row in accounts.prices()]
    users = [row["credits"][0]["weekly"] for row in accounts.users()]
    assert [*prices, *users] == [5]
