"""The ledger in the database: append entries, chain their hashes, read balances.

Every statement that posts; the tables are in `ledger_tables`. A batch is one
transaction of the caller's; what is posted is decided by `money.book`. Never commits,
never changes or deletes an entry: only the balance caches are updated, and they can be
rebuilt.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Table,
    and_,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite

from dorabatch.errors import UserError
from dorabatch.fairshare.money.book import (
    Allocation,
    Book,
    Entry,
    Leg,
    Posting,
    PostingOutcome,
    run_change,
    run_share,
)
from dorabatch.fairshare.store.ledger_tables import (
    ALLOCATIONS,
    BALANCES,
    LEGS,
    RUN_CREDITS,
    TXNS,
)

GENESIS = "0" * 64
BATCH = 10_000
"""How many entries are read at a time."""
_CHUNK = 400
_BEFORE_ALL = -(2**63)
_LOCK = 0x646F7261


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """An entry as its row has it, with its legs in order."""

    txn: Mapping[str, Any]
    legs: tuple[Leg, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """What an account has in a zone; without a budget nothing limits it."""

    available: int
    liens: int
    limited: bool

    @property
    def balance(self) -> int:
        """Deposits less charges: available and held together."""
        return self.available + self.liens


def open_allocations(
    connection: Connection, allocations: Sequence[Allocation]
) -> list[Allocation]:
    """Add allocations and return the new ones.

    One that is there already with the same terms is left.
    """
    wanted = {row.id: row for row in allocations}
    for found in _load_by(connection, ALLOCATIONS, "id", list(wanted)):
        present = Allocation(**found)
        if wanted.pop(present.id) != present:
            raise UserError(
                f"allocation {present.id!r} exists with other terms; use another id"
            )
    if wanted:
        connection.execute(insert(ALLOCATIONS), [asdict(r) for r in wanted.values()])
    return list(wanted.values())


def post(connection: Connection, postings: Sequence[Posting]) -> list[PostingOutcome]:
    """Book a batch in order; each outcome says what moved, repeats or refusals."""
    if connection.dialect.name == "postgresql":
        # The chain has one head, so writers take turns; SQLite has one writer anyway.
        connection.execute(select(func.pg_advisory_xact_lock(_LOCK)))
    book = load_book(connection, postings)
    before_balances, before_runs = dict(book.balances), _flat(book)
    outcomes = [book.post(posting) for posting in postings]
    _append(connection, [one.entry for one in outcomes if one.entry])
    _save(
        connection,
        BALANCES,
        [
            {"ledger_account": name, "allocation_id": allocation, "ucr": ucr}
            for (name, allocation), ucr in book.balances.items()
            if before_balances.get((name, allocation)) != ucr
        ],
    )
    _save(
        connection,
        RUN_CREDITS,
        [
            {"run": run, "what": what, "slot": slot, "ucr": ucr}
            for (run, what, slot), ucr in _flat(book).items()
            if before_runs.get((run, what, slot)) != ucr
        ],
    )
    return outcomes


def load_book(connection: Connection, postings: Sequence[Posting]) -> Book:
    """The balances, runs and keys that a batch touches."""
    book = Book()
    named = [p.allocation_id for p in postings] + [p.target_id for p in postings]
    accounts = [name for p in postings for name in p.chain]
    at = min((p.at for p in postings), default=0)
    for row in _load_by(connection, ALLOCATIONS, "id", named):
        book.open(Allocation(**row))
    for allocation in live_allocations(
        connection, [p.zone for p in postings], accounts, at=at
    ):
        book.open(allocation)
    owners = {(p.zone, name) for p in postings for name in p.chain}
    owners |= {(row.zone, row.account) for row in book.allocations.values()}
    sides = [f"{side}:{z}:{name}" for z, name in owners for side in ("avail", "lien")]
    sides += [f"passed:{z}:{name}" for z, name in owners]
    sides += [f"revenue:{p.zone}:{p.model}" for p in postings]
    sides += ["mint", "expired"]
    runs = [p.run for p in postings]
    load_runs(connection, book, runs)
    sides += [
        "revenue:" + slot.partition("|")[2]
        for totals in book.runs.values()
        for what, slot in totals
        if what == "charged"
    ]
    for row in _load_by(connection, BALANCES, "ledger_account", sides):
        book.balances[row["ledger_account"], row["allocation_id"]] = row["ucr"]
    keys = _load_by(connection, TXNS, "idem_key", [p.key for p in postings])
    book.keys = {row["idem_key"] for row in keys}
    return book


def live_allocations(
    connection: Connection, zones: Iterable[str], accounts: Iterable[str], *, at: int
) -> list[Allocation]:
    """The allocations of accounts that still matter at a moment.

    Those that have not ended, those that hold or owe something, and of an account
    with none of them the latest: having had credit, it is limited for good.
    """
    wanted, found = sorted(set(accounts)), []
    table, owner = ALLOCATIONS.c, ALLOCATIONS.c.zone + ":" + ALLOCATIONS.c.account
    holds = exists().where(
        BALANCES.c.ledger_account.in_(["avail:" + owner, "lien:" + owner]),
        BALANCES.c.allocation_id == table.id,
        BALANCES.c.ucr != 0,
    )
    for first in range(0, len(wanted), _CHUNK):
        chunk = wanted[first : first + _CHUNK]
        mine = select(ALLOCATIONS).where(table.zone.in_(sorted(set(zones))))
        live = mine.where(table.account.in_(chunk), or_(table.valid_to > at, holds))
        rows = [Allocation(**row._mapping) for row in connection.execute(live)]
        others = sorted(set(chunk) - {row.account for row in rows})
        past = mine.where(table.account.in_(others)).order_by(table.valid_to)
        latest = {
            (row.zone, row.account): Allocation(**row._mapping)
            for row in connection.execute(past)
        }
        found += [*rows, *latest.values()]
    return found


def load_runs(connection: Connection, book: Book, runs: Iterable[str]) -> None:
    """Add to a book what runs have in liens, charges and refunds."""
    for row in _load_by(connection, RUN_CREDITS, "run", runs):
        totals = book.runs.setdefault(row["run"], {})
        totals[row["what"], row["slot"]] = row["ucr"]


def count_entries(connection: Connection) -> int:
    """How many entries there are."""
    return int(connection.execute(select(func.count()).select_from(TXNS)).scalar() or 0)


def posted_as(connection: Connection, key: str) -> list[Entry]:
    """What one order posted under its key, and under the key with a number behind."""
    name = TXNS.c.idem_key
    numbered = name.startswith(f"{key}:", autoescape=True)
    asked = select(TXNS).where(or_(name == key, numbered)).order_by(TXNS.c.id)
    found = [dict(row) for row in connection.execute(asked).mappings()]
    at = next((txn["at"] for txn in found if txn["idem_key"] == key), None)
    mine = [txn for txn in found if txn["at"] == at]
    legs = _legs(connection, LEGS.c.txn_id.in_([txn["id"] for txn in mine]))
    return [Entry(posting=_posting(txn), legs=tuple(legs[txn["id"]])) for txn in mine]


def allocations(connection: Connection, names: Iterable[str]) -> list[Allocation]:
    """The allocations of these ids."""
    return [Allocation(**row) for row in _load_by(connection, ALLOCATIONS, "id", names)]


def balances(
    connection: Connection, zone: str, accounts: Iterable[str], *, at: int
) -> dict[str, Balance]:
    """What each account has, from the caches."""
    wanted = list(accounts)
    asked = Posting(kind="read", key="", at=at, zone=zone, chain=tuple(wanted))
    book = load_book(connection, [asked])
    result: dict[str, Balance] = {}
    for name in wanted:
        available = book.available(zone, name, at)
        liens = sum(
            ucr
            for (side, _), ucr in book.balances.items()
            if side == f"lien:{zone}:{name}"
        )
        unlimited = book.balances.get((f"avail:{zone}:{name}", ""), 0)
        result[name] = Balance(
            available=unlimited if available is None else available,
            liens=liens,
            limited=available is not None,
        )
    return result


def entries(connection: Connection) -> Iterator[Entry]:
    """What was posted, in the order of posting."""
    for batch in batches(connection):
        for stored in batch:
            yield Entry(posting=_posting(stored.txn), legs=stored.legs)


def batches(connection: Connection, size: int = BATCH) -> Iterator[list[Stored]]:
    """All entries in the order of posting, so many at a time."""
    last = _BEFORE_ALL
    while True:
        asked = select(TXNS).where(TXNS.c.id > last).order_by(TXNS.c.id).limit(size)
        txns = [dict(row) for row in connection.execute(asked).mappings()]
        if not txns:
            return
        inside = and_(LEGS.c.txn_id > last, LEGS.c.txn_id <= txns[-1]["id"])
        legs = _legs(connection, inside)
        yield [Stored(txn=txn, legs=tuple(legs[txn["id"]])) for txn in txns]
        last = txns[-1]["id"]


def _legs(connection: Connection, which: ColumnElement[bool]) -> dict[int, list[Leg]]:
    legs: dict[int, list[Leg]] = defaultdict(list)
    rows = select(LEGS).where(which).order_by(LEGS.c.txn_id, LEGS.c.number)
    for row in connection.execute(rows):
        leg = Leg(
            ledger_account=row.ledger_account,
            allocation_id=row.allocation_id,
            ucr=row.ucr,
        )
        legs[row.txn_id].append(leg)
    return legs


def rebuild(connection: Connection) -> None:
    """Make the caches anew from the entries."""
    balance: dict[tuple[str, str], int] = defaultdict(int)
    runs: dict[tuple[str, str, str], int] = defaultdict(int)
    for entry in entries(connection):
        for leg in entry.legs:
            balance[leg.ledger_account, leg.allocation_id] += leg.ucr
            _count_run(runs, entry.posting, leg)
    connection.execute(delete(BALANCES))
    connection.execute(delete(RUN_CREDITS))
    for table, values in ((BALANCES, balance), (RUN_CREDITS, runs)):
        names = [column.name for column in table.columns]
        _save(
            connection,
            table,
            [dict(zip(names, (*key, ucr), strict=True)) for key, ucr in values.items()],
        )


def _count_run(
    runs: dict[tuple[str, str, str], int], posting: Posting, leg: Leg
) -> None:
    change = run_change(posting, leg)
    if change is not None:
        runs[posting.run, *change] += run_share(posting, leg)


def _flat(book: Book) -> dict[tuple[str, str, str], int]:
    return {
        (run, what, slot): ucr
        for run, totals in book.runs.items()
        for (what, slot), ucr in totals.items()
    }


def _append(connection: Connection, new: Sequence[Entry]) -> None:
    if not new:
        return
    head = connection.execute(
        select(TXNS.c.id, TXNS.c.hash).order_by(TXNS.c.id.desc()).limit(1)
    ).first()
    last, previous = (head.id, head.hash) if head else (0, GENESIS)
    txns: list[dict[str, Any]] = []
    legs: list[dict[str, Any]] = []
    for number, entry in enumerate(new, start=last + 1):
        txn = _row(entry.posting, number, previous)
        txn["hash"] = previous = hash_of(txn, entry.legs)
        txns.append(txn)
        legs += [
            {"txn_id": number, "number": place, **asdict(leg)}
            for place, leg in enumerate(entry.legs)
        ]
    connection.execute(insert(TXNS), txns)
    if legs:
        connection.execute(insert(LEGS), legs)


def _row(posting: Posting, number: int, previous: str) -> dict[str, Any]:
    return {
        "id": number,
        "at": posting.at,
        "kind": posting.kind,
        "idem_key": posting.key,
        "zone": posting.zone,
        "account": posting.chain[0] if posting.chain else "",
        "run": posting.run,
        "segment": posting.segment,
        "actor": posting.actor,
        "reason": posting.reason,
        "prev_hash": previous,
    }


def _posting(txn: Mapping[str, Any]) -> Posting:
    return Posting(
        kind=txn["kind"],
        key=txn["idem_key"],
        at=txn["at"],
        zone=txn["zone"],
        chain=(txn["account"],) if txn["account"] else (),
        run=txn["run"],
        segment=txn["segment"],
        actor=txn["actor"],
        reason=txn["reason"],
    )


def hash_of(txn: Mapping[str, Any], legs: Sequence[Leg]) -> str:
    """The hash that a stored entry has to have: over all it says and its legs."""
    said = {name: value for name, value in txn.items() if name != "hash"}
    moved = [[leg.ledger_account, leg.allocation_id, leg.ucr] for leg in legs]
    text = json.dumps([said, moved], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _save(connection: Connection, table: Table, rows: list[dict[str, Any]]) -> None:
    if not rows:
        return
    if connection.dialect.name == "postgresql":
        added = postgresql.insert(table)
        connection.execute(
            added.on_conflict_do_update(
                index_elements=list(table.primary_key), set_={"ucr": added.excluded.ucr}
            ),
            rows,
        )
        return
    put = sqlite.insert(table)
    connection.execute(
        put.on_conflict_do_update(
            index_elements=list(table.primary_key), set_={"ucr": put.excluded.ucr}
        ),
        rows,
    )


def _load_by(
    connection: Connection, table: Table, column: str, values: Iterable[str]
) -> list[dict[str, Any]]:
    wanted = sorted({value for value in values if value})
    rows: list[dict[str, Any]] = []
    for first in range(0, len(wanted), _CHUNK):
        chunk = wanted[first : first + _CHUNK]
        asked = select(table).where(table.c[column].in_(chunk))
        rows += [dict(row) for row in connection.execute(asked).mappings()]
    return rows
