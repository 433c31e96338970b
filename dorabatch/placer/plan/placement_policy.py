"""The knobs of placement, as one frozen value.

Holds numbers only; it reads no file and decides nothing.
"""

from dataclasses import dataclass

from dorabatch.errors import ConfigError

RESERVATIONS_MAX = 16
POLICIES = ("default", "first-fit", "best-fit", "random")


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacementPolicy:
    """How `place` chooses.

    name          default (plans the whole queue), first-fit, best-fit or random
    seed          start of every pseudo-random choice (Affinity.RANDOM, "random")
    requests_max  requests looked at in one cycle; the rest is `Plan.left`
    reservations  how many waiting requests of highest rank have a place kept (0: none)
    """

    name: str = "default"
    seed: int = 0
    requests_max: int = 200_000
    reservations: int = 1

    def __post_init__(self) -> None:
        """Refuse values no cycle could run with."""
        if self.name not in POLICIES:
            allowed = ", ".join(POLICIES)
            raise ConfigError(f"placement.name: {self.name!r} (allowed: {allowed})")
        if self.requests_max < 1:
            raise ConfigError(
                f"placement.requests_max: {self.requests_max} (allowed: 1 or more)"
            )
        if not 0 <= self.reservations <= RESERVATIONS_MAX:
            raise ConfigError(
                f"placement.reservations: {self.reservations} (allowed: 0 to "
                f"{RESERVATIONS_MAX})"
            )
