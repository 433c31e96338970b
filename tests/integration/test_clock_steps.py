"""The machine's clock is stepped under a real daemon: limits go by what has passed."""

import json
import os
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from tests.integration.dorad_process import Site

pytestmark = pytest.mark.integration


@pytest.fixture
def wall(site: Site) -> Iterator[Path]:
    """A file that steps the daemon's wall clock."""
    file, program = site.daemon.folder / "steps", site.daemon.program
    step(file, 0)
    site.daemon.stop()
    site.daemon.program = (
        *(sys.executable, "-m", "tests.stepped_dorad"),
        *(site.daemon.config, file),
    )
    site.restart(PYTHONPATH=os.getcwd())
    yield file
    site.daemon.stop()
    site.daemon.program = program
    site.restart()


def step(file: Path, seconds: int) -> None:
    """The wall clock is so many seconds ahead now."""
    new = file.with_suffix(".new")
    new.write_text(f"{seconds}")
    os.replace(new, file)


def steps(site: Site) -> int:
    """How many the daemon has noticed."""
    found: int = json.loads(site.daemon.ask("dora", "status", "--json"))["clock_steps"]
    return found


def test_no_run_ends_early_or_before_its_start(site: Site, wall: Path) -> None:
    short = site.daemon.submit(
        *("-c", "1", "-t", "10m", "-i", "busybox", "--", "sleep", "600")
    )
    site.daemon.wait_for(short, state="running")
    for number, seconds in enumerate((3600, 3 * 3600, -7200), start=1):
        step(wall, seconds)
        site.wait_until(lambda n=number: steps(site) >= n, "the step to be noticed")
        # Limits are looked at once a second: a run that starts now outlives some looks.
        other = site.daemon.submit("-c", "1", "-i", "busybox", "--", "sleep", "2")
        site.wait_ended(other, "done")
        assert site.daemon.rows(short)[0]["state"] == "running"
    site.daemon.ask("dcancel", short)
    record = site.wait_ended(short, "cancelled")
    (run,) = record["attempts"]
    began, ended = (
        datetime.fromisoformat(run[key]) for key in ("started_at", "ended_at")
    )
    assert began <= ended
    assert 0 <= run["seconds"] < 600
    assert "clock-step" in site.daemon.log.read_text()
