"""Which dorad may write: the epoch of a zone, raised by each that starts.

Every statement on the `daemons` table; starts nothing and decides nothing else.
"""

from datetime import datetime
from uuid import uuid4

from sqlalchemy import Engine, bindparam, insert, select, update

from dorabatch.db import Tx, transaction
from dorabatch.errors import LeaseLost
from dorabatch.queue.tables import DAEMONS

# Locked on PostgreSQL: a takeover waits for the transaction that checked before it.
_EPOCH_OF = (
    select(DAEMONS.c.epoch)
    .where(DAEMONS.c.zone == bindparam("in_zone"))
    .with_for_update(read=True)
)


def take_over(engine: Engine, zone: str, now: datetime) -> tuple[int, str]:
    """(epoch, cluster id): from now on, an older daemon of the zone cannot write.

    Of two that start at once each has an epoch of its own: it is raised in one
    statement.
    """
    raised = (
        update(DAEMONS)
        .where(DAEMONS.c.zone == zone)
        .values(epoch=DAEMONS.c.epoch + 1, started_at=now)
        .returning(DAEMONS.c.epoch, DAEMONS.c.cluster_id)
    )
    with transaction(engine) as tx:
        found = tx.connection.execute(raised).one_or_none()
        if found is not None:
            return int(found.epoch), str(found.cluster_id)
        first = {"zone": zone, "epoch": 1, "cluster_id": uuid4().hex[:8]}
        tx.connection.execute(insert(DAEMONS).values(**first, started_at=now))
        return 1, str(first["cluster_id"])


def refuse_when_overtaken(tx: Tx, zone: str, epoch: int) -> None:
    """Raise LeaseLost when a newer daemon serves the zone."""
    present = tx.connection.execute(_EPOCH_OF, {"in_zone": zone}).scalar()
    if present != epoch:
        raise LeaseLost(
            f"another dorad (epoch {present}) has taken over zone {zone}; this one "
            f"(epoch {epoch}) stops"
        )
