"""The house rules hold over all of dorabatch/, save for a list that only shrinks."""

import subprocess
from pathlib import Path

import pytest

from tests import tidy
from tests.ratchet import Allowed, judge

ROOT = Path(__file__).resolve().parent.parent

# (rule, path, subject) -> size today (0 where the rule has no size).
# An entry that is no longer needed, or larger than needed, fails the test below:
# the list may shrink and never grow.
ALLOWED: Allowed = {
    # The place that reads the clock for everybody, and a script that runs alone on a
    # node, where none of our modules is.
    ("wall-clock", "dorabatch/clock.py", "wall_time"): 0,
    ("wall-clock", "dorabatch/node/probe_script.py", "machine_document"): 0,
    # Clean up, then raise the same again.
    ("broad-except", "dorabatch/node/docker_link.py", "DockerSession.open_stream"): 0,
    ("broad-except", "dorabatch/node/docker_streams.py", "write_tail"): 0,
    # What each thread outlives, and the thread that hands errors to callers.
    ("broad-except", "dorabatch/daemon/state/threads.py", "outlived"): 0,
    ("broad-except", "dorabatch/db.py", "Writer._write"): 0,
    ("broad-except", "dorabatch/db.py", "_attempt"): 0,
    ("broad-except", "dorabatch/db.py", "_alone"): 0,
    # A gate's bug keeps its rows waiting, and neither the others' nor the cycle.
    ("broad-except", "dorabatch/daemon/cycle/gates/chain.py", "GateChain.asking"): 0,
    # References that are put together once, and a batch's running books.
    ("loose-dataclass", "dorabatch/fairshare/money/book.py", "Book"): 0,
    # A migration lists its tables; it is written once and never changed.
    (
        "long-function",
        "dorabatch/daemon/migrations/versions/0001_first_tables.py",
        "upgrade",
    ): 122,
}


@pytest.fixture(scope="module")
def sources() -> list[tidy.Source]:
    """Every module of the package."""
    return tidy.read_sources(ROOT, "dorabatch")


@pytest.mark.parametrize("rule", tidy.CHECKS)
def test_rule_holds(rule: str, sources: list[tidy.Source]) -> None:
    found = [seen for source in sources for seen in tidy.CHECKS[rule](source)]
    allowed = {key: size for key, size in ALLOWED.items() if key[0] == rule}
    complaints = judge(found, allowed)
    assert not complaints, "\n".join(complaints)


def test_every_exception_names_a_rule() -> None:
    assert {key[0] for key in ALLOWED} <= set(tidy.CHECKS)


def test_no_file_names_the_machine_it_was_written_on() -> None:
    found = [
        violation
        for path in _text_files()
        for violation in tidy.machine_path_lines(str(path), _text(path))
        if path.name != "test_tidy_checks.py"
    ]
    assert not found, "\n".join(map(str, found))


def _text_files() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode != 0:
        return [file for file in ROOT.glob("*") if file.is_file()]
    return [ROOT / name for name in listed.stdout.splitlines()]


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (UnicodeDecodeError, FileNotFoundError, IsADirectoryError):
        return ""
