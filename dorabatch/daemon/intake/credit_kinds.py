"""The kinds for credits: Resourcecredit (a price), User, Usercredit (an account).

Stores what is declared and brings prices and weekly credit into force in the same
transaction. Charges nobody and takes nothing back that was given.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from dorabatch.daemon.intake.workload_kind import Applied
from dorabatch.daemon.rights import Caller
from dorabatch.daemon.state.credit_weeks import open_weeks
from dorabatch.daemon.state.object_store import (
    RemovedObject,
    StoredObject,
    delete_object,
    get_object,
    list_objects,
    save_object,
)
from dorabatch.daemon.state.services import Services
from dorabatch.daemon.state.users import weekly_credit
from dorabatch.daemon.views.accounts import Accounts
from dorabatch.daemon.views.rows import Cell, Row, render_table
from dorabatch.db import Tx
from dorabatch.errors import NotAllowed, NotFound, UserError
from dorabatch.fairshare.money.price import Price
from dorabatch.fairshare.store import terms
from dorabatch.resources.credits import Resourcecredit, ResourcecreditSpec
from dorabatch.resources.document import Document
from dorabatch.resources.people import User
from dorabatch.units import (
    FREE,
    MicroCredits,
    number_text,
)

KINDS = ("Resourcecredit", "User", "Usercredit")
_COLUMNS: dict[str, tuple[str, ...]] = {
    "Resourcecredit": ("name", "zone", "product_name", "per_hour", "price_unit"),
    "User": ("name", "workspace", "zone", "credits"),
    "Usercredit": (
        "name", "zone", "weekly", "used_this_week", "used", "available", "held",
        "on_exhaust", "resets_at",
    ),
}  # fmt: skip


class CreditKinds:
    """Prices, users and their accounts in one zone."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._zone = services.settings.zone
        self._accounts = Accounts(
            engine=services.engine, credits=services.credits, clock=services.clock
        )

    def apply(
        self, caller: Caller, document: Document
    ) -> tuple[Applied, tuple[str, ...]]:
        """Bring a price or a user into force; also warnings."""
        if isinstance(document, Resourcecredit):
            return self._apply_price(caller, document), ()
        if isinstance(document, User):
            return self._apply_user(caller, document)
        raise UserError(
            "Usercredit is kept by the daemon and never applied; set spec.credits of "
            "a User, or use dcredit grant"
        )

    def delete(self, caller: Caller, kind: str, name: str) -> tuple[str, str]:
        """Make a product free again, or forget a user; what was posted stays."""
        if kind == "Usercredit":
            raise UserError(
                "Usercredit is kept by the daemon and cannot be deleted; dcredit "
                "expire ends what an account has left"
            )
        if kind == "Resourcecredit":
            self._delete_price(caller, name)
            return "deleted", f"{name} is free from now on"
        gone = RemovedObject(kind="User", zone="", workspace="", name=name)
        now = self._services.clock.now()
        if not self._services.writer.do(
            lambda tx: delete_object(tx, gone, actor=caller.user, at=now)
        ):
            raise self._unknown(kind, name, caller)
        return "deleted", f"user {name} removed; credit that was given stays"

    def records(self, caller: Caller, kind: str) -> list[Row]:
        """All of a kind that the caller may see: others' accounts are an admin's."""
        if kind == "Resourcecredit":
            return self._accounts.prices()
        users = self._accounts.users() if kind == "User" else self._accounts.rows()
        return [one for one in users if caller.is_admin or one["name"] == caller.user]

    def record(self, caller: Caller, kind: str, name: str) -> Row:
        """One of a kind."""
        if kind != "Resourcecredit" and not caller.is_admin and name != caller.user:
            raise NotAllowed(
                f"{kind.lower()} {name!r}: {caller.user} may see only their own "
                f"({caller.user})"
            )
        for one in self.records(caller, kind):
            if one["name"] == name:
                return one
        raise self._unknown(kind, name, caller)

    def table(self, kind: str, records: list[Row]) -> str:
        """Records as text."""
        columns = _COLUMNS[kind]
        cells: dict[str, tuple[str, Cell]] = {
            name: (kind.upper() if name == "name" else name.upper(), _cell(name))
            for name in columns
        }
        return render_table(records, cells, columns)

    def _apply_price(self, caller: Caller, document: Resourcecredit) -> Applied:
        zone = document.zone or self._zone
        if zone != self._zone:
            raise UserError(
                f"metadata.zone: {zone!r} is not served by this daemon (it serves "
                f"{self._zone!r})"
            )
        now = self._services.clock.now()
        valid_from = document.spec.valid_from or now
        if valid_from < now:
            raise UserError(
                f"spec.validFrom: {valid_from.isoformat()} is past; a price holds from "
                "now on (leave validFrom out) or later"
            )
        price = Price(
            zone=zone,
            model=document.product_name,
            per_hour=MicroCredits(document.microcredits_per_hour),
            valid_from=valid_from,
        )
        text = document.spec.model_dump_json(by_alias=True, exclude_none=True)
        wanted = self._stored(caller, "Resourcecredit", zone, document.name, text, now)

        def write(tx: Tx) -> str:
            result = save_object(tx, wanted)
            present = self._services.credits.prices
            is_new = price.per_hour != present.price_at(zone, price.model, valid_from)
            if is_new or not present.is_priced(zone, price.model):
                terms.add_price(tx.connection, price, caller.user)
                tx.note(price)
                return "created" if result == "created" else "updated"
            return result

        result = self._services.writer.do(write)
        self._services.cycle_wanted.set()
        return Applied(
            kind="Resourcecredit", name=document.name, result=result, message=""
        )

    def _delete_price(self, caller: Caller, name: str) -> None:
        now = self._services.clock.now()
        gone = RemovedObject(
            kind="Resourcecredit", zone=self._zone, workspace="", name=name
        )

        def write(tx: Tx) -> None:
            found = get_object(tx.connection, "Resourcecredit", self._zone, "", name)
            if found is None:
                raise self._unknown("Resourcecredit", name, caller)
            delete_object(tx, gone, actor=caller.user, at=now)
            spec = ResourcecreditSpec.model_validate_json(found.spec)
            product = spec.product_name or name
            later = [
                one.valid_from
                for one in self._services.credits.price_list()
                if one.model == product and one.valid_from > now
            ]
            for moment in (now, *later):
                free = Price(
                    zone=self._zone, model=product, per_hour=FREE, valid_from=moment
                )
                terms.add_price(tx.connection, free, caller.user)
                tx.note(free)

        self._services.writer.do(write)

    def _apply_user(
        self, caller: Caller, document: User
    ) -> tuple[Applied, tuple[str, ...]]:
        spec, warnings = document.spec, []
        if spec.resources:
            warnings.append(
                "spec.resources: this daemon serves no roles; they were left out"
            )
            spec = spec.model_copy(update={"resources": ()})
        now = self._services.clock.now()
        text = spec.model_dump_json(by_alias=True, exclude_none=True)
        wanted = self._stored(caller, "User", "", document.name, text, now)
        settings = self._services.settings.credits
        weekly = weekly_credit(spec, self._zone, document.name, settings)

        def write(tx: Tx) -> str:
            self._check_home(tx, document.name, spec.default.workspace)
            result = save_object(tx, wanted)
            if weekly is not None:
                services = self._services
                open_weeks(services.credits, services.billing, tx, [weekly], now)
            return result

        result = self._services.writer.do(write)
        self._services.cycle_wanted.set()
        done = Applied(kind="User", name=document.name, result=result, message="")
        return done, tuple(warnings)

    def _check_home(self, tx: Tx, user: str, workspace: str | None) -> None:
        """Raise UserError for a default workspace that the user could not use."""
        if workspace is None or workspace == user:
            return
        owners = {
            one.name: one.owner for one in list_objects(tx.connection, "Workspace")
        }
        owner, is_admin = owners.get(workspace), user in self._services.settings.admins
        if owner == user or (owner and is_admin):
            return
        known = f"it belongs to {owner}" if owner else "there is no such workspace"
        own = [repr(name) for name, of in owners.items() if of == user]
        raise UserError(
            f"spec.default.workspace: {workspace!r}: {known}; allowed are "
            f"{', '.join([repr(user), *own])}, and what {user} makes with dora apply "
            f"(kind: Workspace, such as '{user}.NAME') before"
        )

    def _stored(
        self, caller: Caller, kind: str, zone: str, name: str, spec: str, now: datetime
    ) -> StoredObject:
        return StoredObject(
            kind=kind,
            zone=zone,
            workspace="",
            name=name,
            spec=spec,
            owner=caller.user,
            created_at=now,
            changed_at=now,
        )

    def _unknown(self, kind: str, name: str, caller: Caller) -> NotFound:
        names = ", ".join(one["name"] for one in self.records(caller, kind)) or "none"
        return NotFound(f"no {kind.lower()} {name!r} (known: {names})")


def _cell(name: str) -> Cell:
    def cell(row: Row) -> str:
        value = row[name]
        if name == "credits":
            return _weekly_text(value)
        return "-" if value is None or value == "" else number_text(value)

    return cell


def _weekly_text(credits: Iterable[Mapping[str, Any]]) -> str:
    return ", ".join(f"{one['weekly']} in {one['zone']}" for one in credits) or "-"
