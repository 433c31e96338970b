"""What a request asks for and what nodes have, in words.

Only turns numbers and names into text.
"""

from collections.abc import Sequence

from dorabatch.placer.arrays.classes import Classes
from dorabatch.placer.arrays.types import WHOLE_GPU_MILLI

NAMED_MAX = 8


def asked_words(classes: Classes, index: int, models: tuple[str, ...]) -> str:
    """The ask in words: `2 x V100 or T4`, `0.5 of one T4`, `4 CPUs`."""
    count, milli = int(classes.gpu_count[index]), int(classes.gpu_milli[index])
    if count == 0:
        return cpu_words(int(classes.cpu_milli[index]))
    named = [
        name for name, good in zip(models, classes.accepts[index], strict=True) if good
    ]
    kind = "GPU of any model" if len(named) == len(models) else either(named)
    if milli < WHOLE_GPU_MILLI:
        return f"{milli / 1000:g} of one {kind or 'GPU'}"
    return f"{count} x {kind or 'GPU'}"


def cpu_words(milli: int) -> str:
    """`1 CPU`, `0.5 CPUs`."""
    return "1 CPU" if milli == 1000 else f"{milli / 1000:g} CPUs"


def either(names: Sequence[str]) -> str:
    """`a or b`; of a long list the first."""
    if len(names) <= NAMED_MAX:
        return " or ".join(names)
    shown = " or ".join(names[:NAMED_MAX])
    return f"{shown} or one of {len(names) - NAMED_MAX} more"


def listed(names: Sequence[str]) -> str:
    """`a, b`; of a long list the first."""
    if len(names) <= NAMED_MAX:
        return ", ".join(names)
    return f"{', '.join(names[:NAMED_MAX])} and {len(names) - NAMED_MAX} more"
