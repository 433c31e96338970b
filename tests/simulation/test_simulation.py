"""Whatever happens, and whenever the daemon dies, the laws hold after every step.

`--seed=N` repeats one run; without it, the same seeds are run each time.
"""

import logging
from pathlib import Path

import pytest
from sqlalchemy import select, text

from dorabatch.daemon.state.site_policy import Edit
from dorabatch.fairshare.turn.account_tree import Account
from dorabatch.queue.tables import EVENTS
from tests.simulation.deeds import BUSY, DEEDS, Deed, interfere, step
from tests.simulation.world import PRICES, World

SEEDS = 12
STEPS = 250
LANE = {"lane": {"fraction": 0.2, "trial": "20s", "stops_max": 2}}
"""Two of ten GPUs are for trials."""
LIMITS = {
    "limits": {"gpus_per_user": 3, "running_per_user": 4, "gpus": {"lab": 5, "uni": 4}}
}
"""Of ten GPUs; both users are below the lab, and that below the uni."""

pytestmark = pytest.mark.simulation


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each seed."""
    if "seed" in metafunc.fixturenames:
        wanted = metafunc.config.getoption("--seed")
        metafunc.parametrize("seed", range(SEEDS) if wanted is None else [wanted])


@pytest.mark.mission("M32")
def test_laws_hold_after_every_step(
    seed: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _live(World(seed, tmp_path), DEEDS, seed, caplog)


def test_laws_hold_where_much_is_tried(
    seed: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _live(World(seed, tmp_path, LANE, credits=PRICES), BUSY, seed, caplog)


def test_laws_hold_where_use_is_limited(
    seed: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    world = World(seed, tmp_path, LANE | LIMITS, credits=PRICES)
    policy, edit = world.books.policy, Edit(actor="root", now=world.clock.now)
    for row in (
        Account(name="uni"),
        Account(name="lab", parent="uni"),
        *(Account(name=u.user, parent="lab", is_user=True) for u in world.users()),
    ):
        policy.add(world.effects.writer, edit, row, [])
    _live(world, BUSY, seed, caplog)


def test_every_fate_of_a_trial_is_met(tmp_path: Path) -> None:
    fates = "on trial for", "has its turn", "ran longer"
    missing, seed = set(fates), 0
    while missing and seed < SEEDS:
        (folder := tmp_path / str(seed)).mkdir()
        world = World(seed, folder, LANE, credits=PRICES)
        for _ in range(STEPS):
            step(world, BUSY)
        with world.effects.engine.connect() as connection:
            texts = list(connection.execute(select(EVENTS.c.text)).scalars())
        missing -= {fate for fate in fates if any(fate in text for text in texts)}
        world.close()
        seed += 1
    assert not missing


def _live(
    world: World,
    deeds: tuple[tuple[Deed, int], ...],
    seed: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.ERROR, "dorabatch")
    world.interfere = lambda: interfere(world)
    world.is_quiet = False
    try:
        for number in range(STEPS):
            step(world, deeds)
            _demand(world, seed, number, world.broken(), caplog)
        world.drain()
        _demand(world, seed, STEPS, world.broken_at_end(), caplog)
    except AssertionError:
        raise
    except BaseException as error:
        raise AssertionError(
            _tale(world, seed, len(world.trail), [repr(error)])
        ) from error
    finally:
        world.close()


def _demand(
    world: World,
    seed: int,
    number: int,
    broken: list[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    logged = [
        f"logged: {record.getMessage()} {record.exc_text or record.exc_info}"
        for record in caplog.records
    ]
    if broken or logged:
        raise AssertionError(_tale(world, seed, number, [*broken, *logged]))


def _tale(world: World, seed: int, number: int, broken: list[str]) -> str:
    last = "\n  ".join(world.trail[-25:])
    laws = "\n  ".join(broken)
    return (
        f"after step {number} of --seed={seed}:\n  {laws}\nwhat happened last:\n"
        f"  {last}\nrepeat it: pytest -m simulation tests/simulation --seed={seed}"
    )


@pytest.mark.parametrize(
    ("planted", "word"),
    [
        ("UPDATE containers SET hold = NULL WHERE state = 'running'", "holds None"),
        ("UPDATE containers SET state = 'finished' WHERE state = 'running'", "holds"),
        ("UPDATE containers SET attempt = attempt + 1", "holds nothing"),
        ("UPDATE containers SET reason = 'x' WHERE state = 'running'", "in memory"),
        ("UPDATE containers SET trial_seconds = 9, state = 'queued'", "on trial"),
    ],
)
def test_a_planted_fault_is_found(planted: str, word: str, tmp_path: Path) -> None:
    world = World(1, tmp_path)
    world.is_quiet = True
    while not world.running():
        step(world)
    assert world.broken() == []
    with world.effects.engine.begin() as connection:
        connection.execute(text(planted))
    assert any(word in sentence for sentence in world.broken()), world.broken()
    world.close()


def test_a_seed_repeats_itself(tmp_path: Path) -> None:
    trails = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        world = World(7, tmp_path / name)
        world.interfere = lambda world=world: interfere(world)
        world.is_quiet = False
        for _ in range(120):
            step(world)
        trails.append((world.trail, world.kills, world.attempts()))
        world.close()
    assert trails[0] == trails[1]
