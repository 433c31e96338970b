"""How past use fades: closed forms, so that no step length changes the result.

U(t + d) = U(t) 2^(-d/H) + r (H / ln 2) (1 - 2^(-d/H)) for a constant rate r.
Works on scalars and arrays; never reads a clock and never keeps state.
"""

import math

import numpy as np
import numpy.typing as npt

from dorabatch.errors import UserError

FloatArray = npt.NDArray[np.float64]
HALF_LIFE_SECONDS = 7 * 86_400.0


def decayed_usage(
    usage: FloatArray | float,
    rate: FloatArray | float,
    *,
    elapsed_seconds: FloatArray | float,
    half_life_seconds: float = HALF_LIFE_SECONDS,
) -> FloatArray:
    """Usage after so long at a constant rate per second.

    An infinite half-life keeps everything: usage grows by rate x time.
    """
    if not half_life_seconds > 0:
        raise UserError(
            f"half_life {half_life_seconds} s is not allowed; it must be above 0 "
            "(use .inf to never forget)"
        )
    elapsed = np.asarray(elapsed_seconds, dtype=np.float64)
    if math.isinf(half_life_seconds):
        return np.asarray(usage + np.asarray(rate) * elapsed, dtype=np.float64)
    # expm1 keeps the digits of a short step, where 1 - 2^x would cancel.
    lost = -np.expm1(-elapsed * (math.log(2) / half_life_seconds))
    grown = np.asarray(rate) * (half_life_seconds / math.log(2)) * lost
    return np.asarray(np.asarray(usage) * (1.0 - lost) + grown, dtype=np.float64)


def lockout_seconds(alone_seconds: float, *, half_life_seconds: float) -> float:
    """How long a returning user outranks one who ran alone, two equal shares.

    H log2(2 - 2^(-T/H)): what the catch-up cap exists to bound.
    """
    return half_life_seconds * math.log2(2 - 2 ** (-alone_seconds / half_life_seconds))
