"""What the ledger says of an account over a period, summed from what moved.

The one source of `dcredit statement` and `dreport statement`. Pure: takes what the
database added up; never reads it and never renders text.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from dorabatch.fairshare.money.report_rows import LedgerMove

SIDES = ("avail", "lien")
"""The sides of the ledger that are an account's own: free, and held for runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """One account in one zone over [start, end), in micro-credits.

    closing = opening + deposits - charges + refunds - expired + transferred; liens
    are part of it, and so is `later`: credit that begins at the end or after it.
    """

    zone: str
    account: str
    opening: int = 0
    deposits: int = 0
    charges: int = 0
    refunds: int = 0
    expired: int = 0
    transferred: int = 0
    liens: int = 0
    later: int = 0
    closing: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelUse:
    """What an account itself was charged for one model, and what came back."""

    zone: str
    account: str
    model: str
    charges: int
    refunds: int


def statements(
    opening: Mapping[str, int],
    moves: Iterable[LedgerMove],
    later: Mapping[tuple[str, str], int],
) -> dict[tuple[str, str], Statement]:
    """(zone, account) -> its statement, in order.

    `opening[side]` is what a side had before the period, `moves` what moved in it,
    `later[zone, account]` what of its closing begins at the end of the period or after.
    """
    moved: dict[tuple[str, str], dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for side, ucr in opening.items():
        _add(moved, side, "opening", ucr)
    for move in moves:
        _add(moved, move.ledger_account, move.kind, move.ucr)
    return {
        (zone, account): Statement(
            zone=zone,
            account=account,
            opening=parts["opening"],
            deposits=parts["deposit"],
            charges=-parts["charge"],
            refunds=parts["refund"],
            expired=-parts["expire"],
            transferred=parts["transfer"],
            liens=parts["liens"],
            later=later.get((zone, account), 0),
            closing=sum(ucr for kind, ucr in parts.items() if kind != "liens"),
        )
        for (zone, account), parts in sorted(moved.items())
    }


def models_used(moves: Iterable[LedgerMove]) -> list[ModelUse]:
    """What each account itself was charged for each model, in order."""
    sums: dict[tuple[str, str, str], list[int]] = defaultdict(lambda: [0, 0])
    for move in moves:
        if move.ledger_account.startswith("revenue:"):
            model = move.ledger_account.split(":", 2)[2]
            place = 1 if move.kind == "refund" else 0
            sums[move.zone, move.payer, model][place] += abs(move.ucr)
    return [
        ModelUse(
            zone=zone, account=account, model=model, charges=charged, refunds=refunded
        )
        for (zone, account, model), (charged, refunded) in sorted(sums.items())
    ]


def owner_of(side: str) -> tuple[str, str] | None:
    """(zone, account) of a side of the ledger that is an account's credit."""
    what, _, rest = side.partition(":")
    if what not in SIDES:
        return None
    zone, _, account = rest.partition(":")
    return zone, account


def _add(
    moved: dict[tuple[str, str], dict[str, int]], side: str, kind: str, ucr: int
) -> None:
    owner = owner_of(side)
    if owner is None:
        return
    moved[owner][kind] += ucr
    if side.startswith("lien:"):
        moved[owner]["liens"] += ucr
