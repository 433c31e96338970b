"""The SQL statements on shares, policy settings, their history, use and forecasts.

Each function is one duty inside the caller's transaction; none decides and none
commits. Moments go in and come out as microseconds since 1970. What reports read of
the same tables is in `report_store`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, delete, func, insert, select, update

from dorabatch.fairshare.store.share_tables import (
    CHANGES,
    FORECASTS,
    RAISES,
    SETTINGS,
    SHARES,
    USAGE,
)
from dorabatch.fairshare.turn.account_tree import Account
from dorabatch.fairshare.turn.changes import DOCUMENT, Change


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredSetting:
    """A setting in force; `is_set` when it does not come from the file."""

    value: str
    is_set: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageRow:
    """What ended runs and raises of a user or account have come to, faded to `at`.

    In thousandths of weighted GPU-seconds. `is_active`: something waits or runs.
    """

    name: str
    used: float = 0.0
    at: int = 0
    is_active: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Raise:
    """Use added by the catch-up cap at a moment."""

    name: str
    at: int
    amount: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StartForecast:
    """The first forecast of a workload's start, and the start once it is known."""

    workload_id: int
    made_at: int
    low: int
    high: int
    started_at: int | None = None


def load_shares(connection: Connection, zone: str) -> tuple[Account, ...]:
    """The rows of the account tree, by name."""
    asked = select(SHARES).where(SHARES.c.zone == zone).order_by(SHARES.c.name)
    return tuple(
        Account(
            name=row.name, parent=row.parent, shares=row.shares, is_user=row.is_user
        )
        for row in connection.execute(asked)
    )


def save_shares(connection: Connection, zone: str, rows: Iterable[Account]) -> None:
    """Replace the account tree of a zone."""
    connection.execute(delete(SHARES).where(SHARES.c.zone == zone))
    values = [
        {name: getattr(row, name) for name in Account.__slots__} | {"zone": zone}
        for row in rows
    ]
    if values:
        connection.execute(insert(SHARES), values)


def load_settings(connection: Connection, zone: str) -> dict[str, StoredSetting]:
    """What is in force, by key."""
    rows = connection.execute(select(SETTINGS).where(SETTINGS.c.zone == zone))
    return {r.key: StoredSetting(value=r.value, is_set=r.is_set) for r in rows}


def save_settings(
    connection: Connection, zone: str, settings: Mapping[str, StoredSetting]
) -> None:
    """Replace what is in force."""
    connection.execute(delete(SETTINGS).where(SETTINGS.c.zone == zone))
    values = [
        {"zone": zone, "key": key, "value": one.value, "is_set": one.is_set}
        for key, one in settings.items()
    ]
    if values:
        connection.execute(insert(SETTINGS), values)


def add_changes(connection: Connection, zone: str, changes: Sequence[Change]) -> None:
    """Add to the history."""
    values = [
        {name: getattr(one, name) for name in Change.__slots__} | {"zone": zone}
        for one in changes
    ]
    if values:
        connection.execute(insert(CHANGES), values)


def load_changes(
    connection: Connection, zone: str, *, key: str = "", limit: int | None = None
) -> list[Change]:
    """The history of shares and settings, newest first; of one key when it is named."""
    asked = select(CHANGES).where(
        CHANGES.c.zone == zone, CHANGES.c.key.not_like(f"{DOCUMENT}%")
    )
    if key:
        asked = asked.where(CHANGES.c.key == key)
    asked = asked.order_by(CHANGES.c.id.desc()).limit(limit)
    return [
        Change(**{name: getattr(row, name) for name in Change.__slots__})
        for row in connection.execute(asked)
    ]


def latest_moment(connection: Connection, zone: str) -> int:
    """Up to when use was counted or the policy changed, the later; 0: never."""
    counted = select(func.max(USAGE.c.at)).where(USAGE.c.zone == zone)
    changed = select(func.max(CHANGES.c.at)).where(
        CHANGES.c.zone == zone, CHANGES.c.key.not_like(f"{DOCUMENT}%")
    )
    found = (connection.execute(asked).scalar() for asked in (counted, changed))
    return max(one or 0 for one in found)


def load_usage(connection: Connection, zone: str) -> dict[str, UsageRow]:
    """The cache of use, by name."""
    rows = connection.execute(select(USAGE).where(USAGE.c.zone == zone))
    return {row.name: _usage_row(row) for row in rows}


def get_usage(connection: Connection, zone: str, name: str) -> UsageRow | None:
    """One row of the cache as it stands in this transaction."""
    asked = select(USAGE).where(USAGE.c.zone == zone, USAGE.c.name == name)
    row = connection.execute(asked).one_or_none()
    return None if row is None else _usage_row(row)


def save_usage(connection: Connection, zone: str, row: UsageRow) -> None:
    """Write one row of the cache."""
    values = {name: getattr(row, name) for name in UsageRow.__slots__}
    done = connection.execute(
        update(USAGE)
        .where(USAGE.c.zone == zone, USAGE.c.name == row.name)
        .values(**values)
    )
    if not done.rowcount:
        connection.execute(insert(USAGE).values(zone=zone, **values))


def forget_usage(connection: Connection, zone: str) -> None:
    """Empty the cache, to fill it anew."""
    connection.execute(delete(USAGE).where(USAGE.c.zone == zone))


def add_raise(connection: Connection, zone: str, new: Raise) -> None:
    """Remember what the catch-up cap added."""
    values = {name: getattr(new, name) for name in Raise.__slots__}
    connection.execute(insert(RAISES).values(zone=zone, **values))


def load_raises(connection: Connection, zone: str) -> list[Raise]:
    """What the catch-up cap added, by name and moment."""
    asked = (
        select(RAISES).where(RAISES.c.zone == zone).order_by(RAISES.c.name, RAISES.c.at)
    )
    return [
        Raise(**{name: getattr(row, name) for name in Raise.__slots__})
        for row in connection.execute(asked)
    ]


def add_forecasts(
    connection: Connection, zone: str, new: Sequence[StartForecast], *, kept_max: int
) -> None:
    """Remember forecasts; of those of ended stories the oldest are dropped."""
    values = [
        {name: getattr(one, name) for name in StartForecast.__slots__} | {"zone": zone}
        for one in new
    ]
    if not values:
        return
    connection.execute(insert(FORECASTS), values)
    scored = (
        select(FORECASTS.c.made_at)
        .where(FORECASTS.c.zone == zone)
        .order_by(FORECASTS.c.made_at.desc())
        .offset(kept_max)
        .limit(1)
    )
    oldest = connection.execute(scored).scalar()
    if oldest is not None:
        connection.execute(
            delete(FORECASTS).where(
                FORECASTS.c.zone == zone, FORECASTS.c.made_at <= oldest
            )
        )


def score_forecast(connection: Connection, workload_id: int, started_at: int) -> None:
    """Note when a workload with a forecast did start; the first start counts."""
    connection.execute(
        update(FORECASTS)
        .where(FORECASTS.c.workload_id == workload_id, FORECASTS.c.started_at.is_(None))
        .values(started_at=started_at)
    )


def drop_forecasts(connection: Connection, workload_ids: Sequence[int]) -> None:
    """Forget forecasts of what never started."""
    for workload_id in workload_ids:
        gone = delete(FORECASTS).where(FORECASTS.c.workload_id == workload_id)
        connection.execute(gone)


def load_forecasts(connection: Connection, zone: str) -> dict[int, StartForecast]:
    """The forecasts that wait for their start, by workload."""
    asked = select(FORECASTS).where(
        FORECASTS.c.zone == zone, FORECASTS.c.started_at.is_(None)
    )
    return {
        row.workload_id: StartForecast(
            **{name: getattr(row, name) for name in StartForecast.__slots__}
        )
        for row in connection.execute(asked)
    }


def checked_forecasts(connection: Connection, zone: str) -> list[StartForecast]:
    """Forecasts whose start is known, in the order of the starts."""
    asked = (
        select(FORECASTS)
        .where(FORECASTS.c.zone == zone, FORECASTS.c.started_at.is_not(None))
        .order_by(FORECASTS.c.started_at, FORECASTS.c.workload_id)
    )
    return [
        StartForecast(**{name: getattr(row, name) for name in StartForecast.__slots__})
        for row in connection.execute(asked)
    ]


def count_hits(connection: Connection, zone: str) -> tuple[int, int]:
    """(starts inside their range, starts with a forecast)."""
    started = (FORECASTS.c.zone == zone, FORECASTS.c.started_at.is_not(None))
    asked = select(func.count()).select_from(FORECASTS).where(*started)
    inside = asked.where(
        FORECASTS.c.started_at >= FORECASTS.c.low,
        FORECASTS.c.started_at <= FORECASTS.c.high,
    )
    return (
        int(connection.execute(inside).scalar_one()),
        int(connection.execute(asked).scalar_one()),
    )


def _usage_row(row: object) -> UsageRow:
    return UsageRow(**{name: getattr(row, name) for name in UsageRow.__slots__})
