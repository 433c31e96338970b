"""Prices and meters in the database: add rows, read them back.

Both are append-only: a price is replaced by a later version, a meter by the next one.
Decides nothing and never commits.
"""

from collections.abc import Iterable, Sequence

from sqlalchemy import Connection, func, insert, select

from dorabatch.fairshare.money.meter import Meter, read_meter, terms_json
from dorabatch.fairshare.money.price import Price
from dorabatch.fairshare.store.ledger_tables import METERS, PRICES
from dorabatch.units import MicroCredits, microseconds_of, moment_of

_CHUNK = 400


def load_prices(connection: Connection) -> list[Price]:
    """The price list as it is in force, by zone, model and moment."""
    asked = select(PRICES).order_by(
        PRICES.c.zone, PRICES.c.model, PRICES.c.valid_from, PRICES.c.version
    )
    rows = {
        (row.zone, row.model, row.valid_from): Price(
            zone=row.zone,
            model=row.model,
            per_hour=MicroCredits(row.per_hour_ucr),
            valid_from=moment_of(row.valid_from),
        )
        for row in connection.execute(asked)
    }
    return list(rows.values())


def add_price(connection: Connection, price: Price, actor: str) -> None:
    """Add a price; one of the same moment is replaced by a later version."""
    key = {
        "zone": price.zone,
        "model": price.model,
        "valid_from": microseconds_of(price.valid_from),
    }
    latest = select(func.max(PRICES.c.version)).filter_by(**key)
    version = (connection.execute(latest).scalar() or 0) + 1
    connection.execute(
        insert(PRICES).values(
            **key, version=version, per_hour_ucr=price.per_hour, actor=actor
        )
    )


def add_meters(connection: Connection, meters: Sequence[Meter]) -> None:
    """Add meters of runs."""
    rows = [
        {
            "run": meter.run,
            "number": meter.number,
            "at": meter.at,
            "terms": terms_json(meter),
            "reason": meter.reason,
        }
        for meter in meters
    ]
    if rows:
        connection.execute(insert(METERS), rows)


def load_meters(connection: Connection, runs: Iterable[str]) -> list[Meter]:
    """The meters of runs, in order."""
    wanted = sorted(set(runs))
    found: list[Meter] = []
    for first in range(0, len(wanted), _CHUNK):
        asked = (
            select(METERS)
            .where(METERS.c.run.in_(wanted[first : first + _CHUNK]))
            .order_by(METERS.c.run, METERS.c.number)
        )
        found += [read_meter(row) for row in connection.execute(asked).mappings()]
    return found
