"""The gates between waiting and asking for a place: what each is asked and answers.

Asks them in turn; the first that keeps a row waiting names its reason, and what passes
all may ask. A gate that fails never lets a row pass and never ends the cycle. Which
gates there are, in which order, says `cycle.assembly`; decides nothing itself.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Self

import numpy as np

from dorabatch import log
from dorabatch.daemon.state.snapshot import Snapshot
from dorabatch.daemon.state.wait_reason import WaitReason
from dorabatch.placer.arrays.types import BoolArray
from dorabatch.queue.demand import IntArray, PendingArrays
from dorabatch.units import microseconds_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """The rows that ask for places, paid ones before free ones, and who waits why.

    The first `paid` rows of `order` are charged, the others would run free;
    waits[container] is the reason that a gate gave.
    """

    order: IntArray
    paid: int
    waits: Mapping[int, WaitReason] = field(default_factory=dict)


PASSES = -1
"""Stands for no reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GateScene:
    """What a gate is asked: rows[at] are waiting rows of the snapshot, the first first.

    Rows that a gate before this one keeps waiting are not among them.
    """

    snapshot: Snapshot
    rows: IntArray
    now: datetime

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def pending(self) -> PendingArrays:
        """All that waits; `rows` point into it."""
        return self.snapshot.pending

    @property
    def now_us(self) -> int:
        """The moment, as the columns have it."""
        return microseconds_of(self.now)


@dataclass(frozen=True, slots=True, kw_only=True)
class GateVerdict:
    """What a gate answers for the rows of its scene.

    sentences[why[at]] says why rows[at] waits, PASSES where the gate lets it pass.
    codes[why[at]] is its code, where not all have the same.
    is_free[at]: it may pass behind all that is paid, and costs nothing.
    """

    code: str
    sentences: tuple[str, ...]
    why: IntArray
    is_free: BoolArray | None = None
    codes: tuple[str, ...] = ()

    @property
    def reasons(self) -> list[WaitReason]:
        """The sentences with their codes."""
        codes = self.codes or (self.code,) * len(self.sentences)
        return [WaitReason(*one) for one in zip(codes, self.sentences, strict=True)]

    @property
    def passes(self) -> BoolArray:
        """The rows that need not wait."""
        return np.asarray(self.why == PASSES)

    @classmethod
    def waiting(
        cls, code: str, rows: BoolArray, sentences: str | Sequence[str]
    ) -> Self:
        """Some rows wait: all for one sentence, or each for its own, in their order."""
        why = np.full(len(rows), PASSES, dtype=np.int64)
        if isinstance(sentences, str):
            why[rows] = 0
            return cls(code=code, sentences=(sentences,), why=why)
        why[rows] = np.arange(len(sentences))
        return cls(code=code, sentences=tuple(sentences), why=why)


Gate = Callable[[GateScene], GateVerdict]
"""A function, or an object that is called and knows the few books that it needs."""


GATE_FAILED = "GateFailed"


class GateChain:
    """The gates of a site, in the order in which they are asked."""

    def __init__(self, gates: Sequence[Gate]) -> None:
        self.gates = tuple(gates)

    def asking(self, scene: GateScene) -> Asking:
        """What of the scene's rows may ask for places, best first as before."""
        passage = _Passage(scene)
        for gate in self.gates:
            # Whatever a gate's bug is, the other gates and the cycle go on.
            try:
                passage.take(gate(passage.scene))
            except Exception as error:
                log.failure("gate-failed", error, gate=name_of(gate))
                passage.doubt(_failure(gate, error))
        return passage.asking()


def name_of(gate: Gate) -> str:
    """How people are told which gate it was."""
    return getattr(gate, "__name__", type(gate).__name__)


def _failure(gate: Gate, error: Exception) -> WaitReason:
    return WaitReason(
        GATE_FAILED,
        f"the gate {name_of(gate)} failed ({type(error).__name__}) and nothing passes "
        "it; the daemon's log tells more",
    )


class _Passage:
    """Rows on their way through the gates: those that still pass, and why others wait.

    What a failed gate was asked about waits, unless a later gate says the reason: then
    that is told.
    """

    def __init__(self, scene: GateScene) -> None:
        self.scene = scene
        self._is_free: BoolArray = np.zeros(len(scene), dtype=np.bool_)
        self._waits: dict[int, WaitReason] = {}
        self._failure: WaitReason | None = None

    def take(self, verdict: GateVerdict) -> None:
        """Go on with the rows that a gate lets pass."""
        scene, passes = self.scene, verdict.passes
        reasons = verdict.reasons
        keys = scene.pending.key[scene.rows[~passes]].tolist()
        found = [reasons[why] for why in verdict.why[~passes].tolist()]
        is_free = self._is_free
        if verdict.is_free is not None:
            is_free = is_free | verdict.is_free
        if keys:
            scene = replace(scene, rows=scene.rows[passes])
        # Only now: a verdict that does not fit its rows changes nothing.
        self._is_free, self.scene = is_free[passes], scene
        self._waits.update(zip(keys, found, strict=True))

    def doubt(self, failure: WaitReason) -> None:
        """A gate failed: none of the rows that it was asked about may start."""
        self._failure = self._failure or failure

    def asking(self) -> Asking:
        """What passed all gates."""
        rows, is_free = self.scene.rows, self._is_free
        if self._failure is not None:
            keys = self.scene.pending.key[rows].tolist()
            self._waits.update(dict.fromkeys(keys, self._failure))
            rows, is_free = rows[:0], is_free[:0]
        order = np.concatenate([rows[~is_free], rows[is_free]])
        return Asking(order=order, paid=int((~is_free).sum()), waits=self._waits)
