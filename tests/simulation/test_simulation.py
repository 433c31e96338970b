"""Whatever happens, and whenever the daemon dies, the laws hold after every step.

`--seed=N` repeats one life of each scenario; without it, the same seeds are lived each
time. `python -m tests.simulation` lives as many as one likes.
"""

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from sqlalchemy import select, text

from dorabatch.queue.tables import EVENTS
from tests.simulation.deeds import BUSY, step
from tests.simulation.life import LANE, SCENARIOS, live
from tests.simulation.world import PRICES, World

SEEDS = 16
STEPS = 250

pytestmark = pytest.mark.simulation


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each seed."""
    if "seed" in metafunc.fixturenames:
        wanted = metafunc.config.getoption("--seed")
        metafunc.parametrize("seed", range(SEEDS) if wanted is None else [wanted])


@pytest.mark.mission("M32")
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_laws_hold_after_every_step(scenario: str, seed: int) -> None:
    with TemporaryDirectory(dir=in_memory()) as folder:
        life = live(scenario, seed, STEPS, Path(folder))
    assert not life.broken, life.tale()


def test_what_waits_for_others_meets_each_fate() -> None:
    fates: set[tuple[str, bool]] = set()
    seed = 0
    while not {("holds", True), ("never", False)} <= fates and seed < SEEDS:
        with TemporaryDirectory(dir=in_memory()) as folder:
            fates |= live("dependent", seed, STEPS, Path(folder)).fates
        seed += 1
    assert {("holds", True), ("never", False)} <= fates


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
def test_a_broken_record_is_found(planted: str, word: str, tmp_path: Path) -> None:
    world = World(1, tmp_path)
    while not world.running():
        step(world)
    world.trouble.heal()
    assert world.broken() == []
    with world.effects.engine.begin() as connection:
        connection.execute(text(planted))
    assert any(word in sentence for sentence in world.broken()), world.broken()
    world.close()


@pytest.mark.parametrize("scenario", ["usual", "limited"])
def test_a_seed_gives_the_same_bytes_in_another_process(scenario: str) -> None:
    told = [
        subprocess.run(
            [
                *(sys.executable, "-m", "tests.simulation", "--scenario", scenario),
                *("--seeds", "7", "--processes", "1", "--trail"),
            ],
            env={**os.environ, "PYTHONHASHSEED": number},
            capture_output=True,
            check=True,
        ).stdout
        for number in ("1", "2")
    ]
    assert told[0] == told[1]
    assert told[0].count(b"\n") > STEPS


def in_memory() -> str | None:
    """Where no power cut is played, nothing need reach a disk."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None
