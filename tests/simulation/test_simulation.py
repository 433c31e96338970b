"""Whatever happens, and whenever the daemon dies, the laws hold after every step.

`--seed=N` repeats one run; without it, the same seeds are run each time.
"""

import logging
from pathlib import Path

import pytest
from sqlalchemy import text

from tests.simulation.deeds import interfere, step
from tests.simulation.world import World

SEEDS = 12
STEPS = 250

pytestmark = pytest.mark.simulation


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each seed."""
    if "seed" in metafunc.fixturenames:
        wanted = metafunc.config.getoption("--seed")
        metafunc.parametrize("seed", range(SEEDS) if wanted is None else [wanted])


def test_laws_hold_after_every_step(
    seed: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR, "dorabatch")
    world = World(seed, tmp_path)
    world.interfere = lambda: interfere(world)
    world.is_quiet = False
    try:
        for number in range(STEPS):
            step(world)
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
    ],
)
def test_a_planted_fault_is_found(planted: str, word: str, tmp_path: Path) -> None:
    world = World(1, tmp_path)
    world.is_quiet = True
    while not world.running():
        step(world)
    assert world.broken() == []
    with world.services.engine.begin() as connection:
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
