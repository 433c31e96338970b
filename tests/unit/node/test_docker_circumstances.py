"""What the script's answer means, and that it runs in any shell."""

import subprocess
import time
from datetime import UTC, datetime, timedelta

import pytest

from dorabatch.errors import NodeError
from dorabatch.node.docker_circumstances import SCRIPT, parse_circumstances

ANSWER = """boot_id=b
dockerd=5000
dockerd=7000
first=100
ticks=100
uptime=1000.50
now=1700000000.500000000
"""
NOW = datetime.fromtimestamp(1700000000.5, tz=UTC)


def test_ages_are_counted_back_from_the_nodes_clock() -> None:
    found = parse_circumstances(ANSWER, was_signalled=True, keeps_containers=True)
    assert (found.boot_id, found.now) == ("b", NOW)
    assert found.booted_at == NOW - timedelta(seconds=999.5)
    # A dockerd inside of a container began later than that of the node.
    assert found.docker_began_at == NOW - timedelta(seconds=950.5)
    assert found.was_signalled and found.keeps_containers


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("dockerd=5000\ndockerd=7000\n", ""),
        ("=5000\ndockerd=7000", "="),
        ("uptime=1000.50", "uptime="),
        ("ticks=100", "ticks=x"),
    ],
)
def test_a_hidden_process_has_no_beginning(old: str, new: str) -> None:
    text = ANSWER.replace(old, new)
    found = parse_circumstances(text, was_signalled=False, keeps_containers=False)
    assert found.docker_began_at is None


def test_a_clock_without_parts_of_seconds_will_do() -> None:
    text = ANSWER.replace("1700000000.500000000", "1700000000.%N")
    found = parse_circumstances(text, was_signalled=False, keeps_containers=False)
    assert found.now == NOW - timedelta(seconds=0.5)


@pytest.mark.parametrize("text", ["", "boot_id=b\n", "now=5\n"])
def test_an_answer_that_tells_nothing(text: str) -> None:
    with pytest.raises(NodeError, match="no boot or no clock"):
        parse_circumstances(text, was_signalled=False, keeps_containers=False)


def test_the_script_runs_here() -> None:
    before = time.time()
    done = subprocess.run(
        ["sh", "-s"], input=SCRIPT, capture_output=True, text=True, check=True
    )
    found = parse_circumstances(
        done.stdout, was_signalled=False, keeps_containers=False
    )
    assert found.booted_at is not None and found.booted_at < found.now
    assert abs(found.now.timestamp() - before) < 10
