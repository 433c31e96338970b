"""Reports on credits: statement, charge-back, forecast and audit, from sums.

Pure: takes what the database added up and gives sheets; never reads anything itself.
Every total equals the ledger's to the micro-credit, and says so.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from dorabatch.fairshare.report_rows import (
    DayCharge,
    HandEntry,
    Head,
    Move,
    RunRevenue,
)
from dorabatch.fairshare.sheet import Chart, Column, Kind, Sheet
from dorabatch.units import moment_of, render_credits

DAY_US = 86_400_000_000
BARS_MAX = 20
_WINDOWS = (3, 7, 14)
_SIDES = ("avail", "lien")

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
)
MODEL_COLUMNS = (
    Column("zone", "ZONE"),
    Column("account", "ACCOUNT"),
    Column("model", "MODEL"),
    Column("charges", "CHARGES", Kind.UCR),
    Column("refunds", "REFUNDS", Kind.UCR),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Books:
    """The ledger over a period: sides before it, what moved in it, and its end."""

    opening: Mapping[str, int]
    moves: Sequence[Move]
    head: Head | None

    def closing(self) -> dict[str, int]:
        """Every side at the end."""
        found = defaultdict(int, self.opening)
        for move in self.moves:
            found[move.ledger_account] += move.ucr
        return found


def statement_sheets(books: Books, accounts: frozenset[str] | None) -> list[Sheet]:
    """One line for each account in each zone, and its charges by model.

    closing = opening + deposits - charges + refunds - expired + transferred.
    """
    kinds: dict[tuple[str, str], dict[str, int]] = defaultdict(lambda: defaultdict(int))
    models: dict[tuple[str, str, str], list[int]] = defaultdict(lambda: [0, 0])
    for side, ucr in books.opening.items():
        owner = _owner(side)
        if owner is not None:
            kinds[owner]["opening"] += ucr
    for move in books.moves:
        owner = _owner(move.ledger_account)
        if owner is not None:
            kinds[owner][move.kind] += move.ucr
        elif move.ledger_account.startswith("revenue:"):
            model = move.ledger_account.split(":", 2)[2]
            place = 1 if move.kind == "refund" else 0
            models[move.zone, move.payer, model][place] += abs(move.ucr)
    closing = books.closing()
    rows = [
        _statement_row(owner, moved, closing)
        for owner, moved in sorted(kinds.items())
        if accounts is None or owner[1] in accounts
    ]
    by_model = [
        (zone, account, model, charged, refunded)
        for (zone, account, model), (charged, refunded) in sorted(models.items())
        if accounts is None or account in accounts
    ]
    return [
        Sheet(
            name="statement",
            title="Accounts",
            columns=STATEMENT_COLUMNS,
            rows=tuple(rows),
        ),
        Sheet(
            name="models",
            title="Charges by model",
            columns=MODEL_COLUMNS,
            rows=tuple(by_model),
        ),
    ]


def _statement_row(
    owner: tuple[str, str], moved: Mapping[str, int], closing: Mapping[str, int]
) -> tuple[str | int, ...]:
    zone, account = owner
    return (
        zone,
        account,
        moved.get("opening", 0),
        moved.get("deposit", 0),
        -moved.get("charge", 0),
        moved.get("refund", 0),
        -moved.get("expire", 0),
        moved.get("transfer", 0),
        sum(closing.get(f"{side}:{zone}:{account}", 0) for side in _SIDES),
        closing.get(f"lien:{zone}:{account}", 0),
    )


def _owner(side: str) -> tuple[str, str] | None:
    """(zone, account) of a side that is an account's credit."""
    what, _, rest = side.partition(":")
    if what not in _SIDES:
        return None
    zone, _, account = rest.partition(":")
    return zone, account


def closing_line(books: Books, sheet: Sheet) -> str:
    """Whether all statements together are what the rest of the ledger says.

    Legs sum to zero, so what the accounts have is what all other sides lack.
    """
    others = -sum(ucr for side, ucr in books.closing().items() if _owner(side) is None)
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


def head_line(books: Books) -> str:
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
    available: Mapping[tuple[str, str], int],
    daily: Iterable[DayCharge],
    *,
    now: datetime,
    days: int,
) -> Sheet:
    """When each account's credit ends, at the quickest and slowest recent pace.

    `daily` covers the last `days` days up to `now`. The pace is the mean a day over the
    last 3, 7 and 14 days; the quickest gives the earliest date, the slowest the latest.
    """
    burnt: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0] * days)
    for one in daily:
        if 0 <= one.day < days:
            burnt[one.zone, one.payer][one.day] += one.ucr
    rows = []
    for (zone, account), left in sorted(available.items()):
        spent = burnt[zone, account]
        paces = [sum(spent[-window:]) // window for window in _WINDOWS]
        rows.append(
            (
                zone,
                account,
                left,
                sum(spent),
                min(paces),
                max(paces),
                _ends(now, left, max(paces)),
                _ends(now, left, min(paces)),
            )
        )
    return Sheet(
        name="forecast",
        title=f"Credit at the pace of the last {days} days",
        columns=(
            Column("zone", "ZONE"),
            Column("account", "ACCOUNT"),
            Column("available", "AVAILABLE", Kind.UCR),
            Column("spent", f"SPENT IN {days} D", Kind.UCR),
            Column("pace_low", "A DAY, LOW", Kind.UCR),
            Column("pace_high", "A DAY, HIGH", Kind.UCR),
            Column("ends_low", "ENDS, EARLY", Kind.MOMENT),
            Column("ends_high", "ENDS, LATE", Kind.MOMENT),
        ),
        rows=tuple(rows),
    )


def _ends(now: datetime, left: int, pace: int) -> datetime | None:
    """None: not at this pace, within ten years."""
    if left <= 0:
        return now
    if pace <= 0 or left * DAY_US // pace > 3650 * DAY_US:
        return None
    return now + timedelta(microseconds=left * DAY_US // pace)


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """Something that somebody changed."""

    at: datetime
    actor: str
    what: str
    subject: str
    detail: str
    reason: str
    ucr: int | None = None


def audit_sheet(changes: Iterable[Done]) -> Sheet:
    """Who changed what, oldest first."""
    ordered = sorted(changes, key=lambda one: (one.at, one.what, one.subject))
    return Sheet(
        name="audit",
        title="Who changed what",
        columns=(
            Column("at", "AT", Kind.MOMENT),
            Column("actor", "WHO"),
            Column("what", "WHAT"),
            Column("subject", "OF"),
            Column("amount", "CREDITS", Kind.UCR),
            Column("detail", "DETAIL"),
            Column("reason", "WHY"),
        ),
        rows=tuple(
            (one.at, one.actor, one.what, one.subject, one.ucr, one.detail, one.reason)
            for one in ordered
        ),
    )


def done_by_hand(entry: HandEntry) -> Done:
    """An entry of the ledger as something done."""
    return Done(
        at=moment_of(entry.at),
        actor=entry.actor,
        what=entry.kind,
        subject=entry.account,
        detail=f"run {entry.run}" if entry.run else "",
        reason=entry.reason,
        ucr=entry.ucr,
    )
