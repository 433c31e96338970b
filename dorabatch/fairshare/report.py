"""What the ledger says about a period: statement, charge-back, usage and fairness.

Sums entries; every total equals the ledger's to the micro-credit. Never reads the
database and never renders text.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dorabatch.fairshare.book import Entry


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """One account in one zone over [start, end), in micro-credits.

    closing = opening + deposits - charges + refunds - expired + transferred; liens
    are part of it.
    """

    zone: str
    account: str
    opening: int
    deposits: int
    charges: int
    refunds: int
    expired: int
    transferred: int
    liens: int
    closing: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ChargeBack:
    """What one account used of one model, less refunds."""

    zone: str
    account: str
    model: str
    ucr: int


def statement(
    entries: Iterable[Entry], *, zone: str, account: str, start: int, end: int
) -> Statement:
    """The account's period, from all entries before `end`."""
    moved: dict[str, int] = defaultdict(int)
    opening = liens = 0
    for entry in entries:
        if entry.posting.at >= end:
            continue
        own, held = _own(entry, zone, account)
        liens += held
        if entry.posting.at < start:
            opening += own
        else:
            moved[entry.posting.kind] += own
    return Statement(
        zone=zone,
        account=account,
        opening=opening,
        deposits=moved["deposit"],
        charges=-moved["charge"],
        refunds=moved["refund"],
        expired=-moved["expire"],
        transferred=moved["transfer"],
        liens=liens,
        closing=opening + sum(moved.values()),
    )


def charge_back(
    entries: Iterable[Entry], *, start: int, end: int
) -> tuple[ChargeBack, ...]:
    """Revenue of [start, end) by the account that paid and by model."""
    totals: dict[tuple[str, str, str], int] = defaultdict(int)
    for entry in entries:
        if not start <= entry.posting.at < end:
            continue
        for leg in entry.legs:
            side, _, rest = leg.ledger_account.partition(":")
            if side == "revenue":
                zone, _, model = rest.partition(":")
                totals[zone, entry.posting.chain[0], model] += leg.ucr
    return tuple(
        ChargeBack(zone=zone, account=account, model=model, ucr=ucr)
        for (zone, account, model), ucr in sorted(totals.items())
    )


def usage_by_account(rows: Iterable[ChargeBack]) -> dict[str, int]:
    """What each account used of everything."""
    totals: dict[str, int] = defaultdict(int)
    for row in rows:
        totals[row.account] += row.ucr
    return dict(totals)


def jain_index(used: Sequence[float], shares: Sequence[float]) -> float:
    """1 when use follows shares exactly, 1/n when one has it all."""
    parts = [use / share for use, share in zip(used, shares, strict=True) if share > 0]
    squares = sum(part * part for part in parts)
    return sum(parts) ** 2 / (len(parts) * squares) if squares else 1.0


def _own(entry: Entry, zone: str, account: str) -> tuple[int, int]:
    avail, lien = f"avail:{zone}:{account}", f"lien:{zone}:{account}"
    held = sum(leg.ucr for leg in entry.legs if leg.ledger_account == lien)
    free = sum(leg.ucr for leg in entry.legs if leg.ledger_account == avail)
    return free + held, held
