"""Accounts and prices of a zone as rows, and which accounts are known at all.

Reads memory and the ledger; changes nothing. Amounts are in credits.
"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Engine, select

from dorabatch.clock import Clock
from dorabatch.daemon.state.credit_book import CreditBook
from dorabatch.daemon.state.object_store import StoredObject, list_objects
from dorabatch.daemon.views.table_layout import Row
from dorabatch.errors import NotFound
from dorabatch.fairshare.store import accounts
from dorabatch.fairshare.store.ledger_tables import ALLOCATIONS
from dorabatch.queue.tables import WORKLOADS
from dorabatch.resources.credits import ResourcecreditSpec
from dorabatch.resources.names import ALL
from dorabatch.resources.nearest import did_you_mean
from dorabatch.resources.people import Grant, UserSpec
from dorabatch.units import credits_number, microseconds_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Accounts:
    """What is known of the accounts of one zone."""

    engine: Engine
    credits: CreditBook
    clock: Clock

    @property
    def zone(self) -> str:
        """The zone they are in."""
        return self.credits.zone

    def rows(self) -> list[Row]:
        """Every account that was ever used or has credit."""
        now = self.clock.now()
        week = self.credits.period(now)
        with self.engine.connect() as connection:
            start = microseconds_of(week.start)
            this_week = accounts.used_since(connection, self.zone, start=start)
            used = accounts.used_in_all(connection, self.zone)
        return [
            self.row(name, used[name], this_week.get(name, 0), now)
            for name in sorted(used)
        ]

    def row(self, account: str, used: int, used_this_week: int, now: datetime) -> Row:
        """One account as a flat record; `used` are micro-credits."""
        book = self.credits
        standing = book.standing_of(account, now)
        weekly = book.people.weekly_of(self.zone, account)
        available = standing.available
        side, at = f"avail:{self.zone}:{account}", microseconds_of(now)
        later = sum(
            book.book.balances.get((side, one.id), 0)
            for one in book.book.budgeted(self.zone, account)
            if one.valid_from > at
        )
        return {
            "kind": "Usercredit",
            "name": account,
            "zone": self.zone,
            "weekly": None if weekly is None else credits_number(weekly.amount),
            "used_this_week": credits_number(used_this_week),
            "used": credits_number(used),
            "available": None if available is None else credits_number(available),
            "held": credits_number(standing.liens),
            "balance": None if available is None else credits_number(standing.balance),
            "later": None if available is None else credits_number(later),
            "on_exhaust": standing.on_exhaust if standing.is_limited else None,
            "resets_at": standing.resets_at.isoformat() if standing.resets_at else None,
            "reset_text": standing.when() if standing.resets_at else None,
            "week_began_at": book.period(now).start.isoformat(),
        }

    def prices(self) -> list[Row]:
        """Every declared price with its history."""
        now = self.clock.now()
        with self.engine.connect() as connection:
            stored = list_objects(connection, "Resourcecredit", self.zone)
        return [self._price(one, now) for one in stored]

    def _price(self, one: StoredObject, now: datetime) -> Row:
        spec = ResourcecreditSpec.model_validate_json(one.spec)
        product = spec.product_name or one.name
        rows = [row for row in self.credits.price_list() if row.model == product]
        price = self.credits.prices.price_at(self.zone, product, now)
        return {
            "kind": one.kind,
            "name": one.name,
            "zone": one.zone,
            "product_name": product,
            "per_hour": credits_number(price),
            "price_unit": spec.annotations.price_unit if spec.annotations else None,
            "history": [
                {
                    "from": row.valid_from.isoformat(),
                    "per_hour": credits_number(row.per_hour),
                }
                for row in rows
            ],
            "owner": one.owner,
            "changed_at": one.changed_at.isoformat(timespec="seconds"),
        }

    def users(self) -> list[Row]:
        """Every declared user."""
        with self.engine.connect() as connection:
            return [_user(one) for one in list_objects(connection, "User")]

    def check(self, connection: Connection, account: str) -> None:
        """Raise NotFound for somebody of whom nothing is known here."""
        names = self.known(connection)
        if account not in names:
            hint = did_you_mean(account, names)
            raise NotFound(
                f"no account {account!r}{hint}; known are declared users (dora apply, "
                "kind User), who has submitted, and accounts with credit"
            )

    def known(self, connection: Connection) -> set[str]:
        """Declared users, who ever submitted here, and accounts with credit or use."""
        submitted = select(WORKLOADS.c.user).where(WORKLOADS.c.zone == self.zone)
        granted = select(ALLOCATIONS.c.account).where(ALLOCATIONS.c.zone == self.zone)
        users = {*connection.execute(submitted.distinct()).scalars()}
        above = {name for user in users for name in self.credits.chain_of(user)}
        given = connection.execute(granted.distinct()).scalars()
        return {*users, *above, *given, *self.credits.people.names()}


def _user(one: StoredObject) -> Row:
    spec = UserSpec.model_validate_json(one.spec)
    return {
        "kind": one.kind,
        "name": one.name,
        "workspace": spec.default.workspace,
        "zone": spec.default.zone,
        "mail": spec.mail,
        "roles": None
        if spec.resources is None
        else [grant_text(grant) for grant in spec.resources],
        "credits": [
            {
                "zone": credit.zone,
                "weekly": credits_number(credit.weekly_microcredits),
                "on_exhaust": credit.on_exhaust,
                "rollover": credit.rollover,
            }
            for credit in spec.credits
        ],
        "owner": one.owner,
        "created_at": one.created_at.isoformat(timespec="seconds"),
        "changed_at": one.changed_at.isoformat(timespec="seconds"),
    }


def grant_text(grant: Grant) -> str:
    """A role and where it counts, in a few words."""
    where = f"account {grant.account}" if grant.account else str(grant.workspace)
    kind = "" if grant.kind == ALL else f"{grant.kind} "
    zone = "" if grant.zone == ALL else f" of {grant.zone}"
    return f"{kind}{grant.role} in {where}{zone}"
