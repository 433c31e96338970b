"""Which waiting containers may not be tried again yet: their back-off is not over.

How long a back-off is, `runs.end_verdict` decides at an attempt's end. Changes nothing.
"""

from dataclasses import dataclass
from datetime import timedelta

from dorabatch.daemon.cycle.gates.chain import GateScene, GateVerdict
from dorabatch.queue.board import Board
from dorabatch.queue.records import ContainerId
from dorabatch.units import moment_of

NOT_BEFORE = "NotBefore"
_FAR = timedelta(hours=20)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadyGate:
    """Keeps waiting what has a moment before which it is not started."""

    board: Board

    def __call__(self, scene: GateScene) -> GateVerdict:
        """Those whose moment is yet to come."""
        ready_us = scene.pending.ready_us[scene.rows]
        early = ready_us > scene.now_us
        keys = scene.pending.key[scene.rows[early]].tolist()
        moments = ready_us[early].tolist()
        told = [
            self._sentence(scene, key, at)
            for key, at in zip(keys, moments, strict=True)
        ]
        return GateVerdict.waiting(NOT_BEFORE, early, told)

    def _sentence(self, scene: GateScene, key: int, ready_us: int) -> str:
        at = moment_of(ready_us)
        form = "%Y-%m-%d %H:%M:%S" if at - scene.now > _FAR else "%H:%M:%S"
        told = f"tries again at {at.astimezone().strftime(form)}"
        one = self.board.containers.get(ContainerId(key))
        if one is None or not one.reason:
            return told
        return f"{told} after attempt {one.attempt}: {one.reason}"
