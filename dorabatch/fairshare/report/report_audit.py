"""The report of who changed what: documents, policy, prices, and credit by hand.

Pure: takes what the history and the ledger say and gives a sheet. Never reads anything.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from dorabatch.fairshare.money.report_rows import HandEntry, PriceRow
from dorabatch.fairshare.report.sheet import Column, Kind, Sheet
from dorabatch.fairshare.turn.changes import Change, read_document_key
from dorabatch.units import moment_of, render_credits


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """Something that somebody changed."""

    at: datetime
    actor: str
    what: str
    subject: str
    detail: str
    reason: str
    ucr: int | None = None


def audit_sheet(changes: Iterable[AuditEntry]) -> Sheet:
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


def done_by_hand(entry: HandEntry) -> AuditEntry:
    """An entry of the ledger as something done."""
    return AuditEntry(
        at=moment_of(entry.at),
        actor=entry.actor,
        what=entry.kind,
        subject=entry.account,
        detail=f"run {entry.run}" if entry.run else "",
        reason=entry.reason,
        ucr=entry.ucr,
    )


def done_to_policy(change: Change) -> AuditEntry:
    """A line of the history: a document, a setting or the share tree."""
    document = read_document_key(change.key)
    if document is not None:
        what, subject = document
        detail = difference(change.old, change.new)
    else:
        what, subject = "policy", change.key
        detail = f"{change.old or 'nothing'} -> {change.new or 'nothing'}"
    return AuditEntry(
        at=moment_of(change.at),
        actor=change.actor,
        what=what,
        subject=subject,
        detail=detail,
        reason=change.reason,
    )


def done_to_price(price: PriceRow) -> AuditEntry:
    """A price that came into force."""
    where = f" in zone {price.zone}" if price.zone else ""
    return AuditEntry(
        at=moment_of(price.valid_from),
        actor=price.actor,
        what="price",
        subject=price.model,
        detail=f"{render_credits(price.per_hour)} an hour{where}",
        reason="",
    )


def difference(old: str, new: str) -> str:
    """What differs between two specs in JSON, field by field; "" is no document."""
    before, after = _fields(old), _fields(new)
    if not old or not new:
        said = ", ".join(f"{key}: {value}" for key, value in (before | after).items())
        verb = "removed" if old else "made"
        return f"{verb}; {said}" if said else verb
    return ", ".join(
        f"{key}: {before.get(key, 'nothing')} -> {after.get(key, 'nothing')}"
        for key in sorted(before | after)
        if before.get(key) != after.get(key)
    )


def _fields(spec: str) -> dict[str, str]:
    return dict(_leaves("", json.loads(spec))) if spec else {}


def _leaves(path: str, value: object) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        inner: Iterable[tuple[object, object]] = value.items()
    elif isinstance(value, list):
        inner = enumerate(value, start=1)
    else:
        yield path, value if isinstance(value, str) else json.dumps(value)
        return
    for key, one in inner:
        yield from _leaves(f"{path}.{key}" if path else str(key), one)
