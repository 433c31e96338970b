"""What credit lets start in a cycle; `billing.gate` decides it.

A value only.
"""

from dataclasses import dataclass, field

from dorabatch.queue.demand import IntArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """The rows that may be placed, paid ones before free ones, and who waits why.

    The first `paid` rows are charged, the others would run free; `held[container]` is
    a sentence.
    """

    order: IntArray
    paid: int
    held: dict[int, str] = field(default_factory=dict)
