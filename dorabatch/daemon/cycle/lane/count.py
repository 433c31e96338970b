"""Counts what holds GPUs of the nodes in use: ordinary runs, free ones and trials.

Reads the books and a cycle's snapshot; decides nothing.
"""

import numpy as np

from dorabatch.daemon.cycle.lane_state import (
    NOT_USED,
    Lane,
    OnTrial,
    is_live_trial,
    seconds_of,
)
from dorabatch.daemon.state.books import Books
from dorabatch.daemon.state.snapshot import Snapshot
from dorabatch.placer.arrays.types import BoolArray, IntArray
from dorabatch.queue.records import ContainerId


def take_lane(books: Books, snapshot: Snapshot, is_free: BoolArray) -> Lane:
    """Count what holds GPUs; `is_free[held]` runs free."""
    cluster, held = snapshot.cluster, snapshot.held
    usable = cluster.ready & cluster.enabled & cluster.allows_gpu
    is_used = snapshot.held_node >= 0
    is_used[is_used] = usable[snapshot.held_node[is_used]]
    lengths = np.array([len(names) for names in held.model_sets], dtype=np.int64)
    gpus = np.where(is_used & (held.device == 0), lengths[held.models], 0)
    total = int(cluster.gpus_total[usable].sum())
    on_trial = held.trial_us > 0
    trial_gpus = int(gpus[on_trial].sum())
    return Lane(
        rule=books.policy.settings.lane,
        capacity=total,
        used=total - int(cluster.gpus_free[usable].sum()) - trial_gpus,
        free_used=int(gpus[is_free & ~on_trial].sum()),
        on_trial=trial_gpus,
        trials=_trials(books, snapshot, gpus, is_used),
        gpus=gpus,
    )


def _trials(
    books: Books, snapshot: Snapshot, gpus: IntArray, is_used: BoolArray
) -> tuple[OnTrial, ...]:
    held, known = snapshot.held, books.board.containers
    rows = np.flatnonzero((held.trial_us > 0) & (held.stopping == 0))
    if len(rows) == 0:
        return ()
    claims = books.held_claims.columns(held.claims)
    planned = seconds_of(claims.planned_us[held.claim])
    found = []
    for row in rows.tolist():
        container = known.get(ContainerId(int(held.key[row])))
        # It may have changed since the snapshot was taken.
        if container is not None and is_live_trial(container):
            node = int(snapshot.held_node[row]) if is_used[row] else NOT_USED
            one = OnTrial(
                container=container,
                user=held.claims[held.claim[row]].user,
                node=node,
                gpus=int(gpus[row]),
                planned=float(planned[row]),
            )
            found.append(one)
    return tuple(found)
