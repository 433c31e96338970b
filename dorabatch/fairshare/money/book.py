"""The book: what each posting moves, decided on balances held in memory.

Every posting is a set of legs that sum to zero, named by a key so that a repeat
changes nothing. Decides and collects entries; never reads or writes a database.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from dorabatch.errors import UserError, invariant

FOREVER = 2**62
Slot = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocation:
    """Credits of an account in a zone for a time; `kind`: week, rolled or grant.

    Times are microseconds since 1970; `valid_to` FOREVER never expires. `on_exhaust`:
    what happens when it was the last to be spent. `rollover_ppm`: how much of a
    week's deposit may live one more week.
    """

    id: str
    zone: str
    account: str
    kind: str = "grant"
    valid_from: int = 0
    valid_to: int = FOREVER
    on_exhaust: str = "stop"
    rollover_ppm: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Leg:
    """One side of a posting; `allocation_id` is empty where none is meant."""

    ledger_account: str
    allocation_id: str
    ucr: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Posting:
    """What the caller wants booked.

    `chain` is the account and its ancestors, nearest first. `amount` is the credits
    to move; for a charge the run's total in this segment so far.
    """

    kind: str
    key: str
    at: int
    zone: str
    chain: tuple[str, ...]
    amount: int = 0
    allocation_id: str = ""
    target_id: str = ""
    run: str = ""
    segment: int = 0
    model: str = ""
    actor: str = "dorad"
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A posting as booked."""

    posting: Posting
    legs: tuple[Leg, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PostingOutcome:
    """What was booked, and how much moved; a refusal says why.

    `entry` is None when nothing was booked.
    """

    moved: int = 0
    repeated: bool = False
    refused: str = ""
    short_by: int = 0
    entry: Entry | None = None


@dataclass(slots=True, kw_only=True)
class Book:
    """Balances of the accounts and runs that a batch touches.

    `runs[run][what, slot]` is what a run has in liens, charges or refunds.
    """

    allocations: dict[str, Allocation] = field(default_factory=dict)
    owned: dict[tuple[str, str], list[Allocation]] = field(default_factory=dict)
    balances: dict[Slot, int] = field(default_factory=dict)
    runs: dict[str, dict[tuple[str, str], int]] = field(default_factory=dict)
    keys: set[str] = field(default_factory=set)

    def open(self, row: Allocation) -> None:
        """Know an allocation; one that is known already is left."""
        if row.id in self.allocations:
            return
        self.allocations[row.id] = row
        mine = (row.zone, row.account)
        # A new list, published whole: to who reads meanwhile a list that is sorted in
        # place is empty, as if nobody limited the account.
        self.owned[mine] = sorted(
            (*self.owned.get(mine, ()), row),
            key=lambda r: (r.valid_to, r.kind != "rolled", r.id),
        )

    def post(self, posting: Posting) -> PostingOutcome:
        """Book one posting, or say why not."""
        handler = _HANDLERS.get(posting.kind)
        if handler is None:
            raise UserError(
                f"posting kind {posting.kind!r} is unknown (known: "
                f"{', '.join(_HANDLERS)})"
            )
        if posting.amount < 0:
            raise UserError(
                f"posting {posting.key!r}: amount {posting.amount} is below zero; "
                "0 or more is allowed"
            )
        if posting.key in self.keys:
            return PostingOutcome(repeated=True)
        return handler(self, posting)

    def budgeted(self, zone: str, account: str) -> list[Allocation]:
        """The account's allocations, the one to spend first in front."""
        return self.owned.get((zone, account), [])

    def available(self, zone: str, account: str, at: int) -> int | None:
        """What may still be spent; None: the account has no budget, no limit."""
        rows = self.budgeted(zone, account)
        if not rows:
            return None
        side = f"avail:{zone}:{account}"
        # An overdraft outlives its allocation: debts do not expire.
        return sum(
            min(0, have) if not row.valid_from <= at < row.valid_to else have
            for row in rows
            for have in [self.balances.get((side, row.id), 0)]
        )

    def run_total(self, run: str, what: str) -> int:
        """What a run has in liens, charges or refunds."""
        return sum(self.run_slots(run, what).values())

    def run_slots(self, run: str, what: str) -> dict[str, int]:
        """The same by slot."""
        # A copy: another thread may book meanwhile.
        totals = list(self.runs.get(run, {}).items())
        return {slot: ucr for (kind, slot), ucr in totals if kind == what and ucr}

    def book(self, posting: Posting, legs: Iterable[Leg], moved: int) -> PostingOutcome:
        """Write the legs into the balances; they must sum to zero."""
        kept = tuple(leg for leg in legs if leg.ucr)
        invariant(
            sum(leg.ucr for leg in kept) == 0,
            f"legs of {posting.key!r} do not sum to zero",
        )
        entry = Entry(posting=posting, legs=kept)
        self.absorb(entry)
        return PostingOutcome(moved=moved, entry=entry)

    def absorb(self, entry: Entry) -> None:
        """Take over what an entry moved."""
        posting = entry.posting
        for leg in entry.legs:
            slot = (leg.ledger_account, leg.allocation_id)
            self.balances[slot] = self.balances.get(slot, 0) + leg.ucr
            change = run_change(posting, leg)
            if change is not None:
                totals = self.runs.setdefault(posting.run, {})
                totals[change] = totals.get(change, 0) + run_share(posting, leg)
        self.keys.add(posting.key)

    def draw(self, zone: str, account: str, amount: int, at: int) -> list[Leg]:
        """Take from what is valid, earliest expiry first; the last may go below 0."""
        side = f"avail:{zone}:{account}"
        rows = self.budgeted(zone, account)
        valid = [row for row in rows if row.valid_from <= at < row.valid_to]
        legs: list[Leg] = []
        for row in valid:
            part = min(amount, max(0, self.balances.get((side, row.id), 0)))
            legs.append(Leg(ledger_account=side, allocation_id=row.id, ucr=-part))
            amount -= part
        if amount:
            last = valid[-1].id if valid else rows[-1].id if rows else ""
            legs.append(Leg(ledger_account=side, allocation_id=last, ucr=-amount))
        return legs


def run_change(posting: Posting, leg: Leg) -> tuple[str, str] | None:
    """The run's total that a leg changes; one rule for booking and rebuild."""
    if not posting.run:
        return None
    side, _, rest = leg.ledger_account.partition(":")
    if side == "lien":
        return "lien", f"{leg.ledger_account}|{leg.allocation_id}"
    if side == "revenue" and posting.kind == "charge":
        return "charged", f"{posting.segment}|{rest}"
    if side == "revenue" and posting.kind == "refund":
        return "refunded", rest
    return None


def run_share(posting: Posting, leg: Leg) -> int:
    """By how much; a refund takes from revenue what it adds to the run's refunds."""
    return -leg.ucr if posting.kind == "refund" else leg.ucr


def _deposit(book: Book, posting: Posting) -> PostingOutcome:
    row = _allocation(book, posting.allocation_id, posting)
    side = f"avail:{row.zone}:{row.account}"
    legs = [
        Leg(ledger_account="mint", allocation_id="", ucr=-posting.amount),
        Leg(ledger_account=side, allocation_id=row.id, ucr=posting.amount),
    ]
    return book.book(posting, legs, posting.amount)


def _lien(book: Book, posting: Posting) -> PostingOutcome:
    payers = [name for name in posting.chain if book.budgeted(posting.zone, name)]
    for name in payers:
        have = book.available(posting.zone, name, posting.at) or 0
        if have < posting.amount:
            return PostingOutcome(
                refused=f"account {name!r} has {have} ucr available in zone "
                f"{posting.zone!r}, {posting.amount} are needed",
                short_by=posting.amount - have,
            )
    legs: list[Leg] = []
    for name in payers:
        for taken in book.draw(posting.zone, name, posting.amount, posting.at):
            legs += [
                taken,
                Leg(
                    ledger_account=f"lien:{posting.zone}:{name}",
                    allocation_id=taken.allocation_id,
                    ucr=-taken.ucr,
                ),
            ]
    if not legs:
        return PostingOutcome()
    return book.book(posting, legs, posting.amount)


def _charge(book: Book, posting: Posting) -> PostingOutcome:
    """Bring the segment's posted total up to `amount`; an older total moves nothing."""
    slot = f"{posting.segment}|{posting.zone}:{posting.model}"
    posted = book.runs.get(posting.run, {}).get(("charged", slot), 0)
    due = posting.amount - posted
    if due <= 0:
        return PostingOutcome()
    legs: list[Leg] = []
    for place, name in enumerate(posting.chain):
        if place and not book.budgeted(posting.zone, name):
            continue
        legs += _spend(book, posting, name, due)
        # Revenue is counted once; an ancestor's budget shrinks beside it.
        side = (
            f"passed:{posting.zone}:{name}"
            if place
            else f"revenue:{posting.zone}:{posting.model}"
        )
        legs.append(Leg(ledger_account=side, allocation_id="", ucr=due))
    return book.book(posting, legs, due)


def _spend(book: Book, posting: Posting, name: str, due: int) -> list[Leg]:
    """The run's liens of this account first, then what is available."""
    side = f"lien:{posting.zone}:{name}"
    legs: list[Leg] = []
    for slot, held in book.run_slots(posting.run, "lien").items():
        account, _, allocation = slot.partition("|")
        if account == side and due:
            part = min(due, held)
            legs.append(Leg(ledger_account=side, allocation_id=allocation, ucr=-part))
            due -= part
    if due:
        legs += book.draw(posting.zone, name, due, posting.at)
    return legs


def _release(book: Book, posting: Posting) -> PostingOutcome:
    """Give back what is left of the run's liens."""
    legs: list[Leg] = []
    moved = 0
    for slot, held in book.run_slots(posting.run, "lien").items():
        side, _, allocation = slot.partition("|")
        back = side.replace("lien:", "avail:", 1)
        legs += [
            Leg(ledger_account=side, allocation_id=allocation, ucr=-held),
            Leg(ledger_account=back, allocation_id=allocation, ucr=held),
        ]
        if side == f"lien:{posting.zone}:{posting.chain[0]}":
            moved += held
    if not legs:
        return PostingOutcome()
    return book.book(posting, legs, moved)


def _refund(book: Book, posting: Posting) -> PostingOutcome:
    """Give back up to what was charged less what was refunded."""
    left = book.run_total(posting.run, "charged") - book.run_total(
        posting.run, "refunded"
    )
    amount = min(posting.amount, left)
    if not posting.reason:
        raise UserError(f"refund {posting.key!r} has no reason; say why")
    if amount <= 0:
        return PostingOutcome()
    legs: list[Leg] = []
    for place, name in enumerate(posting.chain):
        rows = book.budgeted(posting.zone, name)
        if place and not rows:
            continue
        valid = [r.id for r in rows if r.valid_from <= posting.at < r.valid_to]
        target = valid[0] if valid else rows[-1].id if rows else ""
        side = f"avail:{posting.zone}:{name}"
        legs.append(Leg(ledger_account=side, allocation_id=target, ucr=amount))
        if place:
            contra = f"passed:{posting.zone}:{name}"
            legs.append(Leg(ledger_account=contra, allocation_id="", ucr=-amount))
    return book.book(posting, [*legs, *_revenue_back(book, posting, amount)], amount)


def _revenue_back(book: Book, posting: Posting, amount: int) -> list[Leg]:
    net: dict[str, int] = {}
    for slot, ucr in book.run_slots(posting.run, "charged").items():
        model = slot.partition("|")[2]
        net[model] = net.get(model, 0) + ucr
    for model, ucr in book.run_slots(posting.run, "refunded").items():
        net[model] -= ucr
    legs: list[Leg] = []
    for model, ucr in net.items():
        part = min(ucr, amount)
        legs.append(Leg(ledger_account=f"revenue:{model}", allocation_id="", ucr=-part))
        amount -= part
    return legs


def _expire(book: Book, posting: Posting) -> PostingOutcome:
    """Move what an allocation has left; liens on it stay with their runs.

    One that is still valid needs a reason.
    """
    row = _allocation(book, posting.allocation_id, posting)
    if posting.at < row.valid_to and not posting.reason:
        return PostingOutcome(refused=f"allocation {row.id!r} is still valid")
    side = f"avail:{row.zone}:{row.account}"
    left = book.balances.get((side, row.id), 0)
    if left <= 0:
        return PostingOutcome()
    legs = [
        Leg(ledger_account=side, allocation_id=row.id, ucr=-left),
        Leg(ledger_account="expired", allocation_id="", ucr=left),
    ]
    return book.book(posting, legs, left)


def _transfer(book: Book, posting: Posting) -> PostingOutcome:
    """Move available credit from one allocation to another."""
    source = _allocation(book, posting.allocation_id, posting)
    target = _allocation(book, posting.target_id, posting)
    side = f"avail:{source.zone}:{source.account}"
    have = book.balances.get((side, source.id), 0)
    if have < posting.amount:
        return PostingOutcome(
            refused=f"allocation {source.id!r} has {have} ucr, "
            f"{posting.amount} are needed",
            short_by=posting.amount - have,
        )
    other = f"avail:{target.zone}:{target.account}"
    legs = [
        Leg(ledger_account=side, allocation_id=source.id, ucr=-posting.amount),
        Leg(ledger_account=other, allocation_id=target.id, ucr=posting.amount),
    ]
    return book.book(posting, legs, posting.amount)


def _allocation(book: Book, name: str, posting: Posting) -> Allocation:
    row = book.allocations.get(name)
    if row is None:
        raise UserError(
            f"posting {posting.key!r}: allocation {name!r} does not exist; "
            "open it first"
        )
    return row


_HANDLERS: dict[str, Callable[[Book, Posting], PostingOutcome]] = {
    "deposit": _deposit,
    "lien": _lien,
    "charge": _charge,
    "release": _release,
    "refund": _refund,
    "expire": _expire,
    "transfer": _transfer,
}
