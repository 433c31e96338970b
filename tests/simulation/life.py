"""One life of a world: some hundred deeds from a seed, the laws after each, the end.

The same scenario, seed and steps give the same life, byte for byte.
"""

import logging
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dorabatch.daemon.state.site_policy import Edit
from dorabatch.fairshare.turn.account_tree import Account
from tests.simulation.deeds import BUSY, DEEDS, Deed, interfere, step
from tests.simulation.dependent import broken_waits, met_fates, submit_after
from tests.simulation.faults import clock_set
from tests.simulation.world import LIMITS, PRICES, World

LANE = {"lane": {"fraction": 0.2, "trial": "20s", "stops_max": 2}}
"""Two of ten GPUs are for trials."""
USE_LIMITS = {
    "limits": {"gpus_per_user": 3, "running_per_user": 4, "gpus": {"lab": 5, "uni": 4}}
}
"""Of ten GPUs; both users are below the lab, and that below the uni."""
CLOCKS: tuple[Deed, int] = (clock_set, 1)


def _nothing(_: World) -> None:
    """Nothing is set up."""


def _no_more(_: World) -> list[str]:
    """No law beside those of every world."""
    return []


def _no_fates(_: World) -> set[tuple[str, bool]]:
    """Nothing is watched for."""
    return set()


def _make_lab(world: World) -> None:
    policy, edit = world.books.policy, Edit(actor="root", now=world.clock.now)
    for row in (
        Account(name="uni"),
        Account(name="lab", parent="uni"),
        *(Account(name=u.user, parent="lab", is_user=True) for u in world.users()),
    ):
        policy.add(world.effects.writer, edit, row, [])


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """What kind of site it is, what happens there and what else must hold."""

    deeds: tuple[tuple[Deed, int], ...] = DEEDS
    policy: Mapping[str, Any] = field(default_factory=dict)
    credits: str = PRICES
    prepare: Callable[[World], None] = _nothing
    laws: Callable[[World], list[str]] = _no_more
    fates: Callable[[World], set[tuple[str, bool]]] = _no_fates


SCENARIOS: dict[str, Scenario] = {
    "usual": Scenario(deeds=(*DEEDS, CLOCKS), credits=PRICES + LIMITS),
    "unlimited": Scenario(),
    "tried": Scenario(deeds=BUSY, policy=LANE),
    "dependent": Scenario(
        deeds=(*DEEDS, (submit_after, 12)),
        credits=PRICES + LIMITS,
        laws=broken_waits,
        fates=met_fates,
    ),
    "limited": Scenario(
        deeds=(*BUSY, CLOCKS), policy=LANE | USE_LIMITS, prepare=_make_lab
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """How a life went: so many steps, and what broke at the last of them."""

    scenario: str
    seed: int
    steps: int
    kills: int
    broken: list[str]
    trail: list[str]
    fates: set[tuple[str, bool]]

    def tale(self) -> str:
        """What broke, what happened before, and how to see it again."""
        laws, last = "\n  ".join(self.broken), "\n  ".join(self.trail[-25:])
        return (
            f"{self.scenario}, seed {self.seed}, after step {self.steps}:\n  {laws}\n"
            f"what happened last:\n  {last}\nrepeat it: python -m tests.simulation "
            f"--scenario {self.scenario} --seeds {self.seed}"
        )


def live(name: str, seed: int, steps: int, folder: Path) -> Life:
    """Live it until a law is broken, or to its end."""
    scenario = SCENARIOS[name]
    world = World(seed, folder, scenario.policy, credits=scenario.credits)
    done, broken, fates = 0, list[str](), set[tuple[str, bool]]()
    try:
        with _errors_logged() as logged:
            scenario.prepare(world)
            world.enliven(lambda: interfere(world))
            while done < steps and not broken:
                step(world, scenario.deeds)
                broken = [*world.broken(), *scenario.laws(world)]
                broken += _unexcused(world, logged)
                done += 1
            if not broken:
                world.trouble.begin_step()
                world.drain()
                broken = [*world.broken_at_end(), *scenario.laws(world)]
                broken += _unexcused(world, logged)
                fates = scenario.fates(world)
    # Whatever a daemon raises where its threads would have gone on is a fault.
    except Exception:
        broken = [traceback.format_exc()]
    finally:
        world.close()
    return Life(
        scenario=name,
        seed=seed,
        steps=done,
        kills=world.kills,
        broken=broken,
        trail=world.trail,
        fates=fates,
    )


@contextmanager
def _errors_logged() -> Iterator[list[logging.LogRecord]]:
    """Every error that the daemon logs meanwhile."""
    found: list[logging.LogRecord] = []
    handler = logging.Handler(logging.ERROR)
    handler.emit = found.append  # type: ignore[method-assign]
    logger = logging.getLogger("dorabatch")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.ERROR)
    try:
        yield found
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def _unexcused(world: World, logged: list[logging.LogRecord]) -> list[str]:
    """What was logged in this step and comes of no trouble that there is."""
    found = []
    for record in logged:
        error = record.exc_info[1] if record.exc_info else None
        if not world.trouble.excuses(error):
            trace = "".join(traceback.format_exception(error)) if error else ""
            found.append(f"logged: {record.getMessage()} {trace}")
    logged.clear()
    return found
