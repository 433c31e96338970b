"""When what runs, and what waits, is expected to end: the placer's view of time.

From time limits, or from run lengths that the caller predicts. Pure; predicts nothing
itself and stops nothing.
"""

from collections.abc import Sequence

import numpy as np

from dorabatch.daemon.state.snapshot import Snapshot, model_counts
from dorabatch.placer.arrays.free_room import Ends
from dorabatch.placer.arrays.types import UNKNOWN_US, Reservation
from dorabatch.placer.time.reserved import Times
from dorabatch.queue.demand import Claim, IntArray

_MICROSECONDS = 1_000_000


def take_times(
    snapshot: Snapshot,
    order: IntArray,
    now_us: int,
    *,
    kept: tuple[Reservation, ...] = (),
    waiting_run_us: IntArray | None = None,
    held_run_us: IntArray | None = None,
) -> Times:
    """Planned ends of the snapshot's rows; requests in the order given.

    waiting_run_us[pending], held_run_us[held]: expected lengths of whole runs in
    microseconds, UNKNOWN_US where nobody knows. Without them the time limits count.
    What runs as long as expected already is expected to run as long again, at most to
    its limit. Trials are expected to end with their time.
    """
    pending, held = snapshot.pending, snapshot.held
    limit_us = _limits(held.claims)[held.claim]
    if waiting_run_us is None:
        waiting_run_us = _limits(pending.claims)[pending.claim]
    if held_run_us is None:
        held_run_us = limit_us
    # A trial goes on past its time only when it has its turn.
    on_trial = held.trial_us > 0
    limit_us = np.where(on_trial, held.trial_us, limit_us)
    held_run_us = np.where(on_trial, held.trial_us, held_run_us)
    return Times(
        now_us=now_us,
        ends=_ends(snapshot, now_us, held_run_us, limit_us),
        planned_end_us=_after(np.int64(now_us), waiting_run_us[order]),
        kept=kept,
    )


def _limits(claims: Sequence[Claim]) -> IntArray:
    """The time limit of each claim."""
    limits = [claim.run_seconds_max * _MICROSECONDS for claim in claims]
    return np.array([limit or UNKNOWN_US for limit in limits], dtype=np.int64)


def _after(start: IntArray | np.int64, run_us: IntArray) -> IntArray:
    """start + run, where the run's length is known."""
    known = run_us < UNKNOWN_US
    return np.where(known, start + np.where(known, run_us, 0), UNKNOWN_US)


def _ends(
    snapshot: Snapshot, now_us: int, run_us: IntArray, limit_us: IntArray
) -> Ends:
    held, models = snapshot.held, snapshot.cluster.models
    start = np.where(held.started_us > 0, held.started_us, now_us)
    ran = now_us - start
    run_us = np.where(ran < run_us, run_us, np.minimum(2 * ran, limit_us))
    # What is overdue or stopping goes any moment now.
    end = np.maximum(_after(start, run_us), now_us)
    end[held.stopping == 1] = now_us
    counts = model_counts(held.model_sets, models)[held.models]
    counts[held.device > 0] = 0
    places = [
        snapshot.shared.slot_of.get(device, (-1, -1, -1)) for device in held.devices
    ]
    slot = np.array(places, dtype=np.int64).reshape(-1, 3)[held.device]
    here = np.flatnonzero(snapshot.held_node >= 0)
    ends = Ends(
        node=snapshot.held_node,
        gpus=counts,
        cpu_milli=held.cpu_milli,
        memory_mib=held.memory_mib,
        end_us=end,
        share_model=slot[:, 1],
        share_slot=slot[:, 2],
        share_milli=np.where(held.device > 0, held.gpu_milli, 0),
    )
    return ends.take(here)
