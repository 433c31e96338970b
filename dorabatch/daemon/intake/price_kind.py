"""Resourcecredit: what a product costs in the zone, from when on.

Stores what is declared and brings the price into force in the same transaction. A
price holds from now on or later: what was charged is never touched.
"""

import threading
from dataclasses import dataclass

from dorabatch.clock import Clock
from dorabatch.daemon.intake.kind_table import (
    Applied,
    KindEntry,
    Named,
    Scope,
    nobodys,
)
from dorabatch.daemon.rights import Caller
from dorabatch.daemon.state.credit_book import CreditBook
from dorabatch.daemon.state.object_store import (
    RemovedObject,
    StoredObject,
    delete_object,
    get_object,
    save_object,
)
from dorabatch.daemon.views.account_rows import Accounts
from dorabatch.daemon.views.cell_texts import number_cell, text_cell
from dorabatch.daemon.views.describe import describe_object
from dorabatch.daemon.views.table_layout import Cell, Row
from dorabatch.db import Tx, Writer
from dorabatch.errors import NotFound, UserError
from dorabatch.fairshare.money.price import Price
from dorabatch.fairshare.store import terms
from dorabatch.resources.credits import Resourcecredit, ResourcecreditSpec
from dorabatch.resources.document import Document
from dorabatch.units import FREE, MicroCredits

_KIND = "Resourcecredit"


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceKind:
    """The prices of one zone."""

    credits: CreditBook
    accounts: Accounts
    writer: Writer
    clock: Clock
    cycle_wanted: threading.Event

    def entry(self) -> KindEntry:
        """Its entry in the table of kinds."""
        return KindEntry(
            name=_KIND,
            words=("resourcecredits", "price", "prices"),
            scope=Scope.ZONE,
            cells=PRICE_CELLS,
            columns=tuple(PRICE_CELLS),
            rows=self.accounts.prices,
            find=self.find,
            belongs=nobodys,
            text=describe_object,
            target=nobodys,
            apply=self.apply,
            delete=self.delete,
        )

    def find(self, _caller: Caller, named: Named) -> Row:
        """One declared price."""
        rows = self.accounts.prices()
        for row in rows:
            if row["name"] == named.name:
                return row
        raise _unknown(named.name, rows)

    def apply(self, caller: Caller, document: Document, _agreed: str | None) -> Applied:
        """Bring a price into force."""
        assert isinstance(document, Resourcecredit)
        price = self._price(document)
        now = self.clock.now()
        wanted = StoredObject(
            kind=_KIND,
            zone=price.zone,
            workspace="",
            name=document.name,
            spec=document.spec.model_dump_json(by_alias=True, exclude_none=True),
            owner=caller.user,
            created_at=now,
            changed_at=now,
        )

        def write(tx: Tx) -> str:
            result = save_object(tx, wanted)
            if self._is_new(price):
                terms.add_price(tx.connection, price, caller.user)
                tx.note(price)
                return "created" if result == "created" else "updated"
            return result

        result = self.writer.do(write)
        self.cycle_wanted.set()
        return Applied(kind=_KIND, name=document.name, result=result, message="")

    def delete(self, caller: Caller, named: Named) -> tuple[str, str]:
        """Make a product free from now on."""
        if not self._end(caller, named.name):
            raise _unknown(named.name, self.accounts.prices())
        self.cycle_wanted.set()
        return "deleted", f"{named.name} is free from now on"

    def _end(self, caller: Caller, name: str) -> bool:
        """Add the price of nothing; whether there was a price of this name."""
        now, zone = self.clock.now(), self.credits.zone
        gone = RemovedObject(kind=_KIND, zone=zone, workspace="", name=name)

        def write(tx: Tx) -> bool:
            found = get_object(tx.connection, _KIND, zone, "", name)
            if found is None:
                return False
            delete_object(tx, gone, actor=caller.user, at=now)
            spec = ResourcecreditSpec.model_validate_json(found.spec)
            product = spec.product_name or name
            later = [
                one.valid_from
                for one in self.credits.price_list()
                if one.model == product and one.valid_from > now
            ]
            for moment in (now, *later):
                free = Price(zone=zone, model=product, per_hour=FREE, valid_from=moment)
                terms.add_price(tx.connection, free, caller.user)
                tx.note(free)
            return True

        return self.writer.do(write)

    def _price(self, document: Resourcecredit) -> Price:
        served = self.credits.zone
        zone = document.zone or served
        if zone != served:
            raise UserError(
                f"metadata.zone: {zone!r} is not served by this daemon (it serves "
                f"{served!r})"
            )
        now = self.clock.now()
        valid_from = document.spec.valid_from or now
        if valid_from < now:
            raise UserError(
                f"spec.validFrom: {valid_from.isoformat()} is past; a price holds from "
                "now on (leave validFrom out) or later"
            )
        return Price(
            zone=zone,
            model=document.product_name,
            per_hour=MicroCredits(document.microcredits_per_hour),
            valid_from=valid_from,
        )

    def _is_new(self, price: Price) -> bool:
        present = self.credits.prices
        before = present.price_at(price.zone, price.model, price.valid_from)
        is_priced = present.is_priced(price.zone, price.model)
        return price.per_hour != before or not is_priced


def _unknown(name: str, rows: list[Row]) -> NotFound:
    names = ", ".join(str(row["name"]) for row in rows) or "none"
    return NotFound(f"no resourcecredit {name!r} (known: {names})")


PRICE_CELLS: dict[str, tuple[str, Cell]] = {
    "name": ("RESOURCECREDIT", text_cell("name")),
    "zone": ("ZONE", text_cell("zone")),
    "product_name": ("PRODUCT_NAME", text_cell("product_name")),
    "per_hour": ("PER_HOUR", number_cell("per_hour")),
    "price_unit": ("PRICE_UNIT", text_cell("price_unit")),
}
