"""Whole micro-credits and microseconds: exact prices in, exact amounts out.

Decides how a written price becomes an integer and how price x GPUs x time is
rounded. Never uses binary fractions for money, never reads a clock, a table or a
file.
"""

from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import NewType

from dorabatch.errors import UserError, invariant

MicroCredits = NewType("MicroCredits", int)
"""Millionths of one credit."""

CREDIT = MicroCredits(1_000_000)
FREE = MicroCredits(0)
WHOLE_GPU_MILLI = 1000
MICROSECOND = timedelta(microseconds=1)
MICROSECONDS_PER_HOUR = 3_600_000_000
PRICE_CREDITS_MAX = 1_000_000_000
_GPU_HOUR = MICROSECONDS_PER_HOUR * WHOLE_GPU_MILLI
_DECIMALS = 6
_PER_SECOND = 1_000_000
_PER_DAY = 86_400
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def parse_credits(written: object, *, what: str = "credits") -> MicroCredits:
    """Micro-credits from "500", 500 or 0.25; exact or refused."""
    example = "a number of credits such as 500"
    # A bool is an int to Python, and YAML reads an unquoted `yes` as True.
    if isinstance(written, bool) or not isinstance(
        written, str | int | float | Decimal
    ):
        raise UserError(f"{what} {written!r} is not a number; write {example}")
    try:
        value = Decimal(str(written).strip())
    except InvalidOperation as error:
        raise UserError(
            f"{what} {written!r} is not a number; write {example}"
        ) from error
    if not value.is_finite():
        raise UserError(f"{what} {written!r} is not finite; write {example}")
    if value < 0:
        raise UserError(f"{what} {written!r} is below zero; 0 or more is allowed")
    if value > PRICE_CREDITS_MAX:
        raise UserError(
            f"{what} {written!r} is too large; at most {PRICE_CREDITS_MAX} is allowed"
        )
    return _exact_micro(value, what, written)


def render_credits(amount: int) -> str:
    """The amount in credits, without needless zeros: 2500000 -> "2.5"."""
    whole, rest = divmod(abs(amount), CREDIT)
    tail = f".{rest:06d}".rstrip("0") if rest else ""
    return f"{'-' if amount < 0 else ''}{whole}{tail}"


def credits_number(amount: int) -> int | float:
    """The amount in credits as a number that prints without an error."""
    whole, rest = divmod(amount, CREDIT)
    return amount / CREDIT if rest else whole


def number_text(value: object) -> str:
    """A value for people; a number of credits without an exponent (not 1e-06)."""
    if not isinstance(value, float):
        return str(value)
    return f"{value:.6f}".rstrip("0").rstrip(".")


def microseconds_of(moment: datetime) -> int:
    """An aware moment as whole microseconds since 1970, exactly."""
    since = moment - _EPOCH
    return (since.days * _PER_DAY + since.seconds) * _PER_SECOND + since.microseconds


def moment_of(microseconds: int) -> datetime:
    """The moment so many microseconds after 1970 began, UTC."""
    seconds, micro = divmod(microseconds, _PER_SECOND)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=micro)


def microseconds(span: timedelta) -> int:
    """The span in whole microseconds, exactly."""
    return span // MICROSECOND


def amount_for(
    price_per_hour: int, *, gpu_milli: int, elapsed_microseconds: int
) -> MicroCredits:
    """What so many thousandths of GPUs cost for so long, rounded down once."""
    invariant(price_per_hour >= 0, f"a price of {price_per_hour} is below zero")
    invariant(gpu_milli >= 0, f"{gpu_milli} thousandths of a GPU are below zero")
    invariant(
        elapsed_microseconds >= 0, f"{elapsed_microseconds} us of use are below zero"
    )
    return MicroCredits(price_per_hour * gpu_milli * elapsed_microseconds // _GPU_HOUR)


def _exact_micro(value: Decimal, what: str, written: object) -> MicroCredits:
    numerator, denominator = value.as_integer_ratio()
    scaled, rest = divmod(numerator * CREDIT, denominator)
    if rest:
        raise UserError(
            f"{what} {written!r} has more than {_DECIMALS} decimals; "
            "round it to a millionth of a credit"
        )
    return MicroCredits(scaled)
