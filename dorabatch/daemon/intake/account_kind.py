"""Usercredit: accounts of a zone, as the ledger has them.

Kept by the daemon: nothing here is applied or deleted.
"""

from dataclasses import dataclass

from dorabatch.daemon.intake.kind_table import Belonging, KindEntry, Named, Scope
from dorabatch.daemon.rights import Caller
from dorabatch.daemon.views.account_rows import Accounts
from dorabatch.daemon.views.cell_texts import number_cell, text_cell
from dorabatch.daemon.views.describe import describe_object
from dorabatch.daemon.views.table_layout import Cell, Row
from dorabatch.errors import NotFound

ACCOUNT_CELLS: dict[str, tuple[str, Cell]] = {
    "name": ("USERCREDIT", text_cell("name")),
    "zone": ("ZONE", text_cell("zone")),
    "weekly": ("WEEKLY", number_cell("weekly")),
    "used_this_week": ("USED_THIS_WEEK", number_cell("used_this_week")),
    "used": ("USED", number_cell("used")),
    "available": ("AVAILABLE", number_cell("available")),
    "held": ("HELD", number_cell("held")),
    "on_exhaust": ("ON_EXHAUST", text_cell("on_exhaust")),
    "resets_at": ("RESETS_AT", text_cell("resets_at")),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountKind:
    """The accounts of one zone."""

    accounts: Accounts

    def entry(self) -> KindEntry:
        """Its entry in the table of kinds."""
        return KindEntry(
            name="Usercredit",
            words=("usercredits",),
            scope=Scope.ZONE,
            cells=ACCOUNT_CELLS,
            columns=tuple(ACCOUNT_CELLS),
            rows=self.accounts.rows,
            find=self.find,
            belongs=lambda row: Belonging(owner=row["name"]),
            text=describe_object,
            kept_by="accounts are kept by the daemon; set spec.credits of a User, or "
            "use dcredit grant and dcredit expire",
        )

    def find(self, _caller: Caller, named: Named) -> Row:
        """One account."""
        for row in self.accounts.rows():
            if row["name"] == named.name:
                return row
        raise NotFound(f"no account {named.name!r} has credit or was ever charged")
