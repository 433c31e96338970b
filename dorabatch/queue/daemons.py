"""Which dorad may write: the epoch of a zone, raised by each that starts.

Statements on the `daemons` table; starts nothing.
"""

from datetime import datetime
from uuid import uuid4

from sqlalchemy import Engine, bindparam, insert, select, update

from dorabatch.db import Tx, transaction
from dorabatch.errors import LeaseLost
from dorabatch.queue.tables import DAEMONS

_EPOCH_OF = (
    select(DAEMONS.c.epoch)
    .where(DAEMONS.c.zone == bindparam("in_zone"))
    .with_for_update(read=True)
)


def take_over(engine: Engine, zone: str, now: datetime) -> tuple[int, str]:
    """(epoch, cluster id): from now on, an older daemon of the zone cannot write."""
    with transaction(engine) as tx:
        found = tx.connection.execute(
            select(DAEMONS.c.epoch, DAEMONS.c.cluster_id).where(DAEMONS.c.zone == zone)
        ).one_or_none()
        if found is None:
            cluster_id = uuid4().hex[:8]
            row = {"zone": zone, "epoch": 1, "cluster_id": cluster_id}
            tx.connection.execute(insert(DAEMONS).values(**row, started_at=now))
            return 1, cluster_id
        epoch = int(found.epoch) + 1
        tx.connection.execute(
            update(DAEMONS)
            .where(DAEMONS.c.zone == zone)
            .values(epoch=epoch, started_at=now)
        )
        return epoch, str(found.cluster_id)


def refuse_when_overtaken(tx: Tx, zone: str, epoch: int) -> None:
    """Raise LeaseLost when a newer daemon serves the zone."""
    present = tx.connection.execute(_EPOCH_OF, {"in_zone": zone}).scalar()
    if present != epoch:
        raise LeaseLost(
            f"another dorad (epoch {present}) has taken over zone {zone}; this one "
            f"(epoch {epoch}) stops"
        )
