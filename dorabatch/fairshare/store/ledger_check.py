"""Whether the stored ledger obeys its laws: hashes, sums, and the caches made of it.

Reads entries in batches and lets the database add up, so that memory does not grow
with the ledger. Give it a connection that sees one state. Changes nothing.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, Select, and_, func, select

from dorabatch.fairshare.money.book import Leg, Posting, run_change, run_share
from dorabatch.fairshare.store.ledger import (
    BATCH,
    GENESIS,
    Stored,
    batches,
    count_entries,
    hash_of,
)
from dorabatch.fairshare.store.ledger_tables import BALANCES, LEGS, RUN_CREDITS, TXNS

FAULTS_MAX = 1000
_RUNS_AT_ONCE = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How many entries have been read, of how many."""

    done: int
    entries: int


class LedgerCheck:
    """One check; `faults` has a sentence for each broken law, the first thousand."""

    def __init__(self, connection: Connection, *, batch: int = BATCH) -> None:
        self._connection = connection
        self._batch = batch
        self._previous, self._expected = GENESIS, 1
        self.faults: list[str] = []
        self.entries = count_entries(connection)

    def steps(self) -> Iterator[Progress]:
        """Check, and say after each batch how far it is; complete at the end."""
        done = 0
        for batch in batches(self._connection, self._batch):
            for stored in batch:
                self._check_entry(stored)
            done += len(batch)
            yield Progress(done=done, entries=self.entries)
        self._check_balances()
        self._check_runs()
        if len(self.faults) > FAULTS_MAX:
            del self.faults[FAULTS_MAX:]
            self.faults.append(f"there are more faults than these {FAULTS_MAX}")

    def _say(self, sentence: str) -> None:
        # One more than is shown tells that there are more.
        if len(self.faults) <= FAULTS_MAX:
            self.faults.append(sentence)

    def _check_entry(self, stored: Stored) -> None:
        txn, name = stored.txn, f"entry {stored.txn['id']}"
        if txn["id"] != self._expected:
            self._say(f"{name}: entry {self._expected} is missing before it")
        if txn["prev_hash"] != self._previous:
            self._say(f"{name}: does not continue the hash of the one before")
        if txn["hash"] != hash_of(txn, stored.legs):
            self._say(f"{name}: its hash does not match what it says")
        if sum(leg.ucr for leg in stored.legs):
            self._say(f"{name}: its legs do not sum to zero")
        self._previous, self._expected = txn["hash"], txn["id"] + 1

    def _check_balances(self) -> None:
        sums = (
            select(
                LEGS.c.ledger_account,
                LEGS.c.allocation_id,
                func.sum(LEGS.c.ucr).label("ucr"),
            )
            .group_by(LEGS.c.ledger_account, LEGS.c.allocation_id)
            .subquery()
        )
        cache = BALANCES.c
        cached = func.coalesce(cache.ucr, 0)
        wrong = (
            select(sums.c.ledger_account, sums.c.allocation_id, cached, sums.c.ucr)
            .outerjoin(
                BALANCES,
                and_(
                    cache.ledger_account == sums.c.ledger_account,
                    cache.allocation_id == sums.c.allocation_id,
                ),
            )
            .where(cached != sums.c.ucr)
            .order_by(sums.c.ledger_account, sums.c.allocation_id)
        )
        has_legs = select(LEGS.c.txn_id).where(
            LEGS.c.ledger_account == cache.ledger_account,
            LEGS.c.allocation_id == cache.allocation_id,
        )
        made_up = (
            select(cache.ledger_account, cache.allocation_id, cache.ucr)
            .where(cache.ucr != 0, ~has_legs.exists())
            .order_by(cache.ledger_account, cache.allocation_id)
        )
        for account, allocation, found, said in self._stream(wrong):
            self._say(_differs(BALANCES.name, (account, allocation), found, int(said)))
        for account, allocation, found in self._stream(made_up):
            self._say(_differs(BALANCES.name, (account, allocation), found, 0))

    def _check_runs(self) -> None:
        by = (
            TXNS.c.run, TXNS.c.kind, TXNS.c.segment, LEGS.c.ledger_account,
            LEGS.c.allocation_id,
        )  # fmt: skip
        asked = (
            select(*by, func.sum(LEGS.c.ucr))
            .join_from(TXNS, LEGS)
            .where(TXNS.c.run != "")
            .group_by(*by)
            .order_by(TXNS.c.run)
        )
        chunk: dict[str, dict[tuple[str, str], int]] = {}
        for run, rows in groupby(self._stream(asked), key=lambda row: str(row[0])):
            chunk[run] = _run_totals(run, rows)
            if len(chunk) == min(self._batch, _RUNS_AT_ONCE):
                self._compare_runs(chunk)
                chunk = {}
        self._compare_runs(chunk)
        named = select(TXNS.c.run).where(TXNS.c.run != "")
        made_up = select(RUN_CREDITS).where(
            RUN_CREDITS.c.ucr != 0, RUN_CREDITS.c.run.not_in(named)
        )
        for run, what, slot, found in self._stream(made_up):
            self._say(_differs(RUN_CREDITS.name, (run, what, slot), found, 0))

    def _compare_runs(self, said: dict[str, dict[tuple[str, str], int]]) -> None:
        asked = select(RUN_CREDITS).where(RUN_CREDITS.c.run.in_(list(said)))
        cached = {
            (run, what, slot): int(ucr)
            for run, what, slot, ucr in self._connection.execute(asked)
        }
        expected = {
            (run, *slot): ucr
            for run, totals in said.items()
            for slot, ucr in totals.items()
        }
        for key in sorted({*cached, *expected}):
            found, right = cached.get(key, 0), expected.get(key, 0)
            if found != right:
                self._say(_differs(RUN_CREDITS.name, key, found, right))

    def _stream(self, asked: Select[Any]) -> Iterator[Any]:
        options = {"yield_per": self._batch}
        yield from self._connection.execute(asked, execution_options=options)


def check_ledger(connection: Connection, *, batch: int = BATCH) -> list[str]:
    """Every law that the stored ledger breaks, as sentences; empty when sound."""
    check = LedgerCheck(connection, batch=batch)
    for _ in check.steps():
        pass
    return check.faults


def _run_totals(run: str, rows: Iterator[Any]) -> dict[tuple[str, str], int]:
    """What a run has in liens, charges and refunds, by the rule of booking."""
    totals: dict[tuple[str, str], int] = defaultdict(int)
    for _, kind, segment, account, allocation, ucr in rows:
        posting = Posting(
            kind=kind, key="", at=0, zone="", chain=(), run=run, segment=segment
        )
        leg = Leg(ledger_account=account, allocation_id=allocation, ucr=int(ucr))
        change = run_change(posting, leg)
        if change is not None:
            totals[change] += run_share(posting, leg)
    return totals


def _differs(table: str, key: tuple[str, ...], found: int, said: int) -> str:
    return f"{table} {key}: cached {found}, entries say {said}"
