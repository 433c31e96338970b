"""The policy's settings: every key, what it may be, and what a `KEY=VALUE` means.

One table for `dshare set`, for `dshare whatif --set` and for the settings file. Values
in, values out: stores nothing, reads no file and never asks who wants the change.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from dorabatch.errors import UserError
from dorabatch.fairshare.turn.lane import LaneRule
from dorabatch.fairshare.turn.ranking import MILLION, Weights
from dorabatch.fairshare.turn.use_limits import UseLimits

NEVER = "never"
NONE = "none"
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_TIME = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,3})?)([smhdw])")
_NUMBER = re.compile(r"[0-9]{0,6}(?:\.[0-9]{1,6})?")
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_ACCOUNT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@-]{0,99}")
_SECONDS_MAX = 10 * 365 * 86_400
_POINTS_MAX = 1000
_LIMIT_MAX = 1_000_000
_WEIGHTS = ("fair_share", "credit", "age", "slow_down")

Reader = Callable[[str], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One key: its default as it is written, how it is read, what it is for."""

    default: str
    read: Reader
    about: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicySettings:
    """The settings in force, read.

    `weights` are scaled so that they add up to 1. `qos` and `queues` (by workspace) are
    what a name counts, each a million points of priority. `texts` are the values as
    they are written, by key.
    """

    half_life_seconds: float
    catch_up_seconds: float
    weights: Weights
    age_full_seconds: float
    age_step_seconds: float
    nice_max: int
    qos: Mapping[str, int]
    queues: Mapping[str, int]
    lane: LaneRule
    limits: UseLimits
    texts: Mapping[str, str]


def read_duration(text: str) -> float:
    """Seconds from 90s, 30m, 12h, 7d or 2w."""
    match = _TIME.fullmatch(text)
    if match is None:
        raise ValueError("write a time such as 90s, 30m, 12h, 7d or 2w")
    seconds = float(match[1]) * _UNITS[match[2]]
    if seconds > _SECONDS_MAX:
        raise ValueError("at most 10 years are allowed")
    return seconds


def read_positive_duration(text: str) -> float:
    """Seconds above 0."""
    seconds = read_duration(text)
    if seconds <= 0:
        raise ValueError("it must be above 0")
    return seconds


def read_half_life(text: str) -> float:
    """Seconds above 0, or `never` for use that does not fade."""
    if text == NEVER:
        return math.inf
    try:
        return read_positive_duration(text)
    except ValueError as error:
        raise ValueError(f"{error}; or {NEVER}, to forget nothing") from error


def read_weight(text: str) -> Decimal:
    """A number from 0 with up to six decimals."""
    if not _NUMBER.fullmatch(text):
        raise ValueError(
            "write a number from 0 to 999999 with up to six decimals, such as 0.3"
        )
    try:
        return Decimal(text)
    except InvalidOperation as error:
        raise ValueError("write a number such as 0.3") from error


def _whole(minimum: int, maximum: int) -> Reader:
    def read(text: str) -> int:
        if not re.fullmatch(r"-?[0-9]{1,10}", text):
            raise ValueError(f"write a whole number from {minimum} to {maximum}")
        value = int(text)
        if not minimum <= value <= maximum:
            raise ValueError(f"allowed are {minimum} to {maximum}")
        return value

    return read


def read_limit(text: str) -> int | None:
    """A whole number from 0, or `none` for no limit."""
    if text == NONE:
        return None
    try:
        return int(_whole(0, _LIMIT_MAX)(text))
    except ValueError as error:
        raise ValueError(f"{error}; or {NONE}, for no limit") from error


def _fraction(most: float) -> Reader:
    def read(text: str) -> int:
        value = read_weight(text)
        if value > Decimal(str(most)):
            raise ValueError(f"allowed are 0 to {most}")
        return int(value * MILLION)

    return read


SETTINGS: dict[str, Setting] = {
    "half_life": Setting(
        default="7d",
        read=read_half_life,
        about="after so long, use counts half; never: it does not fade",
    ),
    "catch_up": Setting(
        default="12h",
        read=read_duration,
        about="who returns is ahead by at most so much of their share",
    ),
    "weights.fair_share": Setting(
        default="0.7", read=read_weight, about="weight of F, the rank in the fair tree"
    ),
    "weights.credit": Setting(
        default="0.2", read=read_weight, about="weight of C, credit left against pace"
    ),
    "weights.age": Setting(
        default="0.1", read=read_weight, about="weight of A, the wait"
    ),
    "weights.slow_down": Setting(
        default="0", read=read_weight, about="weight of X, wait against run time"
    ),
    "age_full": Setting(
        default="7d", read=read_positive_duration, about="a wait that counts in full"
    ),
    "age_step": Setting(
        default="6h",
        read=read_duration,
        about="who came in the same so many hours is equally old; 0s: nobody",
    ),
    "nice_max": Setting(
        default="1000000",
        read=_whole(0, 1_000_000_000),
        about="the largest --nice; administrators may use it below 0 too",
    ),
    "lane.fraction": Setting(
        default="0.03",
        read=_fraction(0.5),
        about="part of the GPUs for short trials; 0: no lane",
    ),
    "lane.trial": Setting(
        default="5m", read=read_positive_duration, about="how long a trial may run"
    ),
    "lane.stops_max": Setting(
        default="3",
        read=_whole(0, 100),
        about="trials that may be stopped for others, then no more are made",
    ),
    "limits.gpus_per_user": Setting(
        default=NONE,
        read=read_limit,
        about="GPUs that one user may hold at once; none: no limit",
    ),
    "limits.running_per_user": Setting(
        default=NONE,
        read=read_limit,
        about="containers of one user that may run at once; none: no limit",
    ),
}
"""Every fixed key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingFamily:
    """Keys of the form FAMILY.NAME: which names, how they are read, what they are for.

    `wanted` is the name in capitals, as people are told of it.
    """

    wanted: str
    name: re.Pattern[str]
    read: Reader
    about: str


_POINTS = _whole(-_POINTS_MAX, _POINTS_MAX)
LIMITED_ACCOUNTS = "limits.gpus"
FAMILIES: dict[str, SettingFamily] = {
    "qos": SettingFamily(
        wanted="NAME",
        name=_NAME,
        read=_POINTS,
        about="what --qos NAME counts, in millions of points",
    ),
    "queues": SettingFamily(
        wanted="NAME",
        name=_NAME,
        read=_POINTS,
        about="what workloads of workspace NAME count, in millions of points",
    ),
    LIMITED_ACCOUNTS: SettingFamily(
        wanted="ACCOUNT",
        name=_ACCOUNT,
        read=read_limit,
        about="GPUs that all users below account ACCOUNT may hold at once",
    ),
}
DEFAULT_TEXTS: dict[str, str] = {key: one.default for key, one in SETTINGS.items()}


def read_value(key: str, text: str) -> object:
    """The value of one key; raises UserError naming key, value and what is allowed."""
    reader = _reader(key)
    try:
        return reader(text)
    except ValueError as error:
        raise UserError(f"{key} = {text!r}: {error}") from error


def parse_assignments(words: Iterable[str]) -> dict[str, str]:
    """{key: value} of words such as half_life=1d, each checked by itself.

    Raises UserError for a word that is no KEY=VALUE, an unknown key, a key that is
    given twice, or a value that is not allowed.
    """
    found: dict[str, str] = {}
    for word in words:
        key, equals, text = word.partition("=")
        key, text = key.strip(), text.strip()
        if not equals or not key:
            raise UserError(f"{word!r} is not KEY=VALUE, such as half_life=1d")
        if key in found:
            raise UserError(f"{key} is given twice; keep one of them")
        read_value(key, text)
        found[key] = text
    if not found:
        raise UserError("nothing to set: give KEY=VALUE, such as half_life=1d")
    return found


def policy_settings(*layers: Mapping[str, str]) -> PolicySettings:
    """The settings that layers of {key: text} make, a later layer over an earlier.

    The defaults lie below all. Raises UserError for what is not allowed, also for
    values that are refused only together, such as weights that sum to nothing.
    """
    texts = dict(DEFAULT_TEXTS)
    for layer in layers:
        texts.update(layer)
    values = {key: read_value(key, text) for key, text in texts.items()}
    return PolicySettings(
        half_life_seconds=_float(values["half_life"]),
        catch_up_seconds=_float(values["catch_up"]),
        weights=scaled_weights(
            {name: Decimal(texts[f"weights.{name}"]) for name in _WEIGHTS}
        ),
        age_full_seconds=_float(values["age_full"]),
        age_step_seconds=_float(values["age_step"]),
        nice_max=_int(values["nice_max"]),
        qos=_family("qos", values),
        queues=_family("queues", values),
        lane=LaneRule(
            part_ppm=_int(values["lane.fraction"]),
            trial_seconds=_float(values["lane.trial"]),
            stops_max=_int(values["lane.stops_max"]),
        ),
        limits=UseLimits(
            gpus_per_user=_limit(values["limits.gpus_per_user"]),
            running_per_user=_limit(values["limits.running_per_user"]),
            gpus_of_accounts=_limits_of_accounts(values),
        ),
        texts=texts,
    )


def scaled_weights(written: Mapping[str, Decimal]) -> Weights:
    """Weights in proportion to what is written, in millionths that add up to one.

    What is left after rounding down goes to the largest remainders, in the order
    fair_share, credit, age, slow_down.
    """
    total = sum(written.values())
    if total <= 0:
        names = ", ".join(f"weights.{name}" for name in _WEIGHTS)
        raise UserError(f"{names} add up to nothing; give at least one of them a value")
    exact = {name: written[name] * MILLION / total for name in _WEIGHTS}
    parts = {name: int(value) for name, value in exact.items()}
    by_rest = sorted(_WEIGHTS, key=lambda name: parts[name] - exact[name])
    for name in by_rest[: MILLION - sum(parts.values())]:
        parts[name] += 1
    return Weights(**parts)


def flat_texts(tree: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """{key: text} of nested settings as a file has them, each checked by itself."""
    found: dict[str, str] = {}
    for name, value in tree.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping):
            found.update(flat_texts(value, f"{key}."))
        else:
            text = str(value)
            read_value(key, text)
            found[key] = text
    return found


def about(key: str) -> str:
    """What a key is for, in a few words."""
    if key in SETTINGS:
        return SETTINGS[key].about
    family, name = _split(key)
    return FAMILIES[family].about.replace(FAMILIES[family].wanted, name)


def accounts_named(keys: Iterable[str]) -> dict[str, str]:
    """{key: account} of those settings that are about one account."""
    found = {key: _split(key) for key in keys if key not in SETTINGS}
    return {
        key: name for key, (family, name) in found.items() if family == LIMITED_ACCOUNTS
    }


def _split(key: str) -> tuple[str, str]:
    """(family, name) of a key of the form FAMILY.NAME; empty: it is none."""
    for family in FAMILIES:
        if key.startswith(f"{family}."):
            return family, key.removeprefix(f"{family}.")
    return "", ""


def _reader(key: str) -> Reader:
    if key in SETTINGS:
        return SETTINGS[key].read
    family, name = _split(key)
    if family and FAMILIES[family].name.fullmatch(name):
        return FAMILIES[family].read
    names = (f"{family}.{one.wanted}" for family, one in FAMILIES.items())
    known = ", ".join([*SETTINGS, *names])
    raise UserError(f"there is no setting {key!r} (known: {known})")


def _limits_of_accounts(values: Mapping[str, object]) -> dict[str, int]:
    named = accounts_named(values)
    limits = {account: _limit(values[key]) for key, account in named.items()}
    return {account: one for account, one in limits.items() if one is not None}


def _limit(value: object) -> int | None:
    return None if value is None else _int(value)


def _family(family: str, values: Mapping[str, object]) -> dict[str, int]:
    head = f"{family}."
    return {
        key.removeprefix(head): _int(value)
        for key, value in values.items()
        if key.startswith(head)
    }


def _float(value: object) -> float:
    return float(value)  # type: ignore[arg-type]  # each reader gives a number


def _int(value: object) -> int:
    return int(value)  # type: ignore[call-overload, no-any-return]  # the same
