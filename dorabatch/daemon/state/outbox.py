"""Mails on disk: put one in under its key, take those that are due, note the end.

Every statement on the `mails` table. A key is sent once however often it is put in;
nothing here talks to a relay.
"""

from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, delete, func, select, update
from sqlalchemy.dialects import postgresql, sqlite

from dorabatch import log
from dorabatch.config import MailSettings
from dorabatch.daemon.state.object_store import get_object
from dorabatch.db import Tx
from dorabatch.queue.tables import MAILS
from dorabatch.resources.names import is_mail_address
from dorabatch.resources.people import UserSpec

RETRY_SECONDS_MAX = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """What is to be said to whom; `to` is a user or an address."""

    to: str
    subject: str
    text: str
    html: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail:
    """One mail that waits."""

    key: str
    address: str
    subject: str
    text: str
    html: str
    created_at: datetime
    attempts: int


class Outbox:
    """The mails of one daemon."""

    def __init__(self, settings: MailSettings) -> None:
        self._settings = settings

    @property
    def is_on(self) -> bool:
        """Whether this site sends mail at all."""
        return bool(self._settings.host)

    def address_of(self, connection: Connection, user: str) -> str:
        """Where a user's mail goes: as declared, else at the site's domain, else "".

        What has an @ is an address, or a login that looks like one.
        """
        stored = get_object(connection, "User", "", "", user)
        declared = UserSpec.model_validate_json(stored.spec).mail if stored else None
        if declared is not None:
            return declared
        domain = self._settings.domain
        address = user if "@" in user else f"{user}@{domain}"
        return address if is_mail_address(address) else ""

    def enqueue(self, tx: Tx, key: str, letter: Letter, *, now: datetime) -> bool:
        """Put a mail in, to be sent once the transaction is on disk.

        False when nothing was put in: mail is off, the user has no address, the key
        was used before or too many wait.
        """
        if not self.is_on:
            return False
        address = self.address_of(tx.connection, letter.to)
        if not address:
            return False
        if count_waiting(tx.connection) >= self._settings.waiting_max:
            log.warning("mail-refused", key=key, waiting_max=self._settings.waiting_max)
            return False
        mail = Mail(
            key=key,
            address=address,
            subject=" ".join(letter.subject.split()),
            text=letter.text,
            html=letter.html,
            created_at=now,
            attempts=0,
        )
        is_new = _insert_new(tx.connection, mail)
        if is_new:
            tx.note(mail)
        return is_new


def _insert_new(connection: Connection, mail: Mail) -> bool:
    row = {**asdict(mail), "due_at": mail.created_at, "problem": ""}
    if connection.dialect.name == "postgresql":
        added = postgresql.insert(MAILS).values(row).on_conflict_do_nothing()
        return bool(connection.execute(added).rowcount)
    put = sqlite.insert(MAILS).values(row).on_conflict_do_nothing()
    return bool(connection.execute(put).rowcount)


def count_waiting(connection: Connection) -> int:
    """How many mails are neither sent nor given up."""
    wanted = select(func.count()).where(MAILS.c.due_at.is_not(None))
    return int(connection.execute(wanted).scalar_one())


def due_mails(connection: Connection, now: datetime, limit: int) -> list[Mail]:
    """Mails to be sent now, the longest due first."""
    wanted = (
        select(*(MAILS.c[name] for name in Mail.__slots__))
        .where(MAILS.c.due_at <= now)
        .order_by(MAILS.c.due_at, MAILS.c.key)
        .limit(limit)
    )
    return [Mail(**row._mapping) for row in connection.execute(wanted)]


def mark_sent(tx: Tx, key: str, now: datetime) -> None:
    """The relay has taken it."""
    done = {"sent_at": now, "due_at": None, "problem": ""}
    tx.connection.execute(update(MAILS).where(MAILS.c.key == key).values(done))


def mark_failed(
    tx: Tx, mail: Mail, problem: str, settings: MailSettings, now: datetime
) -> None:
    """Try again later, twice as late each time, or give up."""
    wait = settings.retry_seconds * 2 ** min(mail.attempts, 16)
    due = now + timedelta(seconds=min(wait, RETRY_SECONDS_MAX))
    is_over = due - mail.created_at > timedelta(seconds=settings.give_up_seconds)
    values = {"attempts": mail.attempts + 1, "problem": problem}
    tx.connection.execute(
        update(MAILS)
        .where(MAILS.c.key == mail.key)
        .values(**values, due_at=None if is_over else due)
    )


def mark_refused(tx: Tx, key: str, problem: str) -> None:
    """The relay will never take it."""
    tx.connection.execute(
        update(MAILS).where(MAILS.c.key == key).values(due_at=None, problem=problem)
    )


def forget_old(tx: Tx, before: datetime) -> int:
    """Drop what was sent or given up long ago; how many."""
    done = tx.connection.execute(
        delete(MAILS).where(MAILS.c.due_at.is_(None), MAILS.c.created_at < before)
    )
    return done.rowcount
