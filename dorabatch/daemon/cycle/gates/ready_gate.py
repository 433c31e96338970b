"""Which waiting containers may not be tried again yet: their back-off is not over.

Their own, which `runs.end_verdict` decides at an attempt's end, or that of the registry
of their image, which `state.registries` keeps. Changes nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

import numpy as np

from dorabatch.daemon.cycle.gates.chain import PASSES, GateScene, GateVerdict
from dorabatch.daemon.state.registries import Registries
from dorabatch.daemon.state.wait_reason import WaitReason
from dorabatch.queue.board import Board
from dorabatch.queue.records import ContainerId
from dorabatch.units import moment_of

NOT_BEFORE = "NotBefore"
REGISTRY = "Registry"
_FAR = timedelta(hours=20)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadyGate:
    """Keeps waiting what has a moment before which it is not started."""

    board: Board
    registries: Registries

    def __call__(self, scene: GateScene) -> GateVerdict:
        """Those whose moment is yet to come, and those that wait for a registry."""
        ready_us = scene.pending.ready_us[scene.rows]
        early = ready_us > scene.now_us
        waiting = self.registries.waiting
        if waiting:
            early = early | np.isin(scene.pending.key[scene.rows], list(waiting))
        keys = scene.pending.key[scene.rows[early]].tolist()
        moments = ready_us[early].tolist()
        told = [
            self._waits_for_registry(waiting, key)
            or WaitReason(NOT_BEFORE, self._sentence(scene, key, at))
            for key, at in zip(keys, moments, strict=True)
        ]
        why = np.full(len(scene), PASSES, dtype=np.int64)
        why[early] = np.arange(len(told))
        return GateVerdict(
            code=NOT_BEFORE,
            codes=tuple(one.code for one in told),
            sentences=tuple(one.sentence for one in told),
            why=why,
        )

    def _waits_for_registry(
        self, waiting: Mapping[int, str], key: int
    ) -> WaitReason | None:
        name = waiting.get(key)
        if name is None:
            return None
        found = self.registries.silent.get(name)
        words = found.words if found else f"registry {name} answers again"
        return WaitReason(REGISTRY, words)

    def _sentence(self, scene: GateScene, key: int, ready_us: int) -> str:
        at = moment_of(ready_us)
        form = "%Y-%m-%d %H:%M:%S" if at - scene.now > _FAR else "%H:%M:%S"
        told = f"tries again at {at.astimezone().strftime(form)}"
        one = self.board.containers.get(ContainerId(key))
        if one is None or not one.reason:
            return told
        return f"{told} after attempt {one.attempt}: {one.reason}"
