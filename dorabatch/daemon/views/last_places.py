"""Where ended containers ran: their last attempt's node and devices, for showing only.

An ended container holds nothing any more; the history of attempts knows what it held.
Each is read from there once. Written by whoever shows a list, read by the same: an
entry is made whole and put in by one assignment. Never changes a record on the board.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from sqlalchemy import Engine

from dorabatch.queue.past import last_holds
from dorabatch.queue.records import Container, ContainerId
from dorabatch.queue.states import State

_KEPT_MAX = 50_000


class LastPlaces:
    """Ended containers with the place of their last attempt."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._shown: dict[ContainerId, tuple[Container, Container]] = {}

    def look_up(self, containers: Iterable[Container]) -> None:
        """Read the places of many at once, where they are not known yet."""
        unknown = [one for one in containers if self._known(one) is None]
        if not unknown:
            return
        with self._engine.connect() as connection:
            holds = last_holds(connection, [one.container_id for one in unknown])
        if len(self._shown) + len(unknown) > _KEPT_MAX:
            self._shown = {}
        for one in unknown:
            hold = holds.get(one.container_id)
            shown = one if hold is None else replace(one, hold=hold)
            self._shown[one.container_id] = one, shown

    def shown(self, containers: Sequence[Container]) -> Sequence[Container]:
        """The same containers; an ended one has in `hold` what it held at last."""
        if not any(map(has_ended, containers)):
            return containers
        self.look_up(containers)
        return [self._known(one) or one for one in containers]

    def _known(self, container: Container) -> Container | None:
        """How a container is shown; None: it has to be read first."""
        if not has_ended(container):
            return container
        source, shown = self._shown.get(container.container_id, (None, None))
        return shown if source is container else None


def has_ended(container: Container) -> bool:
    """Whether a container ran and holds nothing any more."""
    return container.state is State.FINISHED and container.attempt > 0
