"""Mail: one for each key, handed to a real relay, kept until the relay has it."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from dorabatch.clock import FakeClock
from dorabatch.config import MailSettings, Settings
from dorabatch.daemon.assembly import compose
from dorabatch.daemon.runs.settle import settle_gone
from dorabatch.daemon.state.effects import Effects
from dorabatch.daemon.state.object_store import StoredObject, save_object
from dorabatch.daemon.state.outbox import Letter, Mail, count_waiting
from dorabatch.daemon.timers.assembly import mail_sender_of
from dorabatch.daemon.timers.mail_sender import MailSender, message_of
from dorabatch.queue import transitions as to
from dorabatch.queue.states import AfterStop, Outcome
from dorabatch.queue.tables import MAILS
from tests.mail_sink import MailSink, mail_sink
from tests.makers import START, ZONE
from tests.unit.daemon.conftest import Parts

LETTER = Letter(to="alice", subject="hello\nthere", text="said\n")


@pytest.fixture
def sink() -> Iterator[MailSink]:
    with mail_sink() as made:
        yield made


@pytest.fixture
def settings(tmp_path: Path, sink: MailSink) -> Settings:
    """Settings of a daemon that sends its mail to the sink."""
    mail = MailSettings(
        host="127.0.0.1",
        port=sink.port,
        sender="dora@site.example",
        domain="site.example",
    )
    return Settings(
        zone=ZONE, state_dir=tmp_path, socket=tmp_path / "dorad.sock", mail=mail
    )


def sender_for(parts: Parts) -> MailSender:
    return mail_sender_of(parts.books, parts.effects)


def put(effects: Effects, key: str = "k", letter: Letter = LETTER) -> bool:
    now = effects.clock.now()
    return effects.writer.do(
        lambda tx: effects.outbox.enqueue(tx, key, letter, now=now)
    )


def row(effects: Effects, key: str = "k") -> Any:
    with effects.engine.connect() as connection:
        return connection.execute(select(MAILS).where(MAILS.c.key == key)).one()


@pytest.mark.mission("M44")
def test_a_mail_is_sent_once_and_noted(parts: Parts, sink: MailSink) -> None:
    effects, sender = parts.effects, sender_for(parts)
    assert put(effects)
    assert effects.mail_wanted.is_set()
    assert not put(effects)
    assert sender.send_due() == 1
    assert sender.send_due() == 0
    (mail,) = sink.mails
    assert mail["To"] == "alice@site.example"
    assert mail["From"] == "dora@site.example"
    assert mail["Subject"] == "hello there"
    assert mail.get_content().split() == ["said"]
    assert row(effects).sent_at == START
    assert not put(effects)


def test_what_is_rolled_back_is_not_sent(parts: Parts, sink: MailSink) -> None:
    effects = parts.effects

    def write(tx: Any) -> None:
        effects.outbox.enqueue(tx, "k", LETTER, now=START)
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        effects.writer.do(write)
    assert sender_for(parts).send_due() == 0
    assert not effects.mail_wanted.is_set()


def test_a_kill_after_the_relay_took_it_sends_the_same_mail_again(
    parts: Parts, sink: MailSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(parts.effects)
    with monkeypatch.context() as patched:
        patched.setattr(parts.effects.writer, "do", _kill)
        with pytest.raises(KeyboardInterrupt):
            sender_for(parts).send_due()
    assert sender_for(parts).send_due() == 1
    first, second = sink.mails
    assert first["Message-ID"] == second["Message-ID"]
    assert first.as_bytes() == second.as_bytes()


def _kill(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_relay_that_is_away_gets_it_later(parts: Parts, sink: MailSink) -> None:
    put(parts.effects)
    sink.stop()
    sender = sender_for(parts)
    assert sender.send_due() == 0
    assert row(parts.effects).attempts == 1
    assert "relay 127.0.0.1" in row(parts.effects).problem
    sink.start()
    assert sender.send_due() == 0
    parts.clock.advance(60)
    assert sender.send_due() == 1


def test_the_wait_doubles_up_to_an_hour_and_ends(parts: Parts, sink: MailSink) -> None:
    put(parts.effects)
    sink.answers = ["451 4.3.0 later"] * 100
    waits = []
    while (due := row(parts.effects).due_at) is not None:
        waits.append((due - parts.clock.now()).total_seconds())
        parts.clock.advance(waits[-1])
        sender_for(parts).send_due()
    assert waits[:8] == [0, 60, 120, 240, 480, 960, 1920, 3600]
    assert sum(waits) <= parts.books.settings.mail.give_up_seconds
    assert row(parts.effects).sent_at is None
    assert row(parts.effects).problem.startswith("451")
    assert sink.mails == []


def test_a_refused_address_is_given_up_and_the_others_are_sent(
    parts: Parts, sink: MailSink
) -> None:
    sink.refused_addresses = {"gone@site.example"}
    put(parts.effects, "a", Letter(to="gone", subject="s", text="t"))
    put(parts.effects, "b")
    put(parts.effects, "c", Letter(to="x@other.example", subject="s", text="t"))
    assert sender_for(parts).send_due() == 2
    assert row(parts.effects, "a").due_at is None
    assert "no such user" in row(parts.effects, "a").problem
    assert [m["To"] for m in sink.mails] == ["alice@site.example", "x@other.example"]


def test_a_declared_address_wins_and_a_user_without_any_gets_none(
    parts: Parts,
) -> None:
    declared = StoredObject(
        kind="User",
        zone="",
        workspace="",
        name="alice",
        spec='{"mail": "alice@home.example"}',
        owner="root",
        created_at=START,
        changed_at=START,
    )
    parts.effects.writer.do(lambda tx: save_object(tx, declared))
    put(parts.effects)
    assert row(parts.effects).address == "alice@home.example"
    no_domain = parts.books.settings.mail.model_copy(update={"domain": ""})
    with parts.effects.engine.connect() as connection:
        outbox = type(parts.effects.outbox)(no_domain)
        assert outbox.address_of(connection, "bob") == ""


def test_the_outbox_is_bounded(parts: Parts) -> None:
    effects = parts.effects
    bound = parts.books.settings.mail.model_copy(update={"waiting_max": 2})
    effects = replace(effects, outbox=type(effects.outbox)(bound))
    assert [put(effects, key) for key in "abc"] == [True, True, False]
    with effects.engine.connect() as connection:
        assert count_waiting(connection) == 2


def test_mail_is_off_without_a_relay(tmp_path: Path, empty_database: Path) -> None:
    shutil.copy(empty_database, tmp_path / "dorabatch.db")
    _, effects = compose(Settings(zone=ZONE, state_dir=tmp_path), FakeClock(START))
    assert not put(effects)
    effects.writer.stop()
    effects.engine.dispose()


def test_old_mails_are_forgotten_and_waiting_ones_kept(parts: Parts) -> None:
    effects = parts.effects
    put(effects)
    sender = sender_for(parts)
    sender.send_due()
    put(effects, "waits")
    parts.clock.advance(parts.books.settings.mail.kept_seconds + 1)
    sender._tidy()
    with effects.engine.connect() as connection:
        keys = list(connection.execute(select(MAILS.c.key)).scalars())
    assert keys == ["waits"]


def test_a_page_travels_beside_the_text() -> None:
    mail = Mail(
        key="k",
        address="a@b",
        subject="s",
        text="plain",
        html="<p>page</p>",
        created_at=START,
        attempts=0,
    )
    message = message_of(mail, "dora@site.example")
    kinds = [part.get_content_type() for part in message.walk()]
    assert kinds == ["multipart/alternative", "text/plain", "text/html"]


@pytest.fixture
def told(parts: Parts, sink: MailSink) -> Callable[[], list[str]]:
    """The subjects of what has been sent up to now."""

    def read() -> list[str]:
        sender_for(parts).send_due()
        return [mail["Subject"] for mail in sink.mails]

    return read


@pytest.mark.mission("M44")
def test_start_and_end_are_told_when_asked_for(
    parts: Parts, told: Callable[[], list[str]], sink: MailSink
) -> None:
    loud = parts.submit("loud", options={"notify": True})
    parts.submit("quiet")
    parts.run(parts.container(2))
    running = parts.run(parts.container(loud.workload_id))
    assert told() == ["[dorabatch] 1 alice/loud started on n1"]
    why = "exit code 3"
    stopping = parts.change(
        running, lambda c: to.stopping(c, AfterStop.FINISH, Outcome.FAILED, why)
    )
    now = parts.clock.now()
    ended = parts.change(
        stopping, lambda c: to.exited(c, exit_code=3, started_at=None, ended_at=now)
    )
    parts.effects.writer.do(lambda tx: settle_gone(tx, parts.books.billing, ended, now))
    assert told()[1:] == ["[dorabatch] 1 alice/loud ended: failed (exit code 3)"]
    assert "container 1: exit code 3" in sink.mails[-1].get_content()


def test_an_attempt_that_the_node_lost_is_told(
    parts: Parts, told: Callable[[], list[str]]
) -> None:
    parts.submit("loud", options={"notify": True})
    running = parts.run(parts.container(1))
    parts.clock.advance(5)
    why = "the node was restarted"
    stopping = parts.change(
        running, lambda c: to.stopping(c, AfterStop.REQUEUE, Outcome.NODE_LOST, why)
    )
    now = parts.clock.now()
    parts.change(
        stopping, lambda c: to.exited(c, exit_code=None, started_at=None, ended_at=now)
    )
    assert told()[1:] == ["[dorabatch] 1 alice/loud was interrupted and will run again"]
