"""What `dcredit` shows: balances, statements, forecasts, prices and the ledger's check.

Records and texts made from the ledger; changes nothing, and leaves it to the border
who may see which account. Amounts are in credits.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Engine

from dorabatch.clock import Clock
from dorabatch.daemon.state.credit_book import CreditBook
from dorabatch.daemon.views.account_rows import Accounts
from dorabatch.daemon.views.table_layout import Row, lay_out
from dorabatch.db import one_state
from dorabatch.errors import UserError
from dorabatch.fairshare.money.book import FOREVER
from dorabatch.fairshare.money.credit_forecast import DAYS, forecast
from dorabatch.fairshare.money.statement import Statement, models_used, statements
from dorabatch.fairshare.store import accounts, report_store
from dorabatch.fairshare.store.ledger_check import LedgerCheck
from dorabatch.units import credits_number, microseconds_of, moment_of, number_text


@dataclass(frozen=True, slots=True, kw_only=True)
class CreditViews:
    """What is shown of one zone's credit.

    `asker` is who asks: of them nothing needs to be known.
    """

    accounts: Accounts
    engine: Engine
    clock: Clock
    credits: CreditBook

    def balance(self, account: str, asker: str = "") -> Row:
        """What an account has, holds and has used, and when credit comes again."""
        self._check(account, asker)
        now, zone = self.clock.now(), self.accounts.zone
        week = self.credits.period(now)
        start = microseconds_of(week.start)
        with self.engine.connect() as connection:
            used = accounts.used_in_all(connection, zone).get(account, 0)
            recent = accounts.used_since(connection, zone, start=start)
        row = self.accounts.row(account, used, recent.get(account, 0), now)
        book = self.credits.book
        side, at = f"avail:{zone}:{account}", microseconds_of(now)
        row["allocations"] = [
            {
                "id": one.id,
                "kind": one.kind,
                "available": credits_number(book.balances.get((side, one.id), 0)),
                "on_exhaust": one.on_exhaust,
                "from": _moment(one.valid_from),
                "until": _moment(one.valid_to),
            }
            for one in book.budgeted(zone, account)
            if at < one.valid_to
        ]
        return row

    def statement(
        self, account: str, start: datetime, end: datetime, asker: str = ""
    ) -> Row:
        """An account's period; its parts sum to the ledger's balance."""
        self._check(account, asker)
        if start > self.clock.now():
            raise UserError(
                f"--from {start.isoformat()}: is in the future; a statement is about "
                "what was"
            )
        if end <= start:
            raise UserError(
                f"--until {end.isoformat()}: is not after --from {start.isoformat()}"
            )
        first, last = microseconds_of(start), microseconds_of(end)
        zone = self.accounts.zone
        mine = (zone, account)
        with one_state(self.engine) as connection:
            opening = report_store.balances_before(connection, first, mine)
            moves = report_store.moves(connection, first, last, mine)
            later = report_store.credit_later(connection, last, mine)
        none = Statement(zone=zone, account=account)
        found = statements(opening, moves, later).get(mine, none)
        units = {
            row["product_name"]: row["price_unit"] for row in self.accounts.prices()
        }
        return {
            "account": account,
            "zone": zone,
            "from": start.isoformat(),
            "until": end.isoformat(),
            **{
                name: credits_number(getattr(found, name))
                for name in (
                    "opening", "deposits", "charges", "refunds", "expired",
                    "transferred", "liens", "later", "closing",
                )
            },
            "models": [
                {
                    "model": one.model,
                    "used": credits_number(one.charges - one.refunds),
                    "price_unit": units.get(one.model),
                }
                for one in models_used(moves)
            ],
        }  # fmt: skip

    def forecast(self, account: str, asker: str = "") -> Row:
        """How long credit lasts if use goes on as in the last days."""
        self._check(account, asker)
        now = self.clock.now()
        standing = self.credits.standing_of(account, now)
        with self.engine.connect() as connection:
            daily = accounts.daily_use(
                connection,
                self.accounts.zone,
                end=microseconds_of(now),
                account=account,
            )
        used = daily.get(account, [0] * DAYS)
        found = forecast(used, standing.balance, now)
        is_limited = standing.is_limited
        return {
            "account": account,
            "zone": self.accounts.zone,
            "days": DAYS,
            "balance": credits_number(standing.balance) if is_limited else None,
            "burn_per_day": credits_number(found.burn),
            "burn_low": credits_number(found.burn_low),
            "burn_high": credits_number(found.burn_high),
            "ends_at": _iso(found.ends_at if is_limited else None),
            "ends_soonest": _iso(found.ends_soonest if is_limited else None),
            "ends_latest": _iso(found.ends_latest if is_limited else None),
            "resets_at": _iso(standing.resets_at),
        }

    def check(self) -> Iterator[Row]:
        """Whether the ledger obeys its laws: hashes, sums, caches.

        Says how many entries of how many were read, then the result as the last row.
        """
        with one_state(self.engine) as connection:
            check = LedgerCheck(connection)
            for step in check.steps():
                yield {"done": step.done, "of": step.entries}
        found = {"entries": check.entries, "faults": check.faults}
        yield {"result": found, "text": check_text(found)}

    def _check(self, account: str, asker: str) -> None:
        """Raise NotFound for an account of which nothing is known, save one's own."""
        if account == asker:
            return
        with self.engine.connect() as connection:
            self.accounts.check(connection, account)


def text_of(record: dict[str, Any]) -> str:
    """A record for people: one line a field, lists as tables below."""
    plain = {k: v for k, v in record.items() if not isinstance(v, list)}
    width = max(map(len, plain), default=0)
    lines = [f"{k:<{width}}  {_shown(v)}" for k, v in plain.items()]
    text = "\n".join(lines) + "\n"
    for name, rows in record.items():
        if isinstance(rows, list) and rows and isinstance(rows[0], dict):
            heads = tuple(key.upper() for key in rows[0])
            body = [tuple(_shown(value) for value in row.values()) for row in rows]
            text += f"\n{name}:\n{lay_out(body, heads)}"
        elif isinstance(rows, list) and rows:
            text += "\n" + "".join(f"{row}\n" for row in rows)
    return text


def forecast_text(record: Row) -> str:
    """A forecast in a few sentences."""
    name, days = record["account"], record["days"]
    pace, low, high = (
        number_text(record[key]) for key in ("burn_per_day", "burn_low", "burn_high")
    )
    burn = f"{name} used {pace} a day over {days} days ({low} to {high})\n"
    if record["balance"] is None:
        return burn + f"{name} is not limited\n"
    if record["ends_at"] is None:
        return burn + f"{number_text(record['balance'])} last: nothing runs out\n"
    latest = record["ends_latest"] or "never"
    return burn + (
        f"{number_text(record['balance'])} last until {record['ends_at']} "
        f"({record['ends_soonest']} to {latest})\n"
    )


def check_text(record: Row) -> str:
    """The result of a check."""
    faults = record["faults"]
    if not faults:
        return f"{record['entries']} entries: hashes, sums and caches are right\n"
    return "".join(f"{fault}\n" for fault in faults)


def default_period(now: datetime) -> tuple[datetime, datetime]:
    """The last 30 days."""
    return now - timedelta(days=30), now


def _shown(value: object) -> str:
    return "-" if value is None or value == "" else number_text(value)


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat(timespec="seconds")


def _moment(at: int) -> str | None:
    return None if at >= FOREVER else _iso(moment_of(at))
