"""Which waiting containers somebody holds: nothing of their workload starts.

Pure: reads the holds that the queue's columns have; sets and lifts none.
"""

import numpy as np

from dorabatch.daemon.cycle.gates.chain import PASSES, GateScene, GateVerdict

HELD = "Held"


def held_gate(scene: GateScene) -> GateVerdict:
    """Those of held workloads, each told who holds it and why."""
    pending = scene.pending
    number = pending.start_hold[scene.rows]
    is_held = number > 0
    why = np.full(len(scene), PASSES, dtype=np.int64)
    found, why[is_held] = np.unique(number[is_held], return_inverse=True)
    holds = [pending.start_holds[one] for one in found.tolist()]
    sentences = tuple(hold.words for hold in holds if hold is not None)
    return GateVerdict(code=HELD, sentences=sentences, why=why)
