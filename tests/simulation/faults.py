"""What may go wrong in a world beside its nodes: disk, clock, late news, two daemons.

Each deed draws what it needs from the world's random numbers and does one thing.
"""

from collections.abc import Callable
from typing import Any

from dorabatch.daemon.service import Daemon
from dorabatch.errors import DorabatchError
from tests.makers import document
from tests.simulation.work import SteppedKeeper
from tests.simulation.world import World


def disk_fills(world: World) -> None:
    """Nothing more can be written where the daemon keeps its state."""
    world.trouble.fill()


def database_locked(world: World) -> None:
    """Somebody else holds the database's lock."""
    world.trouble.lock()


def disk_heals(world: World) -> None:
    """There is room, and the lock is free."""
    world.trouble.heal()


def clock_set(world: World) -> None:
    """Somebody sets the clock of the daemon's machine; the nodes' go on."""
    world.was_clock_set = True
    world.clock.ahead_seconds += world.random.choice((-90, -5, -0.5, 0.5, 5, 90))


def removals_slow(world: World) -> None:
    """A node says that it has removed a container before it has."""
    world.random.choice(list(world.nodes.values())).are_removals_slow = True


def removals_done(world: World) -> None:
    """What is being removed anywhere is gone."""
    for node in world.nodes.values():
        node.are_removals_slow = False
        node.finish_removals()


def old_news(world: World) -> None:
    """An event of a container comes late, twice, or of what runs on."""
    draw = world.random
    keeper = draw.choice(world.keepers())
    news = world.nodes[keeper.node].news
    for labels in draw.choices(news, k=2) if news else ():
        keeper.saw_end(labels)


def old_daemon_wakes(world: World) -> None:
    """A daemon was frozen, another took over; now it goes on and does not know."""
    world.trouble.is_excused = True
    was_quiet, world.is_quiet = world.is_quiet, True
    old = world.overtake()
    try:
        if _can_submit(world, old):
            world.misdeeds.append("a daemon that was overtaken has written")
        for go_on in (old.turn, *_open_work(world, old)):
            try:
                go_on()
            except DorabatchError as refusal:
                world.trail.append(f"  overtaken: {refusal.message}")
    finally:
        world.is_quiet = was_quiet
        old.parts.effects.writer.stop()
        old.parts.effects.engine.dispose()


def _can_submit(world: World, daemon: Daemon) -> bool:
    intake, who = daemon.parts.intake, world.caller(world.users()[0])
    new, _ = intake.admission.admit(who, document(name="of-old", cpus="1"))
    try:
        intake.submissions.submit(new).result(20)
    except DorabatchError:
        return False
    return True


def _open_work(world: World, daemon: Daemon) -> list[Callable[[], Any]]:
    keepers = [daemon.parts.keepers.get(name) for name in sorted(world.nodes)]
    stepped = [one for one in keepers if isinstance(one, SteppedKeeper)]
    return [work for one in stepped for work in list(one.work.waiting)]
