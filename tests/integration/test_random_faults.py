"""Three rounds of random faults on a busy cluster; `python -m tests.faults` plays more.

Never says which faults are right: tests/faults judges every round.
"""

from random import Random

import pytest

from tests.faults.ground import made
from tests.faults.rounds import play
from tests.faults.table import FAULTS

# Longer than the rounds take, for a machine that is busy with other things.
pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]

SEED = 4
SHORT = ("dorad killed", "dockerd ended", "container removed")


def test_three_rounds_of_faults_do_no_harm() -> None:
    chance = Random(SEED)
    with made() as ground:
        verdicts = [
            play(ground, fault, fault.name.replace(" ", "-"), chance, (1, 2))
            for fault in FAULTS
            if fault.name in SHORT
        ]
    assert [verdict.fault for verdict in verdicts] == list(SHORT)
    assert all(verdict.jobs for verdict in verdicts)
    assert [one for verdict in verdicts for one in verdict.violations] == []
