"""What waits and why, and requests found by key, as arrays.

Looks up and never decides; a plan over a hundred thousand requests stays a few arrays.
"""

from collections.abc import Iterator, Mapping

import numpy as np

from dorabatch.placer.arrays.types import BoolArray, IntArray

_SPAN_MAX = 8
"""Keys are looked up in a table while it has at most so many places a key."""


class Waiting(Mapping[int, int]):
    """key -> index into a plan's explanations: why[i] is that of key[i].

    In rank order. Single keys are looked up in a dict that is made for the first.
    """

    __slots__ = ("_by_key", "key", "why")

    def __init__(self, key: IntArray, why: IntArray) -> None:
        self.key = key
        self.why = why
        self._by_key: dict[int, int] | None = None

    @classmethod
    def of(cls, waiting: Mapping[int, int]) -> "Waiting":
        """The same as arrays."""
        if isinstance(waiting, cls):
            return waiting
        pairs = np.array(list(waiting.items()), dtype=np.int64).reshape(-1, 2)
        return cls(pairs[:, 0], pairs[:, 1])

    def __getitem__(self, key: int) -> int:
        if self._by_key is None:
            pairs = zip(self.key.tolist(), self.why.tolist(), strict=True)
            self._by_key = dict(pairs)
        return self._by_key[key]

    def __iter__(self) -> Iterator[int]:
        return iter(self.key.tolist())

    def __len__(self) -> int:
        return len(self.key)

    def take(self, which: IntArray | BoolArray) -> "Waiting":
        """Some of them, in the order given."""
        return Waiting(self.key[which], self.why[which])


def rows_of(keys: IntArray, wanted: IntArray) -> IntArray:
    """row[i] of wanted[i] among `keys`, all different; -1 where it is not there."""
    if len(keys) == 0 or len(wanted) == 0:
        return np.full(len(wanted), -1, dtype=np.int64)
    least, most = int(keys.min()), int(keys.max())
    if most - least < _SPAN_MAX * len(keys):
        table = np.full(most - least + 2, -1, dtype=np.int64)
        table[keys - least] = np.arange(len(keys))
        # Whatever lies outside finds the last place, which stays empty.
        at = np.where((wanted < least) | (wanted > most), most + 1, wanted)
        return np.asarray(table[at - least])
    order = np.argsort(keys, kind="stable")
    at = np.minimum(np.searchsorted(keys[order], wanted), len(keys) - 1)
    return np.where(keys[order[at]] == wanted, order[at], -1)
