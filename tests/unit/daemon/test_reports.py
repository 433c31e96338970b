"""Reports from a daemon's own books: what they say, to whom, and in which form."""

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dorabatch.config import MailSettings, Settings
from dorabatch.daemon.timers.assembly import mail_sender_of
from dorabatch.daemon.views.report.gather import MAKERS, ReportQuestion
from dorabatch.daemon.views.report.render import MEDIA, render
from dorabatch.daemon.views.report.report_period import Wanted
from dorabatch.errors import ConflictError, NotAllowed, NotFound, UserError
from dorabatch.fairshare.money.report_rows import LedgerMove
from dorabatch.fairshare.report.report_credit import (
    STATEMENT_COLUMNS,
    CreditBooks,
    closing_line,
    statement_sheets,
)
from dorabatch.fairshare.report.sheet import Sheet
from dorabatch.fairshare.store import ledger
from dorabatch.fairshare.store.ledger_check import check_ledger
from dorabatch.fairshare.store.share_store import (
    StartForecast,
    add_forecasts,
    score_forecast,
)
from dorabatch.resources.cluster import NodeSpec
from dorabatch.resources.manifest import parse_manifest
from dorabatch.units import credits_number, microseconds_of
from tests.mail_sink import MailSink, mail_sink
from tests.makers import ALICE, BOB, V100, ZONE, later
from tests.unit.daemon.conftest import Parts, caller
from tests.unit.daemon.credits import Site, site_of

CREDIT = 1_000_000
HOUR = 3600
ROOT = caller(ALICE, is_admin=True)
CAROL = replace(BOB, user="carol")
WORKSPACE = "{apiVersion: v1, kind: Workspace, metadata: {name: carol}}"
KEY = "SHA256:" + "A" * 43
FORECAST_FIELDS = {
    "balance": "balance",
    "burn_per_day": "pace",
    "burn_low": "pace_low",
    "burn_high": "pace_high",
}
FORECAST_MOMENTS = {
    "ends_at": "ends",
    "ends_soonest": "ends_low",
    "ends_latest": "ends_high",
}


@pytest.fixture
def sink() -> Iterator[MailSink]:
    with mail_sink() as made:
        yield made


@pytest.fixture
def settings(tmp_path: Path, sink: MailSink) -> Settings:
    """Settings of a daemon that mails to users of site.example."""
    mail = MailSettings(host="127.0.0.1", port=sink.port, domain="site.example")
    return Settings(
        zone=ZONE, state_dir=tmp_path, socket=tmp_path / "dorad.sock", mail=mail
    )


@pytest.fixture
def site(parts: Parts) -> Site:
    """Alice used 2 x 2 GPU-hours at 2.5, bob one; a wait of an hour comes first."""
    made = site_of(parts)
    made.price(2.5)
    made.weekly(700)
    made.weekly(70, name="bob")
    made.tend()
    two = {"options": {"gpus": "2"}}
    first, second = (
        made.parts.submit("a", **two),
        made.parts.submit("b", submitter=BOB, workspace="bob"),
    )
    made.wait(HOUR)
    made.cycle()
    for done in (first, second):
        made.start(done.workload_id)
    made.wait(HOUR)
    made.end(second.workload_id)
    made.wait(HOUR)
    made.end(first.workload_id)
    made.wait(60)
    return made


def ask(
    site: Site, name: str, who: Any = ROOT, account: str = "", **said: str
) -> ReportQuestion:
    return site.parts.views.reports.ask(who, name, Wanted(**said), account)


def sheets(
    site: Site, name: str, who: Any = ROOT, account: str = ""
) -> dict[str, Sheet]:
    report = site.parts.views.reports.make(ask(site, name, who, account))
    return {sheet.name: sheet for sheet in report.sheets}


def notes(site: Site, name: str, who: Any = ROOT, account: str = "") -> str:
    report = site.parts.views.reports.make(ask(site, name, who, account))
    return "\n".join(report.notes)


def by(sheet: Sheet, key: int, value: str) -> dict[object, object]:
    """One column by another."""
    place = [column.name for column in sheet.columns].index(value)
    return {row[key]: row[place] for row in sheet.rows}


def test_a_statement_sums_to_the_ledger(site: Site) -> None:
    found = sheets(site, "statement")["statement"]
    assert by(found, 1, "charges") == {"alice": 10 * CREDIT, "bob": 2_500_000}
    for row in found.rows:
        opening, deposits, charges, refunds, expired, moved, closing = row[2:9]
        assert closing == opening + deposits - charges + refunds - expired + moved
        assert (opening, *row[9:]) == (0, 0, 0)
    closing = by(found, 1, "closing")
    for name in ("alice", "bob"):
        standing = site.standing(name)
        assert closing[name] == standing.available
    with site.parts.effects.engine.connect() as connection:
        last = list(ledger.entries(connection))
        assert check_ledger(connection) == []
    assert f"exactly what the ledger says; head of its chain: entry {len(last)}" in (
        notes(site, "statement")
    )


def test_the_parts_of_a_period_join_up(site: Site) -> None:
    reports = site.parts.views.reports
    cut = "2026-01-05T14:30"
    parts = [{"start": "2026-01-05", "end": cut}, {"start": cut}]
    first, second = [
        reports.make(ask(site, "statement", **said)).sheets[0] for said in parts
    ]
    assert by(first, 1, "closing") == by(second, 1, "opening")
    assert by(second, 1, "closing") == by(
        sheets(site, "statement")["statement"], 1, "closing"
    )


def test_a_statement_that_does_not_sum_says_so(site: Site) -> None:
    lost = LedgerMove(
        ledger_account="avail:z:ana", kind="charge", zone="z", payer="ana", ucr=-5
    )
    books = CreditBooks(opening={}, moves=[lost], later={}, head=None)
    (sheet, _) = statement_sheets(books, None)
    assert closing_line(books, sheet).startswith("THE STATEMENTS DO NOT SUM")


def test_charge_back_by_account_workspace_and_model(site: Site) -> None:
    found = sheets(site, "chargeback")
    assert found["accounts"].rows == (
        (ZONE, "alice", V100, 10 * CREDIT),
        (ZONE, "bob", V100, 2_500_000),
    )
    assert by(found["workspaces"], 1, "charged") == {
        "alice": 10 * CREDIT,
        "bob": 2_500_000,
    }
    assert "12.5 credits (12500000 ucr)" in notes(site, "chargeback")


def test_usage_by_day_and_utilisation(site: Site) -> None:
    found = sheets(site, "usage")
    hour = HOUR * 1_000_000
    assert found["usage"].rows == (
        ("alice", V100, "2026-01-05", 4 * hour),
        ("bob", V100, "2026-01-05", hour),
    )
    ((model, gpus, used, share),) = found["utilisation"].rows
    assert (model, gpus, used) == (V100, 4, 5 * hour)
    assert share == pytest.approx(5 / (4 * 7 * 24))


def test_fairness_of_equal_shares(site: Site) -> None:
    found = sheets(site, "fairness")["fairness"]
    assert by(found, 0, "ratio") == {"alice": 1.6, "bob": 0.4}
    assert by(found, 0, "wait_mean") == {"alice": HOUR, "bob": HOUR}
    text = notes(site, "fairness")
    assert "0.735" in text and "Furthest below what was promised: bob" in text


def test_both_commands_say_the_same_of_an_account(site: Site) -> None:
    """`dcredit` rounds to whole seconds and credits for people, `dreport` never."""
    site.run("c", options={"gpus": "3"})
    for _ in range(3):
        site.wait(20 * HOUR)
    site.wait(1, beat=False)
    answers = site.parts.views.credit
    start, now = later(HOUR + 60), site.parts.clock.now()
    reports = site.parts.views.reports
    span = {"start": start.isoformat(), "end": now.isoformat()}
    whole = reports.make(ask(site, "statement", **span)).sheets[0]
    ends = sheets(site, "forecast")["forecast"]
    for name in ("alice", "bob"):
        said = answers.statement(name, start, now)
        for column in STATEMENT_COLUMNS[2:]:
            told = by(whole, 1, column.name)[name]
            assert said[column.name] == credits_number(told), column.name
        told = answers.forecast(name)
        for key, column in FORECAST_FIELDS.items():
            assert told[key] == credits_number(by(ends, 1, column)[name]), key
        for key, column in FORECAST_MOMENTS.items():
            moment = by(ends, 1, column)[name]
            said_at = moment and moment.isoformat(timespec="seconds")
            assert told[key] == said_at, key
    assert by(ends, 1, "ends_low")["bob"] is not None
    assert by(whole, 1, "liens")["alice"] > 0
    assert by(whole, 1, "opening")["alice"] > by(whole, 1, "closing")["alice"]
    assert by(ends, 1, "pace")["alice"] < by(ends, 1, "pace_high")["alice"]


def test_the_forecast_brackets_the_end_of_credit(site: Site) -> None:
    found = sheets(site, "forecast")["forecast"]
    assert by(found, 1, "spent") == {"alice": 10 * CREDIT, "bob": 2_500_000}
    for row in found.rows:
        assert row[4] == row[5] < row[6]
        assert row[8] < row[7] == row[9]
    with pytest.raises(UserError, match="last 14 days"):
        ask(site, "forecast", since="7d")


def test_accuracy_counts_hits_and_misses(site: Site) -> None:
    now = microseconds_of(site.parts.clock.now()) - 1_000_000
    made = [
        StartForecast(workload_id=number, made_at=now, low=now, high=now + 100)
        for number in (1, 2, 3, 4)
    ]
    with site.parts.effects.engine.begin() as connection:
        add_forecasts(connection, ZONE, made, kept_max=100)
        for number, started in ((1, now + 50), (2, now + 101), (3, now - 1)):
            score_forecast(connection, number, started)
    every = sheets(site, "accuracy")["accuracy"].rows[-1]
    assert every[:7] == ("all", 4, 3, 1, 1, 1, 1 / 3)
    mine = sheets(site, "accuracy", caller(BOB))["accuracy"].rows[-1]
    assert mine[:4] == ("all", 1, 1, 0)


def test_the_audit_names_who_and_what(site: Site) -> None:
    done = {(row[1], row[2], row[3]) for row in sheets(site, "audit")["audit"].rows}
    assert ("dorad", "deposit", "alice") in done or (
        "alice", "deposit", "alice",
    ) in done  # fmt: skip
    assert any(what == "price" and subject == V100 for _, what, subject in done)
    mine = sheets(site, "audit", caller(BOB))["audit"].rows
    assert mine and {row[3] for row in mine} == {"bob"}


def test_a_machine_is_one_node(site: Site) -> None:
    """Its GPUs would count twice under a second name."""
    nodes = site.parts.nodes
    nodes.save(ROOT, "n2", NodeSpec(endpoint="ssh://127.0.0.1:1", hostKey=KEY))
    with pytest.raises(ConflictError, match=r"127\.0\.0\.1:1 is node n2 already"):
        nodes.save(ROOT, "n3", NodeSpec(endpoint="ssh://127.0.0.1:1", hostKey=KEY))
    nodes.save(ROOT, "n3", NodeSpec(endpoint="ssh://127.0.0.1:2"))
    with pytest.raises(ConflictError, match="pin it with dnode rekey n3"):
        nodes.probe("n3")


def test_the_audit_has_the_history_of_documents(site: Site) -> None:
    parts, eve = site.parts, caller(CAROL, is_admin=True)
    spec = NodeSpec(endpoint="ssh://127.0.0.1:1", hostKey=KEY)
    parts.nodes.save(ROOT, "n2", spec)
    parts.nodes.save(ROOT, "n2", spec)
    parts.nodes.change(eve, "n2", scheduling_disabled=True)
    parts.nodes.remove(eve, "n2")
    site.weekly(700)
    site.weekly(800)
    parts.delete(eve, "User", "alice")
    (workspace,) = parse_manifest(WORKSPACE, path="x.yaml").documents
    parts.apply(caller(CAROL), workspace)
    parts.delete(caller(CAROL), "Workspace", CAROL.user)
    site.price(3)
    site.wait(1, beat=False)
    rows = sheets(site, "audit")["audit"].rows
    told = [(row[1], row[2], row[3], row[5].split(";")[0]) for row in rows]
    admin, carol = ROOT.user, CAROL.user
    assert [one for one in told if one[2] == "n2"] == [
        (admin, "Node", "n2", "made"),
        (carol, "Node", "n2", "schedulingDisabled: false -> true"),
        (carol, "Node", "n2", "removed"),
    ]
    assert [one for one in told if one[1:3] == ("User", "alice")] == [
        (admin, "User", "alice", "made"),
        (admin, "User", "alice", "credits.1.weekly: 700 -> 800"),
        (carol, "User", "alice", "removed"),
    ]
    assert [one[3] for one in told if one[1] == "Workspace"] == ["made", "removed"]
    price = (admin, "Resourcecredit", V100, "credit.per.hour: 2.5 -> 3")
    assert price in told
    mine = sheets(site, "audit", caller(BOB))["audit"].rows
    assert {row[3] for row in mine} == {"bob"}
    assert ("User", "bob") in {(row[2], row[3]) for row in mine}


def test_users_see_their_own(site: Site) -> None:
    bob = caller(BOB)
    assert by(sheets(site, "statement", bob)["statement"], 1, "account") == {
        "bob": "bob"
    }
    assert [row[1] for row in sheets(site, "chargeback", bob)["accounts"].rows] == [
        "bob"
    ]
    assert [row[0] for row in sheets(site, "fairness", bob)["fairness"].rows] == ["bob"]
    assert list(sheets(site, "usage", bob)) == ["usage"]
    assert "sum to" not in notes(site, "statement", bob)
    with pytest.raises(NotAllowed, match="'alice' belongs to alice: bob may no"):
        ask(site, "statement", bob, "alice")
    only = sheets(site, "statement", account="bob")["statement"]
    assert [row[1] for row in only.rows] == ["bob"]


@pytest.mark.parametrize(
    ("name", "account", "said", "error", "words"),
    [
        ("nosuch", "", {}, UserError, "no report 'nosuch' \\(known: statement"),
        ("usage", "zoe", {}, NotFound, "no account or user 'zoe' \\(known: alice, bob"),
        ("usage", "", {"since": "soon"}, UserError, "--since 'soon'"),
        ("usage", "", {"since": "0d"}, UserError, "'0d' .allowed: 1 to 99999 "),
        ("usage", "", {"week": "next"}, UserError, "--week 'next'"),
        ("usage", "", {"start": "2027-01-01"}, UserError, "2027-01-01 is in the"),
        (
            "usage",
            "",
            {"start": "2026-01-01", "end": "2026-03-01"},
            UserError,
            "future",
        ),
        (
            "usage",
            "",
            {"start": "2026-01-03", "end": "2026-01-02"},
            UserError,
            "before",
        ),
        (
            "usage",
            "",
            {"start": "2026-01-03", "end": "2026-01-03"},
            UserError,
            "before",
        ),
        ("usage", "", {"end": "2026-01-03"}, UserError, "needs --from"),
        ("usage", "", {"start": "yesterday"}, UserError, "--from 'yesterday'"),
        ("usage", "", {"since": "7d", "week": "last"}, UserError, "said twice"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    site: Site,
    name: str,
    account: str,
    said: dict[str, str],
    error: type[Exception],
    words: str,
) -> None:
    with pytest.raises(error, match=words):
        ask(site, name, ROOT, account, **said)


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("form", MEDIA)
def test_every_report_in_every_form(site: Site, name: str, form: str) -> None:
    reports = site.parts.views.reports
    made = render(reports.make(ask(site, name)), form, reports.rule.zone).decode()
    assert made
    if form == "json":
        assert json.loads(made)["report"] == name
    if form == "html":
        assert made.count("<table>") >= 1 or "Nothing in this period" in made
        for word in ("http://", "https://", "<script", "src="):
            assert word not in made


def test_programs_get_exact_numbers(site: Site) -> None:
    reports = site.parts.views.reports
    report = reports.make(ask(site, "statement"))
    found = json.loads(render(report, "json", reports.rule.zone))
    alice = found["sheets"]["statement"][0]
    assert (alice["charges_ucr"], alice["charges_credits"]) == (10_000_000, "10")
    text = render(report, "csv", reports.rule.zone).decode()
    head, *lines = text.split("\n\n")[0].splitlines()
    assert head == "# statement"
    rows = list(csv.DictReader(io.StringIO("\n".join(lines))))
    assert rows[0]["charges_ucr"] == "10000000"
    assert rows[0]["account"] == "alice"


def test_a_page_escapes_what_users_wrote(site: Site) -> None:
    evil = "<script>alert(1)</script>"
    reports = site.parts.views.reports
    report = replace(reports.make(ask(site, "audit")), title=evil)
    page = render(report, "html", reports.rule.zone).decode()
    assert evil not in page and "&lt;script&gt;" in page


def test_a_page_breaks_long_texts_only(site: Site) -> None:
    reports = site.parts.views.reports
    report = reports.make(ask(site, "audit"))
    page = render(report, "html", reports.rule.zone).decode()
    assert '<td class="long">made; ' in page and "<td>User</td>" in page


def test_each_user_is_mailed_their_statement_once(site: Site, sink: MailSink) -> None:
    reports, mail = site.parts.views.reports, site.parts.daemon.intake.report_mail
    asked = ask(site, "statement")
    first = mail.mail(reports, asked, "each")
    assert (first.put, first.before, first.message) == (2, 0, "2 mailed")
    again = mail.mail(reports, asked, "each")
    assert (again.put, again.before) == (0, 2)
    assert again.message == "0 mailed; 2 had been mailed before"
    assert mail_sender_of(site.parts.books, site.parts.effects).send_due() == 2
    mails = {mail["To"]: mail for mail in sink.mails}
    assert set(mails) == {"alice@site.example", "bob@site.example"}
    text = mails["bob@site.example"].get_body(("plain",)).get_content()
    assert "bob" in text and "alice" not in text


def test_a_report_is_mailed_to_an_address(site: Site, sink: MailSink) -> None:
    reports, mail = site.parts.views.reports, site.parts.daemon.intake.report_mail
    asked = ask(site, "chargeback")
    assert mail.mail(reports, asked, "head@lab.example").put == 1
    for wrong, words in (("nobody", "not a mail address"), ("each", "own statement")):
        with pytest.raises(UserError, match=words):
            mail.mail(reports, asked, wrong)


def test_without_a_relay_nothing_is_mailed(site: Site) -> None:
    mail = site.parts.daemon.intake.report_mail
    mail = replace(mail, outbox=type(mail.outbox)(MailSettings()))
    with pytest.raises(UserError, match=r"mail\.host"):
        mail.mail(site.parts.views.reports, ask(site, "usage"), "a@b.example")
