"""The users that were declared, in memory: their defaults and weekly credits.

Written at the start and then by the writer's thread after each commit, read by
everybody: the table is published whole, by one assignment. Decides nothing.
"""

from collections.abc import Iterable, Mapping

from sqlalchemy import Connection

from dorabatch.config import CreditSettings
from dorabatch.daemon.state.object_store import (
    RemovedObject,
    StoredObject,
    list_objects,
)
from dorabatch.fairshare.money.week import WeeklyCredit
from dorabatch.resources.people import UserSpec

KIND = "User"
_MILLION = 1_000_000


class DeclaredUsers:
    """Declared users by name."""

    def __init__(self, settings: CreditSettings) -> None:
        self._settings = settings
        self._specs: dict[str, UserSpec] = {}

    def load(self, connection: Connection) -> None:
        """Read all users."""
        self.apply(list_objects(connection, KIND))

    def declare(self, specs: Mapping[str, str]) -> None:
        """Know users by their specs as JSON, and no others."""
        self._specs = {
            name: UserSpec.model_validate_json(spec) for name, spec in specs.items()
        }

    def apply(self, changes: Iterable[object]) -> None:
        """Take over what a commit changed."""
        ours = [
            one
            for one in changes
            if isinstance(one, StoredObject | RemovedObject) and one.kind == KIND
        ]
        if not ours:
            return
        specs = dict(self._specs)
        for one in ours:
            if isinstance(one, StoredObject):
                specs[one.name] = UserSpec.model_validate_json(one.spec)
            else:
                specs.pop(one.name, None)
        self._specs = specs

    def texts(self) -> dict[str, str]:
        """What `declare` takes."""
        return {
            name: spec.model_dump_json(by_alias=True, exclude_none=True)
            for name, spec in self._specs.items()
        }

    @property
    def specs(self) -> Mapping[str, UserSpec]:
        """What was declared, by user; another table after each change."""
        return self._specs

    def names(self) -> list[str]:
        """Every declared user."""
        return sorted(self._specs)

    def spec(self, user: str) -> UserSpec | None:
        """What was declared of a user."""
        return self._specs.get(user)

    def default_zone(self, user: str) -> str | None:
        """The zone that a user's documents mean when they name none."""
        spec = self._specs.get(user)
        return spec.default.zone if spec else None

    def default_workspace(self, user: str) -> str:
        """The workspace that a user's documents mean when they name none."""
        spec = self._specs.get(user)
        return (spec.default.workspace if spec else None) or user

    def weekly(self, zone: str) -> list[WeeklyCredit]:
        """What users get each week in a zone."""
        found = (self.weekly_of(zone, name) for name in self.names())
        return [one for one in found if one is not None]

    def weekly_of(self, zone: str, user: str) -> WeeklyCredit | None:
        """What one user gets each week in a zone."""
        spec = self._specs.get(user)
        return weekly_credit(spec, zone, user, self._settings) if spec else None


def weekly_credit(
    spec: UserSpec, zone: str, user: str, settings: CreditSettings
) -> WeeklyCredit | None:
    """What a user gets each week in a zone; the site's settings fill the gaps."""
    for credit in spec.credits:
        if credit.zone == zone:
            rollover = credit.rollover
            if rollover is None:
                rollover = settings.rollover
            return WeeklyCredit(
                zone=zone,
                account=user,
                amount=credit.weekly_microcredits,
                on_exhaust=credit.on_exhaust or settings.on_exhaust,
                rollover_ppm=round(rollover * _MILLION),
            )
    return None
