"""Numbers with a unit, from documents: counts, bytes, time, shares, credits.

Every reader takes what YAML or JSON gave (a bool is never a number) and returns an
integer in the unit its name says, or raises ValueError with a sentence.
It never rounds: what does not fit the unit exactly is refused.
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal

from pydantic import ValidationInfo

from dorabatch.resources.names import quoted, show

AS_YAML = {"written as": "YAML"}
"""The context of validating what people write, where each number keeps its digits."""
MICROCREDITS_PER_CREDIT = 1_000_000
CREDITS_MAX = 1_000_000_000
BYTES_MAX = 2**50
MEMORY_BYTES_MIN = 6 * 2**20
"""Docker refuses a smaller limit."""
RUN_SECONDS_MAX = 365 * 86400
CPU_COUNT_MAX = 4096

_BYTE_UNITS = {
    "Ki": 2**10,
    "Mi": 2**20,
    "Gi": 2**30,
    "Ti": 2**40,
    "K": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
}
_BYTES = re.compile(r"([0-9]{1,15})(Ki|Mi|Gi|Ti|K|M|G|T)")
_TIME_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_TIME = re.compile(r"([0-9]{1,9})([smhd])")
_MILLI = re.compile(r"([0-9]{1,7})m")
_DECIMAL = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,12})?")


def whole_number(minimum: int, maximum: int) -> Callable[[object], int]:
    """Make a reader of whole numbers from minimum to maximum."""

    def read(value: object) -> int:
        if type(value) is not int:
            raise ValueError(
                f"must be a whole number from {minimum} to {maximum}, not {show(value)}"
            )
        if not minimum <= value <= maximum:
            raise ValueError(f"is {value}; allowed are {minimum} to {maximum}")
        return value

    return read


def read_bytes(value: object) -> int:
    """Bytes: a whole number, or text with a unit such as 8Gi."""
    if isinstance(value, str):
        match = _BYTES.fullmatch(value)
        if match is None:
            raise ValueError(
                f"must be a size with a unit, such as 512Mi, 8Gi (1024-based) or 8G "
                f"(1000-based), not {show(value)}"
            )
        size = int(match[1]) * _BYTE_UNITS[match[2]]
    elif type(value) is int:
        size = value
    else:
        raise ValueError(
            f"must be a number of bytes or a size such as 8Gi, not {show(value)}"
        )
    if not 1 <= size <= BYTES_MAX:
        raise ValueError(f"is {size} bytes; allowed are 1 to {BYTES_MAX}")
    return size


def read_memory(value: object) -> int:
    """A memory limit in bytes."""
    size = read_bytes(value)
    if size < MEMORY_BYTES_MIN:
        raise ValueError(
            f"is {size} bytes; Docker accepts no limit below {MEMORY_BYTES_MIN} (6Mi)"
        )
    return size


def read_run_seconds(value: object) -> int:
    """A length of time such as 90s, 30m, 48h or 2d, in seconds."""
    match = _TIME.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(
            f"must be a time with a unit, such as 90s, 30m, 48h or 2d, not "
            f"{show(value)}"
        )
    seconds = int(match[1]) * _TIME_UNITS[match[2]]
    if not 1 <= seconds <= RUN_SECONDS_MAX:
        raise ValueError(f"is {seconds} seconds; allowed are 1s to 365d")
    return seconds


def write_run_seconds(seconds: int | None) -> str | None:
    """The text that read_run_seconds reads back to the same number."""
    return None if seconds is None else f"{seconds}s"


def read_cpu_count(value: object) -> int | str:
    """Exclusive cores as a whole number, or a quota such as 500m as text."""
    if type(value) is int:
        if not 1 <= value <= CPU_COUNT_MAX:
            raise ValueError(f"is {value}; allowed are 1 to {CPU_COUNT_MAX} cores")
        return value
    match = _MILLI.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(
            "must be a whole number of cores, such as 4, or thousandths of a core, "
            f"such as '500m', not {show(value)}"
        )
    milli = int(match[1])
    if not 1 <= milli <= CPU_COUNT_MAX * 1000:
        raise ValueError(f"is {milli}m; allowed are 1m to {CPU_COUNT_MAX * 1000}m")
    return f"{milli}m"


def read_decimal(value: object) -> Decimal:
    """An exact number >= 0 without an exponent, as number or text."""
    if type(value) is int or (isinstance(value, Decimal) and value.is_finite()):
        text = format(value, "f" if isinstance(value, Decimal) else "d")
    elif isinstance(value, str):
        text = value
    else:
        raise ValueError(f"must be a number such as 2.5, not {show(value)}")
    if not _DECIMAL.fullmatch(text):
        raise ValueError(
            "must be a number of 0 or more with up to 12 digits on each side of the "
            f"point, such as 2.5, not {show(value)}"
        )
    return Decimal(text)


_SHARE = "a share above 0 and below 1 with up to three decimals, such as 0.5"


def read_share_milli(value: object) -> int:
    """A share of one GPU, 0.001 to 0.999, in thousandths."""
    try:
        share = read_decimal(value)
    except ValueError:
        raise ValueError(f"must be {_SHARE}, not {show(value)}") from None
    milli = share * 1000
    if not 0 < share < 1 or milli != int(milli):
        raise ValueError(f"is {share}; give {_SHARE}")
    return int(milli)


def write_share_milli(milli: int | None) -> str | None:
    """The text that read_share_milli reads back to the same number."""
    return None if milli is None else f"0.{milli:03d}"


def read_part(value: object) -> float:
    """A part of a whole, 0 to 1."""
    if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        part = float(value)
        if 0 <= part <= 1:
            return part
    raise ValueError(f"must be a number from 0 to 1, not {show(value)}")


def read_microcredits(value: object) -> int:
    """An amount of credits, exact to a millionth, in micro-credits."""
    credits = read_decimal(value)
    micro = credits * MICROCREDITS_PER_CREDIT
    if micro != int(micro):
        raise ValueError(f"is {credits}; credits have up to six decimals")
    if credits > CREDITS_MAX:
        raise ValueError(f"is {credits}; allowed are 0 to {CREDITS_MAX}")
    return int(micro)


def read_credit_number(value: object, info: ValidationInfo) -> int:
    """The same where a document has it: a YAML number; JSON may keep it as text."""
    micro = read_microcredits(value)
    if info.context == AS_YAML and isinstance(value, str):
        raise ValueError(
            f"must be a number such as 2.5, not {show(value)}; write it without quotes"
        )
    return micro


def write_microcredits(micro: int) -> str:
    """The text that read_microcredits reads back to the same number."""
    whole, rest = divmod(micro, MICROCREDITS_PER_CREDIT)
    return f"{whole}.{rest:06d}".rstrip("0").rstrip(".")


def read_moment(value: object) -> datetime:
    """A moment with its time zone, such as 2026-07-01T00:00:00+02:00."""
    text = value.isoformat() if isinstance(value, datetime) else value
    example = "write it like 2026-07-01T00:00:00+02:00"
    if not isinstance(text, str):
        raise ValueError(f"must be a moment, not {show(value)}; {example}")
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError(f"{quoted(text)} is no moment; {example}") from error
    if moment.tzinfo is None:
        raise ValueError(f"{quoted(text)} names no time zone; {example}")
    return moment.astimezone(UTC)


def write_moment(moment: datetime | None) -> str | None:
    """The text that read_moment reads back to the same moment."""
    return None if moment is None else moment.isoformat()
