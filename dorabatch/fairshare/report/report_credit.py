"""Reports on credits: statement, charge-back, forecast and audit, from sums.

Pure: takes what the database added up and gives sheets; never reads anything itself.
Every total equals the ledger's to the micro-credit, and says so.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from dorabatch.fairshare.money.credit_forecast import DAYS, CreditForecast
from dorabatch.fairshare.money.report_rows import (
    Head,
    LedgerMove,
    RunRevenue,
)
from dorabatch.fairshare.money.statement import models_used, owner_of, statements
from dorabatch.fairshare.report.sheet import Chart, Column, Kind, Sheet
from dorabatch.units import render_credits

BARS_MAX = 20

STATEMENT_COLUMNS = (
    Column("zone", "ZONE"),
    Column("account", "ACCOUNT"),
    Column("opening", "OPENING", Kind.UCR),
    Column("deposits", "DEPOSITS", Kind.UCR),
    Column("charges", "CHARGES", Kind.UCR),
    Column("refunds", "REFUNDS", Kind.UCR),
    Column("expired", "EXPIRED", Kind.UCR),
    Column("transferred", "TRANSFERRED", Kind.UCR),
    Column("closing", "CLOSING", Kind.UCR),
    Column("liens", "OF IT HELD", Kind.UCR),
    Column("later", "OF IT LATER", Kind.UCR),
)
MODEL_COLUMNS = (
    Column("zone", "ZONE"),
    Column("account", "ACCOUNT"),
    Column("model", "MODEL"),
    Column("charges", "CHARGES", Kind.UCR),
    Column("refunds", "REFUNDS", Kind.UCR),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CreditBooks:
    """The ledger over a period: sides before it, what moved in it, and its end.

    `later[zone, account]` is credit that is there at the end and begins later.
    """

    opening: Mapping[str, int]
    moves: Sequence[LedgerMove]
    later: Mapping[tuple[str, str], int]
    head: Head | None

    def closing(self) -> dict[str, int]:
        """Every side at the end."""
        found = defaultdict(int, self.opening)
        for move in self.moves:
            found[move.ledger_account] += move.ucr
        return found


def statement_sheets(
    books: CreditBooks, accounts: frozenset[str] | None
) -> list[Sheet]:
    """One line for each account in each zone, and its charges by model."""
    rows = tuple(
        tuple(getattr(one, column.name) for column in STATEMENT_COLUMNS)
        for one in statements(books.opening, books.moves, books.later).values()
        if accounts is None or one.account in accounts
    )
    by_model = tuple(
        tuple(getattr(one, column.name) for column in MODEL_COLUMNS)
        for one in models_used(books.moves)
        if accounts is None or one.account in accounts
    )
    return [
        Sheet(name="statement", title="Accounts", columns=STATEMENT_COLUMNS, rows=rows),
        Sheet(
            name="models",
            title="Charges by model",
            columns=MODEL_COLUMNS,
            rows=by_model,
        ),
    ]


def closing_line(books: CreditBooks, sheet: Sheet) -> str:
    """Whether all statements together are what the rest of the ledger says.

    Legs sum to zero, so what the accounts have is what all other sides lack.
    """
    others = -sum(
        ucr for side, ucr in books.closing().items() if owner_of(side) is None
    )
    column = [column.name for column in STATEMENT_COLUMNS].index("closing")
    total = sum(int(str(row[column])) for row in sheet.rows)
    if total != others:
        return (
            f"THE STATEMENTS DO NOT SUM TO THE LEDGER: {render_credits(total)} here, "
            f"{render_credits(others)} there"
        )
    where = (
        f"entry {books.head.entry}, hash {books.head.hash}"
        if books.head
        else "no entry yet"
    )
    return (
        f"All closing balances sum to {render_credits(total)} credits ({total} ucr), "
        f"exactly what the ledger says; head of its chain: {where}."
    )


def head_line(books: CreditBooks) -> str:
    """Where the chain stood, for a statement that shows only some accounts."""
    if books.head is None:
        return "The ledger has no entry yet."
    return (
        f"Head of the ledger's chain: entry {books.head.entry}, hash {books.head.hash}."
    )


def charge_back_sheets(
    revenue: Iterable[RunRevenue], workspace_of: Mapping[str, str]
) -> list[Sheet]:
    """Net charges by account and model, and by workspace and model.

    `workspace_of[run]` names the workspace a run belongs to.
    """
    accounts: dict[tuple[str, str, str], int] = defaultdict(int)
    places: dict[tuple[str, str, str], int] = defaultdict(int)
    for one in revenue:
        accounts[one.zone, one.payer, one.model] += one.ucr
        places[one.zone, workspace_of.get(one.run, "(unknown)"), one.model] += one.ucr
    return [
        _net_sheet("accounts", "By account", "account", accounts),
        _net_sheet("workspaces", "By workspace", "workspace", places),
    ]


def _net_sheet(
    name: str, title: str, what: str, sums: Mapping[tuple[str, str, str], int]
) -> Sheet:
    return Sheet(
        name=name,
        title=title,
        columns=(
            Column("zone", "ZONE"),
            Column(what, what.upper()),
            Column("model", "MODEL"),
            Column("charged", "CHARGED", Kind.UCR),
        ),
        rows=tuple((*key, ucr) for key, ucr in sorted(sums.items())),
    )


def bars(
    sheet: Sheet, label: int, value: int, title: str, *, by_label: bool = False
) -> Chart:
    """A bar for each label of a sheet, with the sum of its values.

    The longest first and no more than twenty, or all in the order of their labels.
    """
    sums: dict[str, float] = defaultdict(float)
    for row in sheet.rows:
        number = row[value]
        sums[str(row[label])] += number if isinstance(number, int | float) else 0
    ranked = sorted(sums.items())
    if not by_label:
        ranked = sorted(ranked, key=lambda pair: -pair[1])[:BARS_MAX]
    return Chart(
        title=title,
        kind=sheet.columns[value].kind,
        labels=tuple(name for name, _ in ranked),
        values=tuple(amount for _, amount in ranked),
    )


def forecast_sheet(
    found: Mapping[tuple[str, str], tuple[int, CreditForecast]],
) -> Sheet:
    """When each account's credit ends: (zone, account) -> its balance and forecast."""
    return Sheet(
        name="forecast",
        title=f"Credit at the pace of the last {DAYS} days",
        columns=(
            Column("zone", "ZONE"),
            Column("account", "ACCOUNT"),
            Column("balance", "BALANCE", Kind.UCR),
            Column("spent", f"SPENT IN {DAYS} D", Kind.UCR),
            Column("pace", "A DAY", Kind.UCR),
            Column("pace_low", "LOW", Kind.UCR),
            Column("pace_high", "HIGH", Kind.UCR),
            Column("ends", "ENDS", Kind.MOMENT),
            Column("ends_low", "EARLY", Kind.MOMENT),
            Column("ends_high", "LATE", Kind.MOMENT),
        ),
        rows=tuple(
            (
                *owner,
                balance,
                one.spent,
                one.burn,
                one.burn_low,
                one.burn_high,
                one.ends_at,
                one.ends_soonest,
                one.ends_latest,
            )
            for owner, (balance, one) in sorted(found.items())
        ),
    )
