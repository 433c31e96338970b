"""What may happen in a world: users, jobs, nodes, time and the daemon's own duties.

Each deed draws what it needs from the world's random numbers and does one thing.
"""

from collections.abc import Callable

from sqlalchemy.exc import SQLAlchemyError

from dorabatch.daemon.intake.cancel import Selection
from dorabatch.errors import (
    DorabatchError,
    InvariantError,
    NodeError,
    NodeUnreachable,
    StartFailed,
)
from dorabatch.node.facts import CODES_OF_A_STOP
from dorabatch.resources.workload import WorkloadDocument
from tests.makers import RTX, V100, document
from tests.simulation import faults
from tests.simulation.machines import Machine, attempt_of
from tests.simulation.work import SteppedKeeper
from tests.simulation.world import ROOT, World

Deed = Callable[[World], None]


def wish(world: World, name: str) -> WorkloadDocument:
    """Something a user may want."""
    draw = world.random
    options: dict[str, object] = {"name": name, "image": "busybox", "cmd": ["job"]}
    if draw.random() < 0.75:
        options["gpus"] = str(draw.choice((1, 1, 1, 2, 2, 4)))
        if draw.random() < 0.5:
            options["gpu_models"] = draw.choice(([V100], [RTX], [V100, RTX]))
    else:
        options["cpus"] = draw.choice(("1", "2", "500m"))
    if draw.random() < 0.3:
        options["memory"] = draw.choice(("256M", "2G", "6G"))
    if draw.random() < 0.3:
        options["replicas"] = draw.choice((2, 3))
    if draw.random() < 0.2:
        options["restart"] = "Always"
    if draw.random() < 0.5:
        options["restartable"] = draw.random() < 0.8
    options["on_lost"] = draw.choice((*("wait",) * 7, "wait 60s", "requeue", "fail"))
    if draw.random() < 0.2:
        options["time"] = draw.choice(("20s", "60s"))
    if draw.random() < 0.15:
        options["ports"] = [f"{draw.choice((25000, 25001))}:80"]
    if draw.random() < 0.1:
        options["nodes"] = [draw.choice(("n1", "n3"))]
    return document(**options)


def submit(world: World) -> None:
    """A user submits."""
    intake, draw = world.parts.intake, world.random
    who = world.caller(draw.choice(world.users()))
    new, _ = intake.admission.admit(who, wish(world, f"j{draw.randrange(10**6)}"))
    intake.submissions.submit(new).result(20)


def apply(world: World) -> None:
    """A user applies a document under one of a few names, again and again."""
    draw = world.random
    who = world.caller(draw.choice(world.users()))
    document = wish(world, draw.choice(("red", "blue")))
    if draw.random() < 0.5:
        live = [w for w in world.live() if w.name == document.name]
        if live:
            document = scaled(live[0].spec_json, document, draw.choice((0, 1, 2, 4)))
    key = world.books.board.live_names.get((who.user, document.name))
    # Whatever comes of it: what it was is not what it is any more.
    world.rewritten |= {int(key)} if key is not None else set()
    world.parts.intake.applier.apply(who, document)
    # Somebody wants it again, or for the first time.
    world.cancelled -= {int(key)} if key is not None else set()


def scaled(spec_json: str, document: WorkloadDocument, count: int) -> WorkloadDocument:
    """The stored spec with another number of replicas."""
    spec = type(document.spec).model_validate_json(spec_json)
    replica = document.spec.replica.model_copy(update={"count": count})
    spec = spec.model_copy(update={"replica": replica})
    return document.model_copy(update={"spec": spec})


def cancel_one(world: World) -> None:
    """A user, or the admin, cancels something."""
    live = world.live()
    if not live:
        return
    chosen = world.random.choice(live)
    who = world.caller(chosen.submitter if world.random.random() < 0.8 else ROOT)
    cancelling = world.parts.intake.cancelling
    wanted = Selection(refs=(str(chosen.workload_id),))
    world.asked.add(int(chosen.workload_id))
    cancelling.cancel(who, cancelling.selected(who, wanted))
    world.cancelled.add(int(chosen.workload_id))


def hold_or_release(world: World) -> None:
    """A user, or the admin, holds a workload; one that is held is released."""
    live = world.live()
    if not live:
        return
    endless = [one for one in live if '"Always"' in one.spec_json]
    some = endless if endless and world.random.random() < 0.5 else live
    chosen = world.random.choice(some)
    who = world.caller(chosen.submitter if world.random.random() < 0.8 else ROOT)
    holds = world.parts.intake.holds
    if chosen.start_hold is None:
        holds.hold(who.user, chosen, "thinks it over")
    else:
        holds.release(who.user, chosen, of_all=who.is_admin)


def job_ends(world: World) -> None:
    """A job ends by itself; often somebody hears of it at once."""
    running = world.running()
    if not running:
        return
    draw = world.random
    node, name = draw.choice(running)
    labels = node.containers[name].facts.labels
    oom = draw.random() < 0.1
    code = 137 if oom else draw.choice((0, 0, 0, 0, 0, 1, 3, 137, 143))
    world.end_job(node, name, code, oom=oom)
    if draw.random() < 0.6:
        for keeper in world.keepers():
            if keeper.driver is node:
                keeper.saw_end(labels)


def turn(world: World) -> None:
    """The cycle's beat."""
    if world.is_in_turn:
        # One thread has the cycle.
        return
    world.is_in_turn = True
    try:
        world.daemon.turn()
    finally:
        world.is_in_turn = False


def look(world: World) -> None:
    """A keeper looks at its node."""
    keeper = world.random.choice(world.keepers())
    if keeper.node in world.looking:
        # Each node is looked at by one thread.
        return
    world.looking.add(keeper.node)
    try:
        keeper.look()
    finally:
        world.looking.discard(keeper.node)


def work(world: World) -> None:
    """One of the duties that wait is done; which, the seed says."""
    waiting = [k for k in world.keepers() if k.work.waiting]
    if not waiting:
        return
    keeper = world.random.choice(waiting)
    index = world.random.randrange(len(keeper.work.waiting))
    keeper.work.waiting.pop(index)()


def time_passes(world: World) -> None:
    """From an instant to a minute."""
    world.clock.advance(world.random.choice((0.1, 1, 1, 5, 5, 15, 60)))


def hours_pass(world: World) -> None:
    """Nothing happens for long but what the daemon does by itself."""
    for _ in range(8):
        world.clock.advance(600)
        for keeper in world.keepers():
            keeper.look()
        turn(world)


def call_fails(world: World) -> None:
    """One of the next calls to a node fails, before or after its effect."""
    draw = world.random
    node = draw.choice(list(world.nodes.values()))
    kinds: tuple[Callable[[str], DorabatchError], ...] = (
        NodeUnreachable,
        NodeUnreachable,
        NodeError,
        StartFailed,
    )
    error = draw.choice(kinds)(f"node {node.name}: as the seed wants it")
    node.fail_call(draw.randint(1, 8), error, after=draw.random() < 0.5)


def node_vanishes(world: World) -> None:
    """Nobody can reach a node; what runs there runs on."""
    world.random.choice(list(world.nodes.values())).cut()


def node_is_lost(world: World) -> None:
    """An admin declares a node lost; its power is off, or only its link."""
    node = world.random.choice(list(world.nodes.values()))
    node.cut()
    _keeper_of(world, node).look()
    for one in world.books.board.on_node(node.name):
        attempt = (int(one.workload_id), one.replica, one.attempt)
        world.lost.setdefault(attempt, set()).add("silent")
    if world.random.random() < 0.5:
        world.lose(node, {1, 3, *CODES_OF_A_STOP}, "reboot")
        node.reboot()
    lost = world.parts.intake.lost_nodes
    lost.declare(world.caller(ROOT), node.name)
    if world.random.random() < 0.5:
        node.mend()


def node_returns(world: World) -> None:
    """All nodes can be reached again."""
    for node in world.nodes.values():
        node.mend()


def node_reboots(world: World) -> None:
    """A node starts anew: nothing runs there any more, and its link is lost."""
    node = world.random.choice(list(world.nodes.values()))
    world.lose(node, {1, 3, *CODES_OF_A_STOP}, "reboot")
    for causes in world.lost.values():
        # What somebody took is not there to tell who ended it first.
        if "taken" in causes:
            causes.add("reboot")
    node.reboot()
    _keeper_of(world, node).link_lost()


def dockerd_restarts(world: World) -> None:
    """An orderly restart of dockerd: what runs is told to stop, and obeys."""
    draw = world.random
    node = draw.choice(list(world.nodes.values()))
    running = [one for there, one in world.running() if there is node]
    for name in running:
        if draw.random() < 0.2:
            world.exits[attempt_of(node, name)] = 0
            node.obey_well(name)
    world.lose(node, CODES_OF_A_STOP, "docker")
    node.stop_docker()
    try:
        for name in running:
            if draw.random() < 0.6:
                _keeper_of(world, node).saw_end(node.containers[name].facts.labels)
        # It answers for a while yet, and somebody may look meanwhile.
        if draw.random() < 0.5:
            _keeper_of(world, node).look()
        for _ in range(draw.randrange(4)):
            work(world)
    finally:
        # What was started on the way down is ended by the next one.
        world.lose(node, CODES_OF_A_STOP, "docker")
        node.start_docker()
        _keeper_of(world, node).link_lost()


def dockerd_restarts_at_once(world: World) -> None:
    """The same, while nobody looks."""
    node = world.random.choice(list(world.nodes.values()))
    world.lose(node, CODES_OF_A_STOP, "docker")
    node.stop_docker()
    node.start_docker()
    _keeper_of(world, node).link_lost()


def container_taken(world: World) -> None:
    """Somebody removes a container behind the daemon's back."""
    node = world.random.choice(list(world.nodes.values()))
    if node.ours():
        name = world.random.choice(sorted(node.ours()))
        causes = world.lost.setdefault(attempt_of(node, name), set())
        causes.add("taken")
        if node.containers[name].facts.has_ended:
            # Nothing tells any more whether that was before a reboot.
            causes.add("reboot")
        node.containers.pop(name)


def cordon(world: World) -> None:
    """A node takes nothing new, or is in use again."""
    draw = world.random
    world.parts.intake.nodes.change(
        world.caller(ROOT),
        draw.choice(sorted(world.nodes)),
        scheduling_disabled=draw.random() < 0.4,
    )


def doom(world: World) -> None:
    """The daemon will be killed at one of the next writes or steps."""
    world.doom(world.random.randint(1, 12))


def restart(world: World) -> None:
    """The daemon is killed while it does nothing."""
    world.kill()


FAULTS: tuple[tuple[Deed, int], ...] = (
    (faults.disk_fills, 1),
    (faults.database_locked, 1),
    (faults.disk_heals, 4),
    (faults.removals_slow, 1),
    (faults.removals_done, 2),
    (faults.old_news, 3),
    (faults.old_daemon_wakes, 1),
)
DEEDS: tuple[tuple[Deed, int], ...] = (
    *FAULTS,
    (submit, 12),
    (apply, 4),
    (cancel_one, 4),
    (hold_or_release, 3),
    (job_ends, 14),
    (turn, 16),
    (look, 18),
    (work, 34),
    (time_passes, 10),
    (hours_pass, 2),
    (call_fails, 4),
    (node_vanishes, 1),
    (node_is_lost, 2),
    (node_returns, 3),
    (node_reboots, 1),
    (dockerd_restarts, 2),
    (container_taken, 1),
    (cordon, 2),
    (doom, 2),
    (restart, 1),
)
BUSY: tuple[tuple[Deed, int], ...] = (
    *FAULTS,
    (submit, 30),
    (apply, 2),
    (cancel_one, 2),
    (job_ends, 4),
    (turn, 24),
    (look, 20),
    (work, 40),
    (time_passes, 16),
    (call_fails, 3),
    (node_is_lost, 1),
    (node_returns, 3),
    (node_reboots, 1),
    (dockerd_restarts, 2),
    (container_taken, 1),
    (cordon, 1),
    (doom, 3),
    (restart, 1),
)
"""More is wanted than there is room for."""
MEANWHILE: tuple[Deed, ...] = (
    cancel_one,
    hold_or_release,
    job_ends,
    job_ends,
    submit,
    apply,
    node_vanishes,
    node_is_lost,
    dockerd_restarts_at_once,
    time_passes,
    faults.disk_fills,
    faults.disk_heals,
    faults.old_news,
    turn,
    look,
    work,
    work,
)
"""What others may do between two steps of one duty."""


def interfere(world: World) -> None:
    """Somebody does something at this very moment."""
    deed = world.random.choice(MEANWHILE)
    world.trail.append(f"  meanwhile {deed.__name__}")
    _do(world, deed)


def step(world: World, usual: tuple[tuple[Deed, int], ...] = DEEDS) -> None:
    """One deed, as the seed wants it."""
    deeds, weights = zip(*usual, strict=True)
    deed = world.random.choices(deeds, weights)[0]
    world.trail.append(deed.__name__)
    world.trouble.begin_step()
    world.attempt(lambda: _do(world, deed))


def _keeper_of(world: World, node: Machine) -> SteppedKeeper:
    return next(keeper for keeper in world.keepers() if keeper.driver is node)


def _do(world: World, deed: Deed) -> None:
    try:
        deed(world)
    except InvariantError:
        raise
    except DorabatchError as refusal:
        world.trail.append(f"  refused: {refusal.message}")
    except SQLAlchemyError as error:
        # A thread outlives it, a user asks again.
        if not world.trouble.excuses(error):
            raise
        world.trail.append(f"  the database refuses: {error}")
