"""Reports by mail: to one address, or to each user their own statement.

A mail's key names the report, the period and who gets it: asked for twice, it is sent
once. Puts mails into the outbox and sends nothing itself.
"""

from dataclasses import dataclass, replace

from sqlalchemy import Engine

from dorabatch.clock import Clock
from dorabatch.daemon.state.outbox import Letter, Outbox
from dorabatch.daemon.views.report.gather import ReportQuestion, Reports
from dorabatch.daemon.views.report.page import render_page
from dorabatch.daemon.views.report.render import render_table
from dorabatch.daemon.views.report.text import period_text
from dorabatch.db import Tx, Writer
from dorabatch.errors import UserError
from dorabatch.resources.names import check_mail_address

EACH = "each"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mailed:
    """How many mails were put in, and how many had been before or had no address."""

    put: int
    before: int
    without: int

    @property
    def message(self) -> str:
        """What became of it, in a sentence."""
        said = [f"{self.put} mailed"]
        if self.before:
            said.append(f"{self.before} had been mailed before")
        if self.without:
            said.append(f"{self.without} users have no mail address")
        return "; ".join(said)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportMail:
    """Mails the reports of one zone."""

    outbox: Outbox
    engine: Engine
    writer: Writer
    clock: Clock

    def mail(self, reports: Reports, asked: ReportQuestion, to: str) -> Mailed:
        """Put a report into the outbox for an address, or for each user their own."""
        if not self.outbox.is_on:
            raise UserError("this site sends no mail; an admin may set mail.host")
        if to != EACH:
            try:
                letters = {to: _letter(reports, asked, check_mail_address(to))}
            except ValueError as error:
                raise UserError(f"--mail {error}, or the word {EACH}") from error
            return self._put(asked, letters)
        if asked.name != "statement" or asked.who is not None:
            raise UserError(
                f"--mail {EACH} sends each user their own statement: dreport "
                "statement, without --account"
            )
        users = reports.accounts_with_moves(asked)
        with self.engine.connect() as connection:
            reached = {user: self.outbox.address_of(connection, user) for user in users}
        letters = {
            user: _letter(reports, replace(asked, who=frozenset({user})), address)
            for user, address in reached.items()
            if address
        }
        done = self._put(asked, letters)
        return replace(done, without=len(reached) - len(letters))

    def _put(self, asked: ReportQuestion, letters: dict[str, Letter]) -> Mailed:
        now = self.clock.now()
        period = asked.period
        whose = "" if asked.who is None else ",".join(sorted(asked.who))
        key = (
            f"report:{asked.name}:{whose}:{period.start:%Y%m%dT%H%M}:"
            f"{period.end:%Y%m%dT%H%M}"
        )

        def write(tx: Tx) -> int:
            return sum(
                self.outbox.enqueue(tx, f"{key}:{name}"[:200], letter, now=now)
                for name, letter in letters.items()
            )

        put = self.writer.do(write)
        return Mailed(put=put, before=len(letters) - put, without=0)


def _letter(reports: Reports, asked: ReportQuestion, address: str) -> Letter:
    report = reports.make(asked)
    zone = reports.rule.zone
    return Letter(
        to=address,
        subject=f"[dorabatch] {report.title}, {period_text(report, zone)}",
        text=render_table(report, zone),
        html=render_page(report, zone),
    )
