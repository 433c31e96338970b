"""Every planted bug still fits the code, and a few are found; all: `-m tests.planted`.

`--seed=N` chooses other ones.
"""

from random import Random

import pytest

from tests.planted.bugs import BUGS
from tests.planted.planting import ROOT, Bug, find

SAMPLE = 3
LEAST = 25


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_each_replacement_matches_once_and_compiles(bug: Bug) -> None:
    text = (ROOT / bug.file).read_text()
    planted = bug.planted(text)
    assert planted != text
    compile(planted, bug.file, "exec")


def test_the_bugs_are_many_and_each_has_its_name() -> None:
    assert len({bug.name for bug in BUGS}) == len(BUGS) >= LEAST


def test_a_replacement_that_no_longer_fits_is_told() -> None:
    bug = Bug(name="old", file="a.py", old="x = 1\n", new="x = 2\n")
    with pytest.raises(ValueError, match=r"'old': a\.py has what is to be replaced 2"):
        bug.planted("x = 1\nx = 1\n")


@pytest.mark.simulation
@pytest.mark.timeout(900)
def test_a_sample_of_the_bugs_is_found(pytestconfig: pytest.Config) -> None:
    seed = pytestconfig.getoption("--seed") or 0
    missed = [
        bug.name for bug in Random(seed).sample(BUGS, SAMPLE) if not find(bug).found_by
    ]
    assert not missed, f"not found: {missed}"
