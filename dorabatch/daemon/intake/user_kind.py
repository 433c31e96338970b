"""User: what is declared of a person: defaults, mail, roles, weekly credit.

Stores what is declared and opens the week's credit in the same transaction. Defaults
that the user's documents could never use are refused here, and roles beyond those of
who gives them; credit that was given is never taken back.
"""

import threading
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from dorabatch.config import Settings
from dorabatch.daemon.intake.grants import Grants
from dorabatch.daemon.intake.kind_table import (
    Applied,
    Belonging,
    KindEntry,
    Named,
    Scope,
)
from dorabatch.daemon.intake.stored_kinds import StoredKinds
from dorabatch.daemon.intake.zone_kind import ZONE
from dorabatch.daemon.rights import Caller
from dorabatch.daemon.state.charging import Billing
from dorabatch.daemon.state.credit_book import CreditBook
from dorabatch.daemon.state.credit_weeks import open_weeks
from dorabatch.daemon.state.object_store import list_objects
from dorabatch.daemon.state.rights_book import WORKSPACE
from dorabatch.daemon.state.users import KIND, weekly_credit
from dorabatch.daemon.views.account_rows import Accounts
from dorabatch.daemon.views.cell_texts import text_cell
from dorabatch.daemon.views.describe import describe_object
from dorabatch.daemon.views.table_layout import Cell, Row
from dorabatch.db import Tx
from dorabatch.errors import NotFound, UserError
from dorabatch.resources.document import Document
from dorabatch.resources.people import User, UserSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class WeeksOfUsers:
    """Weekly credit as users are declared."""

    settings: Settings
    credits: CreditBook
    billing: Billing

    def open(self, tx: Tx, user: str, spec: UserSpec, now: datetime) -> None:
        """Give what the spec says for this week, in its own transaction."""
        zone, credit = self.settings.zone, self.settings.credits
        weekly = weekly_credit(spec, zone, user, credit)
        if weekly is not None:
            open_weeks(self.credits, self.billing, tx, [weekly], now)


@dataclass(frozen=True, slots=True, kw_only=True)
class UserKind:
    """The users that are declared."""

    settings: Settings
    grants: Grants
    weeks: WeeksOfUsers
    accounts: Accounts
    stored: StoredKinds
    cycle_wanted: threading.Event

    def entry(self) -> KindEntry:
        """Its entry in the table of kinds."""
        return KindEntry(
            name=KIND,
            words=("users",),
            scope=Scope.EVERYWHERE,
            cells=USER_CELLS,
            columns=tuple(USER_CELLS),
            rows=self.accounts.users,
            find=self.find,
            belongs=lambda row: Belonging(owner=row["name"]),
            text=describe_object,
            target=lambda document, _home: Belonging(owner=document.name),
            apply=self.apply,
            delete=self.delete,
        )

    def find(self, _caller: Caller, named: Named) -> Row:
        """One declared user."""
        rows = self.accounts.users()
        for row in rows:
            if row["name"] == named.name:
                return row
        raise NotFound(f"no user {named.name!r} is declared")

    def apply(self, caller: Caller, document: Document, _agreed: str | None) -> Applied:
        """Declare a user; NotAllowed for roles above the caller's own."""
        assert isinstance(document, User)
        spec, name = document.spec, document.name
        self.grants.check(caller, name, spec)
        text = spec.model_dump_json(by_alias=True, exclude_none=True)
        wanted = self.stored.wanted(document, text, caller.user)

        def write(tx: Tx) -> str:
            self._check_zone(tx.connection, spec.default.zone)
            self._check_home(tx.connection, name, spec)
            result = self.stored.save_in(tx, wanted, actor=caller.user)
            self.weeks.open(tx, name, spec, wanted.changed_at)
            return result

        result = self.stored.writer.do(write)
        self.cycle_wanted.set()
        return Applied(kind=KIND, name=name, result=result, message="")

    def delete(self, caller: Caller, named: Named) -> tuple[str, str]:
        """Forget a user, and the roles with them; credit that was given stays."""
        name = named.name
        self.grants.check_forgotten(caller, name)
        if not self.stored.forget(KIND, name, caller):
            raise NotFound(f"no user {name!r} is declared")
        return "deleted", f"user {name} removed; credit that was given stays"

    def _check_zone(self, connection: Connection, zone: str | None) -> None:
        """Raise UserError for a default zone that nobody has heard of."""
        known = {self.settings.zone}
        known |= {one.name for one in list_objects(connection, ZONE)}
        if zone is not None and zone not in known:
            raise UserError(
                f"spec.default.zone: there is no zone {zone!r} (known: "
                f"{', '.join(sorted(known))}), and everything that the user submits "
                "without a zone would be refused; dora apply the Zone first, or leave "
                "it out"
            )

    def _check_home(self, connection: Connection, user: str, spec: UserSpec) -> None:
        """Raise UserError for a default workspace that the user could not use."""
        workspace = spec.default.workspace
        if workspace is None or workspace == user:
            return
        owners = {one.name: one.owner for one in list_objects(connection, WORKSPACE)}
        known = "there is no such workspace"
        if workspace in owners:
            if self.grants.works_in(user, spec, workspace):
                return
            known = f"no role lets {user} submit there"
        own = [repr(name) for name, of in owners.items() if of == user]
        raise UserError(
            f"spec.default.workspace: {workspace!r}: {known}; allowed are "
            f"{', '.join([repr(user), *own])}, and what {user} makes with dora apply "
            f"(kind: Workspace, such as '{user}.NAME') before"
        )


def _weekly_text(row: Row) -> str:
    limits = (f"{one['weekly']} in {one['zone']}" for one in row["credits"])
    return ", ".join(limits) or "-"


USER_CELLS: dict[str, tuple[str, Cell]] = {
    "name": ("USER", text_cell("name")),
    "workspace": ("WORKSPACE", text_cell("workspace")),
    "zone": ("ZONE", text_cell("zone")),
    "roles": ("ROLES", lambda row: ", ".join(row["roles"] or ()) or "-"),
    "credits": ("CREDITS", _weekly_text),
}
