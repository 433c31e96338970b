"""Hands waiting mails to the relay, in a thread of its own.

A mail keeps its Message-ID over all attempts: a daemon killed between the relay's
answer and its own note sends the same mail again, and readers show it once. Never
waits for the relay inside a transaction and never holds up the cycle.
"""

import hashlib
import smtplib
import ssl
import threading
from datetime import timedelta
from email.message import EmailMessage
from email.utils import format_datetime

from sqlalchemy import Engine

from dorabatch import log
from dorabatch.clock import Clock
from dorabatch.config import MailSettings
from dorabatch.daemon.state.outbox import (
    Mail,
    due_mails,
    forget_old,
    mark_failed,
    mark_refused,
    mark_sent,
)
from dorabatch.daemon.state.threads import WatchedThreads
from dorabatch.db import Tx, Writer, is_in_transaction
from dorabatch.errors import invariant

_BATCH_MAX = 50
_LOOK_SECONDS = 5.0
_TIDY_SECONDS = 3600.0
_PERMANENT = 500


class MailSender:
    """The thread that empties the outbox; `wanted` is set when a mail is put in."""

    def __init__(
        self,
        settings: MailSettings,
        engine: Engine,
        writer: Writer,
        clock: Clock,
        wanted: threading.Event,
    ) -> None:
        self._settings = settings
        self._engine = engine
        self._writer = writer
        self._clock = clock
        self._wanted = wanted
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._tidied_at: float | None = None

    def start(self, threads: WatchedThreads) -> None:
        """Begin to send, where mail is on."""
        if self._settings.host:
            self._thread = threads.start("mail", self._round, self._stopping)

    def stop(self) -> None:
        """Send no more; what waits is sent after the next start."""
        self._stopping.set()
        self._wanted.set()
        if self._thread is not None:
            self._thread.join(self._settings.answer_seconds_max)

    def send_due(self) -> int:
        """Send what is due now; how many were taken by the relay."""
        with self._engine.connect() as connection:
            mails = due_mails(connection, self._clock.now(), _BATCH_MAX)
        if not mails:
            return 0
        invariant(not is_in_transaction(), "mail sent inside a transaction")
        try:
            relay = open_relay(self._settings)
        except (OSError, smtplib.SMTPException) as error:
            log.warning("mail-relay", host=self._settings.host, error=_text(error))
            self._postpone(mails, f"relay {self._settings.host}: {_text(error)}")
            return 0
        try:
            return sum(self._send(relay, mail) for mail in mails)
        finally:
            relay.close()

    def _round(self) -> None:
        self._wanted.clear()
        sent = self.send_due()
        self._tidy()
        if not sent:
            self._wanted.wait(_LOOK_SECONDS)

    def _send(self, relay: smtplib.SMTP, mail: Mail) -> int:
        if self._stopping.is_set():
            return 0
        now = self._clock.now()
        message = message_of(mail, self._settings.sender)
        try:
            relay.send_message(message)
        except smtplib.SMTPRecipientsRefused as error:
            code, said = next(iter(error.recipients.values()))
            return self._not_sent(mail, code, said.decode("utf-8", "replace"))
        except smtplib.SMTPResponseException as error:
            return self._not_sent(mail, error.smtp_code, _text(error))
        except (OSError, smtplib.SMTPException) as error:
            return self._not_sent(mail, 0, _text(error))
        self._writer.do(lambda tx: mark_sent(tx, mail.key, now))
        return 1

    def _not_sent(self, mail: Mail, code: int, said: str) -> int:
        log.warning("mail-not-sent", key=mail.key, to=mail.address, error=said)
        if code >= _PERMANENT:
            self._writer.do(lambda tx: mark_refused(tx, mail.key, said))
        else:
            self._postpone([mail], said)
        return 0

    def _postpone(self, mails: list[Mail], problem: str) -> None:
        now = self._clock.now()

        def write(tx: Tx) -> None:
            for mail in mails:
                mark_failed(tx, mail, problem, self._settings, now)

        self._writer.do(write)

    def _tidy(self) -> None:
        now = self._clock.monotonic()
        if self._tidied_at is not None and now - self._tidied_at < _TIDY_SECONDS:
            return
        self._tidied_at = now
        kept = timedelta(seconds=self._settings.kept_seconds)
        before = self._clock.now() - kept
        self._writer.do(lambda tx: forget_old(tx, before))


def message_of(mail: Mail, sender: str) -> EmailMessage:
    """The mail as it goes over the wire; its Message-ID follows from its key."""
    message = EmailMessage()
    digest = hashlib.sha256(mail.key.encode()).hexdigest()[:40]
    message["Message-ID"] = f"<{digest}@{sender.partition('@')[2]}>"
    message["Date"] = format_datetime(mail.created_at)
    message["From"] = sender
    message["To"] = mail.address
    message["Subject"] = mail.subject
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(mail.text)
    if mail.html:
        message.add_alternative(mail.html, subtype="html")
    return message


def open_relay(settings: MailSettings) -> smtplib.SMTP:
    """A connection to the relay, secured and logged in as set; raises OSError."""
    seconds = settings.answer_seconds_max
    if settings.security == "tls":
        context = ssl.create_default_context()
        relay: smtplib.SMTP = smtplib.SMTP_SSL(
            settings.host, settings.port, timeout=seconds, context=context
        )
    else:
        relay = smtplib.SMTP(settings.host, settings.port, timeout=seconds)
    try:
        if settings.security == "starttls":
            relay.starttls(context=ssl.create_default_context())
        if settings.user:
            file = settings.password_file
            password = file.read_text().strip() if file else ""
            relay.login(settings.user, password)
    except (OSError, smtplib.SMTPException):
        relay.close()
        raise
    return relay


def _text(error: Exception) -> str:
    if isinstance(error, smtplib.SMTPResponseException):
        said = error.smtp_error
        text = said.decode("utf-8", "replace") if isinstance(said, bytes) else said
        return f"{error.smtp_code} {text}"
    return str(error) or type(error).__name__
